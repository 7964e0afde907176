//! The texts of refusals, for users. Each names the obstacle and the remedy, and says that nothing was changed.

use lockstep_proto::bridge::{Refusal, RefusalCode};
use lockstep_proto::{ProjectKey, ProjectPhase, ProjectState, RefName, limits};

use super::work::Proposal;
use crate::seams::refdb::CommitRequest;
use crate::state::went_back::Evidence;

/// The refusal when a project in this state takes no commits. Another incarnation of the name is another project, so
/// this project no longer exists.
pub(super) fn forbids(project: &ProjectKey, state: Option<ProjectState>, seeds: bool) -> Option<Refusal> {
    let name = &project.name;
    let phase = state.filter(|state| state.incarnation == project.incarnation).map(|state| state.phase);
    let message = match phase {
        Some(ProjectPhase::Active) => return None,
        Some(ProjectPhase::ReadOnly) if seeds => return None,
        Some(ProjectPhase::Closing) => format!("project {name} is being closed and takes no commits"),
        Some(ProjectPhase::ReadOnly) => format!(
            "project {name} is being seeded: it is read-only until `lockstep seed` has committed all of it and another \
             site holds it; nothing was changed"
        ),
        Some(ProjectPhase::Deleted) | None => {
            format!("there is no project {name}; create it with `lockstep project create {name}`")
        }
    };
    Some(Refusal::new(RefusalCode::Project, false, message))
}

pub(super) fn below(proposal: &Proposal, prefix: &RefName) -> Vec<RefName> {
    let names = proposal.commands.iter().filter_map(|command| command.key.as_ref_name());
    names.filter(|name| crate::base::ref_names::directories(name).contains(prefix)).cloned().collect()
}

pub(super) fn name_conflict(name: &RefName, why: &str) -> Refusal {
    let message = format!("{name} {why}: git cannot hold both; choose another name, or delete the other ref first");
    Refusal::new(RefusalCode::NameConflict, false, message)
}

/// The refusal of a name that has a directory mark. The mark stays when the refs below the name are gone, so the text
/// suggests another name and not a deletion.
pub(super) fn above_others(name: &RefName) -> Refusal {
    let message = format!(
        "{name} lies above other names ({name}/...) that are or were in use: such a name stays a folder; \
         choose another name"
    );
    Refusal::new(RefusalCode::NameConflict, false, message)
}

/// The refusal of a transaction that does not fit into its slot: it has many refs with long names, or its objects build
/// on very many commits.
pub(super) fn too_long(request: &CommitRequest) -> Option<Refusal> {
    let (refs, bases, bytes) =
        (request.transaction.commands.len(), request.transaction.bases.len(), request.encoded.len());
    let message = format!(
        "these {refs} refs make a transaction of {bytes} bytes with {bases} base commits; at most {} bytes with {} \
         base commits fit; nothing was changed, push in smaller parts",
        limits::TRANSACTION_BYTES,
        limits::BASES
    );
    let fits = bytes <= limits::TRANSACTION_BYTES && bases <= limits::BASES;
    (!fits).then(|| Refusal::new(RefusalCode::Invalid, false, message))
}

/// The refusal of a batch with too many refs and new folders. Each new folder of names is one more item of the write.
pub(super) fn too_many(proposal: &Proposal) -> Option<Refusal> {
    let (refs, folders) = (proposal.commands.len(), proposal.directories.len());
    let first = proposal.directories.first().filter(|_| refs + folders > limits::COMMANDS)?;
    let message = format!(
        "{refs} refs in {folders} new folder(s) of names ({first}/) are too many for one commit: refs and new folders \
         together may be at most {}; nothing was changed, push in smaller parts",
        limits::COMMANDS
    );
    Some(Refusal::new(RefusalCode::Invalid, false, message))
}

pub(super) fn too_late() -> Refusal {
    Refusal::new(
        RefusalCode::Unavailable,
        true,
        "the deadline passed before the commit; nothing was changed, try again",
    )
}

/// The text for users while the refdb is older than this node.
pub fn went_back_text(evidence: &Evidence) -> String {
    format!(
        "this sidecar takes no commits: the ref database went back in time, to an older backup ({evidence}); nothing \
         was changed, and a retry does not help before an administrator has restored a newer backup"
    )
}

/// The refusal while the refdb is older than this node.
pub(super) fn older_refdb(evidence: &Evidence) -> Refusal {
    Refusal::new(RefusalCode::NotServing, false, went_back_text(evidence))
}

pub(super) fn unavailable(why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, true, format!("this node cannot commit now ({why}); nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_active_project_of_the_same_incarnation_takes_commits() {
        let project: ProjectKey = "p#2".parse().unwrap();
        let forbids =
            |state: &str, seeds| forbids(&project, Some(state.parse().unwrap()), seeds).map(|refused| refused.code);
        assert_eq!(forbids("active#2", false), None);
        for state in ["active#1", "active#3", "closing#2", "read-only#2", "deleted#2"] {
            assert_eq!(forbids(state, false), Some(RefusalCode::Project), "{state}");
            let seeds = state == "read-only#2";
            assert_eq!(forbids(state, true).is_none(), seeds, "{state}");
        }
        assert!(super::forbids(&project, None, true).is_some());
    }
}
