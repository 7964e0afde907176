//! All sites have the refs of the refdb, and no other.

use std::collections::BTreeMap;

use super::{Evidence, FinalRef, Kind, Refs, Violation};

/// The differences between each site and the refdb.
pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for site in &evidence.sites {
        for (project, wanted) in &evidence.refdb {
            match site.refs.get(project) {
                Some(shown) => found.extend(differences(&site.name, project, wanted, shown)),
                None => {
                    found.push(Violation::new(Kind::SitesDiffer, format!("{} has no project {project}", site.name)))
                }
            }
        }
    }
    found
}

fn differences(site: &str, project: &str, wanted: &BTreeMap<String, FinalRef>, shown: &Refs) -> Vec<Violation> {
    let differs = |(name, wanted): (&String, &FinalRef)| {
        let (here, there) = (shown.get(name), wanted.value.as_ref());
        (here != there).then(|| {
            let word = |value: Option<&String>| value.map_or("absent", String::as_str).to_owned();
            let text = format!("{site}: {project} {name} is {}, in the refdb {}", word(here), word(there));
            Violation::new(Kind::SitesDiffer, text)
        })
    };
    let foreign = shown.keys().filter(|name| !wanted.contains_key(*name));
    let foreign = foreign.map(|name| {
        Violation::new(Kind::SitesDiffer, format!("{site}: {project} {name} exists, and the refdb has no such ref"))
    });
    wanted.iter().filter_map(differs).chain(foreign).collect()
}
