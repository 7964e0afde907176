//! Invariants 1, 2 and 11: answers agree with the chain. A commit that was answered is in the chain, once, within the
//! time of its request. A refused one never is. An unknown one may be either. A stale refusal is true: at some moment
//! of the request, the ref was not what the request expected.
//!
//! A request that is repeated at a node that lost its volume can be committed twice, if a ref has come back to the
//! value that it expects. No node can know that. But none may say of it that it was stale, without proof.

use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefResult, RefusalCode};
use lockstep_proto::{ProjectKey, ProjectName, RefKey, RefValue, Transaction};

use super::Verdict;
use crate::sim::facts::{Facts, Step};
use crate::sim::history::{Entry, History};

/// Judges a commit against its request, before the facts include it.
///
/// # Errors
/// The request was refused before, is committed twice, differs from the commit, or is atomic and committed in part.
pub fn commit(facts: &Facts, history: &History, transaction: &Transaction) -> Verdict {
    let Some(entry) = history.get(&transaction.request_id) else { return Ok(()) };
    let id = &transaction.id;
    if let Some(missing) = entry.request.commands.iter().find(|asked| is_missing(facts, entry, transaction, asked)) {
        return Err(format!("{id} commits an atomic batch without {missing:?}"));
    }
    for command in &transaction.commands {
        let Some(name) = command.key.as_ref_name() else { continue };
        let Some(asked) = entry.request.commands.iter().find(|asked| asked.name == *name) else {
            return Err(format!("{id} moves {name}, which its request does not name"));
        };
        if !fits(asked, &command.old) || RefValue::from(asked.new) != command.new {
            return Err(format!("{id} moves {name} {}>{}, the request was {asked:?}", command.old, command.new));
        }
        if entry.verdicts.get(name) == Some(&Outcome::Refused) {
            return Err(format!("{id} commits {name} after its request was answered as refused"));
        }
        if let Some(step) = step_of(facts, &transaction.project, &command.key, &transaction.request_id)
            && !entry.after_loss
        {
            return Err(format!("{id} commits {name} again: {} of the same request did", step.txn));
        }
    }
    Ok(())
}

/// Whether a transaction lacks a command of an atomic batch that had something to do.
fn is_missing(facts: &Facts, entry: &Entry, transaction: &Transaction, asked: &RefCommand) -> bool {
    let key = RefKey::Ref(asked.name.clone());
    let is_carried = transaction.command(&key).is_some() || !entry.request.atomic;
    !is_carried && !values_since(facts, &entry.project, &key, entry.asked).contains(&RefValue::from(asked.new))
}

/// Judges one verdict when the client receives it.
///
/// # Errors
/// The verdict contradicts the chain.
pub fn verdict(facts: &Facts, entry: &Entry, result: &RefResult) -> Verdict {
    let (name, id) = (&result.name, &entry.request.request_id);
    let key = RefKey::Ref(name.clone());
    let step = facts.lives(&entry.project).into_iter().find_map(|project| step_of(facts, &project, &key, id).cloned());
    match (result.outcome, step) {
        (Outcome::Committed | Outcome::CommittedNotYetVisible, None) if !was_so_already(facts, entry, result) => {
            Err(format!("{id} was told that {name} is committed, but its chain has no such step"))
        }
        // A node that lost its volume may judge a ref that has come back to the expected value anew.
        (Outcome::Refused, Some(_)) if entry.after_loss && !is_stale(result) => Ok(()),
        (Outcome::Refused, Some(step)) => {
            Err(format!("{id} was told that {name} is refused, but it is version {} of its chain", step.version))
        }
        (Outcome::Refused, None) => refusal_is_true(facts, entry, result),
        (Outcome::Committed | Outcome::CommittedNotYetVisible | Outcome::Unknown, _) => Ok(()),
    }
}

fn is_stale(result: &RefResult) -> bool {
    result.refusal.as_ref().is_some_and(|refusal| refusal.code == RefusalCode::Stale)
}

/// Whether the ref had the requested value at some moment of the request. Then there was nothing to commit.
fn was_so_already(facts: &Facts, entry: &Entry, result: &RefResult) -> bool {
    let asked = entry.request.commands.iter().find(|asked| asked.name == result.name);
    let seen = values_since(facts, &entry.project, &RefKey::Ref(result.name.clone()), entry.asked);
    asked.is_some_and(|asked| seen.contains(&RefValue::from(asked.new)))
}

fn refusal_is_true(facts: &Facts, entry: &Entry, result: &RefResult) -> Verdict {
    let Some(refusal) = result.refusal.as_ref().filter(|refusal| refusal.code == RefusalCode::Stale) else {
        return Ok(());
    };
    let Some(asked) = entry.request.commands.iter().find(|asked| asked.name == result.name) else { return Ok(()) };
    let seen = values_since(facts, &entry.project, &RefKey::Ref(result.name.clone()), entry.asked);
    let id = &entry.request.request_id;
    if !refusal.retry && seen.iter().all(|value| fits(asked, value)) {
        return Err(format!("{id}: {} was refused as stale, but it was what {asked:?} expects all along", result.name));
    }
    let actual: Option<RefValue> = refusal.actual.as_ref().and_then(|text| text.parse().ok());
    match actual {
        Some(actual) if !seen.contains(&actual) => {
            Err(format!("{id}: {} was said to be {actual}, but during the request it was {seen:?}", result.name))
        }
        Some(_) | None => Ok(()),
    }
}

/// The values of a ref since the commit count `since`, including the value at that moment, in each incarnation that the
/// project had meanwhile.
pub(super) fn values_since(facts: &Facts, project: &ProjectName, key: &RefKey, since: u64) -> Vec<RefValue> {
    let of = |project: ProjectKey| {
        let chain = facts.chain(&project, key);
        let before = chain.iter().rev().find(|step| step.order < since);
        let first = before.map_or(RefValue::Absent, |step| step.value.clone());
        let later = chain.iter().filter(|step| step.order >= since).map(|step| step.value.clone());
        std::iter::once(first).chain(later).collect::<Vec<_>>()
    };
    facts.lives_since(project, since).into_iter().flat_map(of).collect()
}

pub(super) fn step_of<'a>(facts: &'a Facts, project: &ProjectKey, key: &RefKey, request: &str) -> Option<&'a Step> {
    facts.chain(project, key).iter().rev().find(|step| step.request == request)
}

fn fits(asked: &RefCommand, old: &RefValue) -> bool {
    match asked.old {
        Expected::Any => true,
        Expected::Absent => old.is_absent(),
        Expected::Oid(oid) => old.oid() == Some(oid),
    }
}
