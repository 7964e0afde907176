//! The journal: a slot is occupied once, and poison stays for ever. Commits stay within their incarnation's window, and
//! a drained incarnation has no window (invariant 8).

use lockstep_proto::{Slot, TxnId};

use super::Verdict;
use crate::sim::facts::{Facts, Occupant};

/// Judges the slot of a commit.
///
/// # Errors
/// The slot was occupied, is outside the window, or its incarnation takes no commits.
pub fn commit(facts: &Facts, txn: &TxnId) -> Verdict {
    let slot = &txn.slot;
    if let Some(occupant) = facts.slots.get(slot) {
        return Err(format!("{txn} was committed into a slot that holds {occupant:?}"));
    }
    let Some(record) = facts.incarnations.get(&slot.lane.incarnation) else {
        return Err(format!("{txn} was committed by an incarnation that was never opened"));
    };
    if !record.may_commit() {
        return Err(format!("{txn} was committed by a {:?} incarnation: fenced, yet it commits", record.state));
    }
    let Some(settled) = record.settled.get(slot.lane.lane.index()) else {
        return Err(format!("{txn} is in a lane that its incarnation does not have"));
    };
    if slot.seq.0 >= settled.0 + record.window {
        return Err(format!("{txn} lies outside the window of {} slots above {settled}", record.window));
    }
    Ok(())
}

/// Judges a slot that was found poisoned.
///
/// # Errors
/// A transaction was committed in it.
pub fn poison(facts: &Facts, slot: &Slot) -> Verdict {
    match facts.slots.get(slot) {
        Some(Occupant::Committed(txn)) => Err(format!("{slot} was poisoned over the committed {txn}")),
        Some(Occupant::Poison) | None => Ok(()),
    }
}
