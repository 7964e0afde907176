//! The texts of refusals, for users. Each names the obstacle and the remedy, and says that nothing was changed.

use lockstep_proto::bridge::{Refusal, RefusalCode};
use lockstep_proto::{NodeId, ProjectKey, ProjectPhase, ProjectState, RefName, TxnId, limits};

use super::work::Proposal;
use crate::seams::git::GitError;
use crate::seams::refdb::{CommitRequest, RefItem};

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

/// The refusal of a name that lies above a live ref.
pub(super) fn above(name: &RefName, live: &RefName) -> Refusal {
    name_conflict(name, &format!("is a folder of other names ({live})"))
}

/// The refusal of a name that was a folder, and that some nodes may still take for one.
pub(super) fn waits_for(name: &RefName, why: &dyn std::fmt::Display) -> Refusal {
    let message = format!(
        "{name} was a folder of names, and not every server knows yet that nothing is below it ({why}): nothing was \
         changed; try again in a moment. A server waits for pushes to this project that are in progress. If a server \
         is down for long, the administrator can help, or choose another name"
    );
    Refusal::new(RefusalCode::NameConflict, true, message).with_next_step()
}

/// The refusal of a name that was a folder, while nodes run a release that cannot forget that.
pub(super) fn runs_earlier_release(name: &RefName, nodes: &[NodeId]) -> Refusal {
    let nodes: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
    let message = format!(
        "{name} was a folder of names, and stays one as long as a server runs an earlier release of Lockstep ({}): \
         nothing was changed; choose another name, or ask the administrator to upgrade",
        nodes.join(", ")
    );
    Refusal::new(RefusalCode::NameConflict, false, message)
}

/// The refusal of a transaction that no reader would take: its objects build on very many commits.
pub(super) fn too_long(request: &CommitRequest) -> Option<Refusal> {
    let (refs, bases, bytes) =
        (request.transaction.commands.len(), request.transaction.bases.len(), request.encoded.len());
    let message = format!(
        "these {refs} refs make a transaction of {bytes} bytes with {bases} base commits; at most {} bytes with {} \
         base commits fit; nothing was changed, push in smaller parts",
        limits::LONG_FORM_BYTES,
        limits::BASES
    );
    let fits = bytes <= limits::LONG_FORM_BYTES && bases <= limits::BASES;
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

/// The refusal of an update whose answer was lost, and that was then made impossible.
pub(super) fn withdrawn() -> Refusal {
    let message = "the global ref database did not answer in time, so this update was withdrawn: nothing was changed, \
                   and your work is still where you pushed it from; try again, or tell the administrator";
    Refusal::new(RefusalCode::Unavailable, true, message).with_next_step()
}

/// The refusal of an update on whose way the site was fenced. Its slot can hold no transaction any more.
pub(super) fn fenced() -> Refusal {
    let message = "this site was fenced while the update was on its way, so it was not committed: nothing was changed, \
                   and your work is still where you pushed it from; push again to the site that is active";
    Refusal::new(RefusalCode::Unavailable, true, message).with_next_step()
}

/// The refusal of an update that the refdb did not take, although it may have been asked several times.
pub(super) fn not_taken(retry: bool) -> Refusal {
    let next = if retry { "try again in a moment" } else { "tell the administrator: a retry does not help" };
    let message = format!(
        "the global ref database does not take updates from this server now: nothing was changed, and your work is \
         still where you pushed it from; {next}"
    );
    Refusal::new(RefusalCode::Unavailable, retry, message).with_next_step()
}

/// The verdict on an update whose outcome is not known.
pub(super) fn in_doubt(txn: &TxnId) -> Refusal {
    let message = format!(
        "it is not known yet whether this was committed: the global ref database did not answer. Nothing is lost, and \
         this server is finding out: fetch in a moment and look before you push again (transaction {txn})"
    );
    Refusal::new(RefusalCode::Unavailable, true, message).with_next_step()
}

/// The text for the user of a committed update that this server cannot show yet.
pub(super) fn not_shown_here(why: &str) -> Refusal {
    let message = format!(
        "this is committed at every site, and this server cannot show it yet ({why}). Nothing is lost, and it is tried \
         again until it works: do not repeat the update"
    );
    Refusal::new(RefusalCode::Unavailable, false, message)
}

/// The refusal of a ref that another transaction has locked.
pub(super) fn busy(item: &RefItem) -> Refusal {
    let owner = item.lock.as_ref().map_or_else(|| "(id unknown)".to_owned(), TxnId::to_string);
    let message = format!(
        "{} is part of another push that has not ended yet (transaction {owner}); nothing was changed, try again in a \
         moment",
        item.key
    );
    Refusal::new(RefusalCode::Locked, true, message).with_next_step()
}

/// The refusal of an update whose time was over before it was committed.
pub(super) fn too_late() -> Refusal {
    let message = "this took too long, and was given up before the commit; nothing was changed, try again";
    Refusal::new(RefusalCode::Unavailable, true, message).with_next_step()
}

/// The refusal by a node that cannot take the latest committed values of the refs.
pub(super) fn is_behind(why: &dyn std::fmt::Display) -> Refusal {
    let message = format!(
        "this server is behind and cannot catch up now ({why}); nothing was changed, try again in a moment, or tell \
         the administrator"
    );
    Refusal::new(RefusalCode::Unavailable, true, message).with_next_step()
}

/// The verdict on a repeated update when nothing proves whether an earlier try was committed.
pub(super) fn earlier_try(why: &dyn std::fmt::Display) -> Refusal {
    let message = format!(
        "it is not known yet whether an earlier try committed this ({why}). Nothing is lost: fetch and look before you \
         push again"
    );
    Refusal::new(RefusalCode::Unavailable, true, message).with_next_step()
}

/// The text for users while the refdb is older than this node. The log and the status name the evidence.
pub fn went_back_text() -> String {
    "this server takes no updates: the global ref database went back in time, to an older backup: nothing was changed, \
     and your work is still where you pushed it from; a retry does not help before an administrator has restored a \
     newer backup"
        .to_owned()
}

/// The text for users while this node must not use the refdb of its configuration.
pub fn other_refdb_text() -> String {
    "this server takes no updates: its global ref database was replaced, or is being rebuilt: nothing was changed, and \
     your work is still where you pushed it from; a retry does not help before an administrator has ended that"
        .to_owned()
}

/// The refusal while the refdb is older than this node.
pub(super) fn older_refdb() -> Refusal {
    Refusal::new(RefusalCode::NotServing, false, went_back_text())
}

/// The refusal of a batch whose objects cannot be packed, or must not be committed. A flaw of an object is permanent.
pub(super) fn not_packed(error: &GitError) -> Refusal {
    match error {
        GitError::Missing { oids, .. } => {
            let message = format!("objects are missing from the repository: {oids:?}; push them first");
            Refusal::new(RefusalCode::MissingObject, false, message)
        }
        GitError::Flawed { flaw, .. } => {
            let message = format!(
                "{flaw}; nothing was changed, and a retry does not help: make the object anew (amend or rebase the \
                 commit that has it) and push again"
            );
            Refusal::new(RefusalCode::Invalid, false, message)
        }
        GitError::Bad { why, .. } => {
            let message = format!(
                "no site would take these objects ({why}); nothing was changed, and a retry does not help: push fewer \
                 or smaller objects at a time"
            );
            Refusal::new(RefusalCode::Invalid, false, message)
        }
        GitError::NoRepository(_) | GitError::RefMoved { .. } | GitError::Damaged { .. } | GitError::Failed { .. } => {
            unavailable(error)
        }
    }
}

pub(super) fn unavailable(why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, true, format!("this node cannot commit now ({why}); nothing was changed"))
}

/// The refusal of a batch whose token is that of no lock.
pub(super) fn not_held() -> Refusal {
    let message = "the lock under which this was sent is not held any more: it was released or broken, has expired, or \
                   is not one of this project; nothing was changed; look with `lockstep lock list`, and acquire the \
                   lock anew before you try again";
    Refusal::new(RefusalCode::Locked, false, message).with_next_step()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_read_what_happened_and_what_to_do_and_never_how_it_is_stored() {
        let txn: TxnId = "eu-aws-0.7.3.1234.00c0ffee00c0ffee".parse().unwrap();
        let (key, value) = ("refs/heads/a".parse().unwrap(), lockstep_proto::RefValue::Absent);
        let version = lockstep_proto::Version(1);
        let (directory, loosened, lock) = (false, None, Some(txn.clone()));
        let item = RefItem { key, version, value, txn: None, directory, loosened, lock };
        let (project, object) = ("p".parse().unwrap(), lockstep_proto::Oid::Sha1([7; 20]));
        let damaged = GitError::Damaged { project, object, why: "its file is cut off".into() };
        let refusals = [
            withdrawn(),
            not_taken(true),
            not_taken(false),
            in_doubt(&txn),
            busy(&item),
            too_late(),
            is_behind(&"x"),
            earlier_try(&"x"),
            waits_for(&"refs/heads/a".parse().unwrap(), &"x"),
            runs_earlier_release(&"refs/heads/a".parse().unwrap(), &["n".parse().unwrap()]),
            unavailable(&"x"),
            not_packed(&damaged),
            older_refdb(),
        ];
        for Refusal { message, next_step, retry, .. } in refusals {
            assert!(!retry || next_step == message.contains("again"), "{message}");
            assert!(["slot", "poison", "lane", "deadline"].iter().all(|word| !message.contains(word)), "{message}");
            assert!(message.contains("nothing was changed") || message.contains("Nothing is lost"), "{message}");
        }
    }

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
