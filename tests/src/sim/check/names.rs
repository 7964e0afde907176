//! Names that exclude each other (`refs/heads/a`, `refs/heads/a/b`) are never live together.

use lockstep_proto::ProjectKey;

use super::Verdict;
use crate::sim::facts::Facts;

/// Judges a project's live refs after a commit.
///
/// # Errors
/// One of two live names is a folder of the other.
pub fn exclude(facts: &Facts, project: &ProjectKey) -> Verdict {
    let live = facts.live(project);
    for name in live.keys() {
        let folder = format!("{name}/");
        if let Some(below) = live.keys().find(|other| other.as_str().starts_with(&folder)) {
            return Err(format!("{project}: {name} and {below} are both live"));
        }
    }
    Ok(())
}
