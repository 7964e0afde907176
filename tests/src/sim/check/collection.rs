//! The journal is collected only below the low-water marks of all nodes that are not expelled, and so are the long
//! forms of its transactions.

use lockstep::seams::volume::NodeStore;
use lockstep_proto::{IncarnationId, Slot, TxnId};

use super::{Verdict, checkpoints};
use crate::sim::facts::{Facts, Occupant};

/// Judges the collection of a slot against one node that needs the journal. A node that has parked the transaction, or
/// holds it as bad, or owes its project, still needs the slot.
///
/// # Errors
/// The node has not applied the slot's transaction.
pub fn collected(facts: &Facts, slot: &Slot, node: &str, store: &dyn NodeStore) -> Verdict {
    let Some(Occupant::Committed(txn)) = facts.slots.get(slot) else {
        return Err(format!("{slot} was collected, but holds {:?}", facts.slots.get(slot)));
    };
    let Some(transaction) = facts.transactions.get(txn) else { return Ok(()) };
    match checkpoints::behind(store, transaction) {
        Some(why) => Err(format!("{slot} was collected, but on {node} {why}")),
        None => Ok(()),
    }
}

/// Judges the collection of a slot whose transaction has bad content.
///
/// # Errors
/// A node holds the transaction as bad, so its content must be kept.
pub fn held_collected(facts: &Facts, slot: &Slot, node: &str, store: &dyn NodeStore) -> Verdict {
    let Some(Occupant::Committed(txn)) = facts.slots.get(slot) else { return Ok(()) };
    let holds = facts.bad.contains(txn)
        && store.quarantined().map_err(|error| error.to_string())?.contains_key(&txn.to_string());
    if holds { Err(format!("{slot} was collected, but {node} holds {txn} as bad")) } else { Ok(()) }
}

/// Judges the removal of an incarnation's record.
///
/// # Errors
/// A slot of it still holds a transaction, which nobody will find any more.
pub fn forgotten(facts: &Facts, id: &IncarnationId) -> Verdict {
    let of_it = facts.slots.iter().filter(|(slot, _)| slot.lane.incarnation == *id);
    let left = of_it.filter(|(slot, held)| matches!(held, Occupant::Committed(_)) && !facts.collected.contains(slot));
    match left.map(|(slot, _)| slot).next() {
        Some(slot) => Err(format!("the record of {id} was removed, but {slot} is left")),
        None => Ok(()),
    }
}

/// Judges the deletion of a blob against one node that needs the journal. If the blob is a long form, the node must be
/// done with its transaction: one that it has parked must be read again after a restart.
///
/// # Errors
/// The node has neither applied nor quarantined the transaction.
pub fn dropped(facts: &Facts, key: &str, node: &str, store: &dyn NodeStore) -> Verdict {
    let txn = key.strip_prefix("transactions/").and_then(|id| id.parse().ok());
    let Some(transaction) = txn.and_then(|txn: TxnId| facts.transactions.get(&txn)) else { return Ok(()) };
    let bad = store.quarantined().map_err(|error| error.to_string())?;
    match checkpoints::not_applied(store, transaction, &[&bad]) {
        Some(why) => Err(format!("the long form {key} was deleted, but on {node} {why}")),
        None => Ok(()),
    }
}
