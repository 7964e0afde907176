//! Projects: their states are steps of one chain. Nothing is committed into a deleted project. A project becomes
//! `deleted` only when every node that can commit knows that it is closing. Nothing of a deleted project is in its
//! successor.

use futures::FutureExt;
use lockstep::seams::git::GitError;
use lockstep::seams::refdb::IncarnationRecord;
use lockstep::seams::volume::{Held, NodeStore};
use lockstep_proto::bridge::Outcome;
use lockstep_proto::{NodeId, ProjectKey, ProjectPhase, ProjectState, RefKey, RefValue, Seq, Transaction};

use super::{Verdict, answers};
use crate::sim::backend::Volume;
use crate::sim::facts::Facts;
use crate::sim::history::{History, Operation};

/// Judges a commit against its project's state, before the facts include it.
///
/// # Errors
/// A state does not follow the one before, a commit is made into a project that does not exist, or a deletion is made
/// that some node does not know of yet.
pub fn commit(facts: &Facts, history: &History, transaction: &Transaction) -> Verdict {
    let (id, project) = (&transaction.id, &transaction.project);
    if history.operation(&transaction.request_id).is_some_and(|one| one.outcome == Some(Outcome::Refused)) {
        return Err(format!("{id} does what {} was refused", transaction.request_id));
    }
    let before = facts.state(&project.name);
    let Some(command) = transaction.command(&RefKey::State) else {
        return match before {
            Some(state) if state.incarnation == project.incarnation && state.phase == ProjectPhase::ReadOnly => {
                seeder(transaction)
            }
            Some(state) if state.incarnation == project.incarnation && state.phase != ProjectPhase::Deleted => Ok(()),
            state => Err(format!("{id} is committed into {project}, which is {state:?}")),
        };
    };
    let RefValue::State(after) = command.new else { return Err(format!("{id} makes {project} {}", command.new)) };
    if after.incarnation != project.incarnation || !follows(before, after) {
        return Err(format!("{id} makes {project} {after}, but it was {before:?}"));
    }
    if after.phase == ProjectPhase::Deleted { barrier(facts, transaction) } else { Ok(()) }
}

fn follows(before: Option<ProjectState>, after: ProjectState) -> bool {
    use ProjectPhase as P;
    let last = before.map_or(0, |state| state.incarnation);
    match (before.map_or(P::Deleted, |state| state.phase), after.phase) {
        (P::Deleted, P::Active | P::ReadOnly) => after.incarnation == last + 1,
        (P::Active | P::ReadOnly, P::Closing) | (P::Closing, P::Deleted) | (P::ReadOnly, P::Active) => {
            after.incarnation == last
        }
        _ => false,
    }
}

/// Judges a commit into a project that is being seeded: only the seeder may make one.
fn seeder(transaction: &Transaction) -> Verdict {
    if transaction.request_id.starts_with("seed-") {
        return Ok(());
    }
    Err(format!(
        "{} of {} is committed into {}, which is being seeded",
        transaction.id, transaction.request_id, transaction.project
    ))
}

/// Judges a deletion: every incarnation that can still commit was opened after the project began to close, or its node
/// has acknowledged that.
fn barrier(facts: &Facts, deletion: &Transaction) -> Verdict {
    let Some(step) = facts.chain(&deletion.project, &RefKey::State).last() else { return Ok(()) };
    let closing = &step.txn.slot;
    let knows = |node: &NodeId| {
        let marks = facts.acknowledged.get(node);
        marks.and_then(|marks| marks.get(&closing.lane)).copied().unwrap_or(Seq(0)) > closing.seq
    };
    let is_older =
        |record: &&IncarnationRecord| facts.opened.get(&record.id).is_none_or(|opened| *opened <= step.order);
    let open = facts.incarnations.values().filter(|record| record.may_commit()).filter(is_older);
    match open.into_iter().find(|record| !knows(&record.id.node)) {
        Some(record) => Err(format!("{} deletes {}, but {} may not know it", deletion.id, deletion.project, record.id)),
        None => Ok(()),
    }
}

/// Judges the answer to an operation when the client receives it.
///
/// # Errors
/// The answer contradicts the chain.
pub fn verdict(facts: &Facts, operation: &Operation, id: &str) -> Verdict {
    let lives = facts.lives(&operation.project);
    let step = lives.iter().find_map(|key| answers::step_of(facts, key, &operation.key, id));
    match (operation.outcome.unwrap_or(Outcome::Unknown), step.map(|step| &step.txn)) {
        (Outcome::Refused, Some(txn)) => Err(format!("{id} was told that it is refused, but {txn} did it")),
        (Outcome::Committed | Outcome::CommittedNotYetVisible, None) if !was_so(facts, operation) => {
            Err(format!("{id} was told that it is committed, but no chain has such a step"))
        }
        _ => Ok(()),
    }
}

/// Whether there was nothing to do at some moment of the operation.
fn was_so(facts: &Facts, operation: &Operation) -> bool {
    let seen = answers::values_since(facts, &operation.project, &operation.key, operation.asked);
    operation.head.as_ref().is_some_and(|head| seen.contains(&RefValue::Symref(head.clone())))
}

/// The first difference between a project on a volume and the refdb, other than its refs. None if there is none.
#[must_use]
pub fn volume_differs(facts: &Facts, volume: &dyn Volume, project: &ProjectKey) -> Option<String> {
    let store = volume.store();
    let left = facts.lives(&project.name).into_iter().filter(|life| facts.is_past(life)).find_map(|life| {
        let first = store.references(&life, None, 1).unwrap_or_default().into_iter().next();
        first.map(|(key, _)| format!("{life} is deleted, but the version map has {key}"))
    });
    let head = match volume.repositories().head(&project.name).now_or_never()? {
        Ok(head) => head.map(RefValue::Symref),
        Err(GitError::NoRepository(_)) => None,
        Err(error) => return Some(error.to_string()),
    };
    let last = facts.chain(project, &RefKey::Head).last().map(|step| step.value.clone());
    let expected = last.filter(|_| !facts.is_past(project));
    left.or_else(|| (head != expected).then(|| format!("HEAD of {project} is {head:?}, the refdb has {expected:?}")))
}

/// Judges the transactions that a node parks: none may be of a project that the node knows to be deleted.
///
/// # Errors
/// There is one. Nothing that it waits for will ever arrive.
pub fn parked(store: &dyn NodeStore, parked: &[(String, Held)]) -> Verdict {
    let past = parked.iter().find(|(_, held)| {
        let project: Option<ProjectKey> = held.project.parse().ok();
        project.is_some_and(|project| super::checkpoints::is_past(store, &project))
    });
    match past {
        Some((id, held)) => Err(format!("{id} of the deleted {} is parked: {}", held.project, held.reason)),
        None => Ok(()),
    }
}
