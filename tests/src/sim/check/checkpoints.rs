//! Invariant 6: no event is skipped. A checkpoint never passes an event that is neither applied nor durably held.

use std::collections::BTreeMap;

use lockstep::seams::eventlog::Position;
use lockstep::seams::volume::{Held, NodeStore};
use lockstep_proto::{ProjectKey, ProjectPhase, RefKey, RefValue, Transaction, TxnId, Version};

use super::Verdict;
use crate::sim::facts::Facts;

/// A record of a shard: its sequence number, and its transaction if the record is good.
pub type Logged = (String, Option<TxnId>);

/// The records that a checkpoint covers.
///
/// # Errors
/// The shard never had the record that the checkpoint names.
pub fn covered<'a>(records: &'a [Logged], at: &Position) -> Result<&'a [Logged], String> {
    match at {
        Position::Start => Ok(&[]),
        Position::End => Ok(records),
        Position::After(number) => {
            let last = records.iter().position(|(have, _)| have == number);
            last.map(|last| &records[..=last]).ok_or_else(|| format!("the shard has no record {number}"))
        }
    }
}

/// Judges covered records against the node's store.
///
/// # Errors
/// A transaction is neither in the version map, nor parked, nor in quarantine.
pub fn applied(facts: &Facts, store: &dyn NodeStore, records: &[Logged]) -> Verdict {
    let parked = super::parked(store)?;
    let bad = store.quarantined().map_err(|error| error.to_string())?;
    let transactions = records.iter().filter_map(|(_, txn)| txn.as_ref());
    for transaction in transactions.filter_map(|txn| facts.transactions.get(txn)) {
        if let Some(why) = not_applied(store, transaction, &[&parked, &bad]) {
            return Err(format!("the checkpoint covers {}, but {why}", transaction.id));
        }
    }
    Ok(())
}

/// The first ref of a transaction that a node has neither applied nor set aside, as text. None if there is none.
pub fn not_applied(
    store: &dyn NodeStore,
    transaction: &Transaction,
    held: &[&BTreeMap<String, Held>],
) -> Option<String> {
    if held.iter().any(|held| held.contains_key(&transaction.id.to_string())) {
        return None;
    }
    // An owed project is behind as a whole, durably. Nothing of it may be owed in the end.
    let is_owed = store.debts().is_ok_and(|debts| debts.contains_key(&transaction.project.name));
    if is_owed { None } else { behind(store, transaction) }
}

/// The first ref of a transaction that a node has not applied, as text. None if there is none.
pub fn behind(store: &dyn NodeStore, transaction: &Transaction) -> Option<String> {
    if is_past(store, &transaction.project) {
        return None;
    }
    transaction.commands.iter().find_map(|command| {
        let known = store.reference(&transaction.project, &command.key).ok().flatten();
        let version = known.map_or(Version::NONE, |record| record.version);
        let key = &command.key;
        (version < command.version)
            .then(|| format!("{} {key} is at version {version}, before {}", transaction.project, command.version))
    })
}

/// Whether a node knows that this incarnation of a project is deleted. Late records of a deleted project need nothing.
pub fn is_past(store: &dyn NodeStore, project: &ProjectKey) -> bool {
    let state = store.reference(project, &RefKey::State).ok().flatten().map(|record| record.value);
    matches!(state, Some(RefValue::State(state)) if state.incarnation > project.incarnation
        || (state.incarnation == project.incarnation && state.phase == ProjectPhase::Deleted))
}
