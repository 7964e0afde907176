//! The journal is collected only below the low-water marks of all nodes that are not expelled.

use lockstep::seams::volume::NodeStore;
use lockstep_proto::Slot;

use super::{Verdict, checkpoints};
use crate::sim::facts::{Facts, Occupant};

/// Judges the collection of a slot against one node that needs the journal.
///
/// # Errors
/// The node has neither applied nor set aside the slot's transaction.
pub fn collected(facts: &Facts, slot: &Slot, node: &str, store: &dyn NodeStore) -> Verdict {
    let Some(Occupant::Committed(txn)) = facts.slots.get(slot) else {
        return Err(format!("{slot} was collected, but holds {:?}", facts.slots.get(slot)));
    };
    let Some(transaction) = facts.transactions.get(txn) else { return Ok(()) };
    let parked = store.parked().map_err(|error| error.to_string())?;
    let bad = store.quarantined().map_err(|error| error.to_string())?;
    match checkpoints::not_applied(store, transaction, &[&parked, &bad]) {
        Some(why) => Err(format!("{slot} was collected, but on {node} {why}")),
        None => Ok(()),
    }
}
