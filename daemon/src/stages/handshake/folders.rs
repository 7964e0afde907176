//! Compares the folders in which a Gerrit keeps its repositories with those of this sidecar. If they differed, each
//! would create repositories that the other never finds.

use lockstep_proto::gerrit::HandshakeRequest;

use crate::base::base_paths::{BasePaths, Disagreement};

/// Maximum number of disagreements that a reason names.
const NAMED: usize = 10;

/// The reason why this Gerrit's folders differ from the sidecar's; none when they agree. A bridge that does not report
/// its folders is accepted when the sidecar has a single folder. It is refused when the sidecar has further base paths,
/// because its Gerrit would not see the repositories below them.
pub(super) fn mismatch(gerrit: &HandshakeRequest, ours: &BasePaths) -> Option<String> {
    let Some(theirs) = BasePaths::told(gerrit.base_path.as_deref(), &gerrit.base_paths) else {
        if ours.all().len() > 1 {
            return Some(format!(
                "its bridge ({}) does not report where Gerrit keeps its repositories, and the sidecar keeps some below \
                 base paths ([git.base_paths]); install the bridge of the sidecar's release",
                gerrit.bridge_version
            ));
        }
        tracing::warn!(bridge = gerrit.bridge_version, "this bridge reports no folders; they are not compared");
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
        "it keeps repositories in other folders than the sidecar: {}. Set the same folders in gerrit.config and in \
         lockstep.toml: gerrit.basePath equals root, repository.<projects>.basePath equals an entry of \
         [git.base_paths], and a longer section repository.<projects> without a basePath equals an entry with root as \
         its folder. Then move the repositories into these folders, start the sidecar, and start Gerrit",
        lines.join("; ")
    ))
}

fn tell(one: &Disagreement) -> String {
    let (ours, theirs) = (one.ours.display(), one.theirs.display());
    match &one.projects {
        None => format!("gerrit.basePath is {theirs}, and the sidecar's root is {ours}"),
        Some(projects) => format!("{projects} is below {theirs} for Gerrit, and below {ours} for the sidecar"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_proto::gerrit::BasePath;

    use super::*;

    fn gerrit(base_path: Option<&str>, sections: &[(&str, Option<&str>)]) -> HandshakeRequest {
        let section = |(projects, path): &(&str, Option<&str>)| BasePath {
            projects: (*projects).to_owned(),
            path: path.map(str::to_owned),
        };
        HandshakeRequest {
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

    fn ours() -> BasePaths {
        BasePaths::new("/git".into(), BTreeMap::from([("big/*".to_owned(), "/big".into())]))
    }

    #[test]
    fn a_bridge_that_tells_nothing_is_believed_when_there_is_one_folder() {
        let why = mismatch(&gerrit(None, &[]), &ours()).unwrap();
        assert!(why.contains("does not report") && why.contains("[git.base_paths]"), "{why}");
        let one = BasePaths::at("/git".as_ref());
        assert_eq!(mismatch(&gerrit(None, &[]), &one), None);
        let told = r#"{"session":"s","server_id":"x","instance_id":"a","gerrit_version":"3","bridge_version":"0",
                       "all_projects":"All-Projects","all_users":"All-Users"}"#;
        let older: HandshakeRequest = serde_json::from_str(told).unwrap();
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
            "gerrit.basePath is /other, and the sidecar's root is /git",
            "big/x is below /x for Gerrit, and below /big for the sidecar",
            "big/y is below /other for Gerrit, and below /big for the sidecar",
        ] {
            assert!(why.contains(part), "no {part:?} in {why}");
        }
        assert!(!why.contains("big/* is"), "{why}");
    }
}
