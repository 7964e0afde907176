//! Where a Gerrit keeps its repositories, held against where this sidecar does: otherwise one would make what the other never
//! sees.

use lockstep_proto::gerrit::HelloRequest;

use crate::base::base_paths::{Disagreement, Roots};

/// Disagreements that a reason names at most.
const NAMED: usize = 10;

/// Why this Gerrit has its repositories elsewhere. A bridge that does not tell where is believed when there is one folder; with
/// base paths of the sidecar's alone it would not see the repositories below them.
pub(super) fn mismatch(gerrit: &HelloRequest, ours: &Roots) -> Option<String> {
    let Some(theirs) = Roots::told(gerrit.base_path.as_deref(), &gerrit.base_paths) else {
        if ours.all().len() > 1 {
            return Some(format!(
                "its bridge ({}) does not tell where it keeps its repositories, and its sidecar has some below base paths \
                 ([git.base_paths]): install the bridge of the sidecar's release",
                gerrit.bridge_version
            ));
        }
        tracing::warn!(bridge = gerrit.bridge_version, "this bridge does not tell where Gerrit keeps its repositories");
        return None;
    };
    let differ = ours.disagreements(&theirs);
    if differ.is_empty() {
        return None;
    }
    let mut lines: Vec<String> = differ.iter().take(NAMED).map(tell).collect();
    if differ.len() > NAMED {
        lines.push(format!("and {} more", differ.len() - NAMED));
    }
    Some(format!(
        "it keeps repositories in other folders than its sidecar: {}. Write the same into gerrit.config and lockstep.toml: \
         gerrit.basePath is root, repository.<projects>.basePath is an entry of [git.base_paths], and a longer section \
         repository.<projects> without a basePath is an entry with root as its folder; move the repositories to where they belong \
         then, and start the sidecar, then Gerrit",
        lines.join("; ")
    ))
}

fn tell(one: &Disagreement) -> String {
    let (ours, theirs) = (one.ours.display(), one.theirs.display());
    match &one.projects {
        None => format!("gerrit.basePath is {theirs}, the sidecar's root {ours}"),
        Some(projects) => format!("{projects} is below {theirs} for Gerrit, and below {ours} for the sidecar"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_proto::gerrit::BasePath;

    use super::*;

    fn gerrit(base_path: Option<&str>, sections: &[(&str, Option<&str>)]) -> HelloRequest {
        let section = |(projects, path): &(&str, Option<&str>)| BasePath {
            projects: (*projects).to_owned(),
            path: path.map(str::to_owned),
        };
        HelloRequest {
            session: "s".into(),
            server_id: "one".into(),
            instance_id: "a".into(),
            gerrit_version: "3.13.5".into(),
            bridge_version: "0.1.0".into(),
            all_projects: "All-Projects".parse().unwrap(),
            all_users: "All-Users".parse().unwrap(),
            base_path: base_path.map(str::to_owned),
            base_paths: sections.iter().map(section).collect(),
        }
    }

    fn ours() -> Roots {
        Roots::new("/git".into(), BTreeMap::from([("big/*".to_owned(), "/big".into())]))
    }

    #[test]
    fn a_bridge_that_tells_nothing_is_believed_when_there_is_one_folder() {
        let why = mismatch(&gerrit(None, &[]), &ours()).unwrap();
        assert!(why.contains("does not tell") && why.contains("[git.base_paths]"), "{why}");
        let one = Roots::at("/git".as_ref());
        assert_eq!(mismatch(&gerrit(None, &[]), &one), None);
        let told = r#"{"session":"s","server_id":"x","instance_id":"a","gerrit_version":"3","bridge_version":"0",
                       "all_projects":"All-Projects","all_users":"All-Users"}"#;
        let older: HelloRequest = serde_json::from_str(told).unwrap();
        assert_eq!(mismatch(&older, &one), None);
    }

    #[test]
    fn the_same_folders_are_let_in() {
        let sections = [("*", None), ("big/*", Some("/big")), ("app", None)];
        assert_eq!(mismatch(&gerrit(Some("/git"), &sections), &ours()), None);
    }

    #[test]
    fn the_reason_names_both_folders_and_the_way_out() {
        let why = mismatch(&gerrit(Some("/git"), &[]), &ours()).unwrap();
        assert!(why.contains("big/* is below /git for Gerrit, and below /big for the sidecar"), "{why}");
        assert!(why.contains("[git.base_paths]") && !why.contains("gerrit.basePath is /"), "{why}");
        let sections = [("big/*", Some("/big")), ("big/x", Some("/x")), ("big/y", None)];
        let why = mismatch(&gerrit(Some("/other"), &sections), &ours()).unwrap();
        for part in [
            "gerrit.basePath is /other, the sidecar's root /git",
            "big/x is below /x for Gerrit, and below /big for the sidecar",
            "big/y is below /other for Gerrit, and below /big for the sidecar",
        ] {
            assert!(why.contains(part), "no {part:?} in {why}");
        }
        assert!(!why.contains("big/* is"), "{why}");
    }
}
