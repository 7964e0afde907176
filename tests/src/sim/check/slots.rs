//! The journal: a slot is occupied once; poison is for ever; commits stay in their incarnation's window, and a
//! drained incarnation has none any more (invariant 8).

use lockstep::seams::refdb::IncarnationState;
use lockstep_proto::{Slot, TxnId};

use super::Verdict;
use crate::sim::facts::{Facts, Occupant};

/// Judges a commit's slot.
///
/// # Errors
/// The slot was occupied, lies outside the window, or its incarnation takes no commit.
pub fn commit(facts: &Facts, txn: &TxnId) -> Verdict {
    let slot = &txn.slot;
    if let Some(occupant) = facts.slots.get(slot) {
        return Err(format!("{txn} was committed into a slot that holds {occupant:?}"));
    }
    let Some(record) = facts.incarnations.get(&slot.lane.incarnation) else {
        return Err(format!("{txn} was committed by an incarnation that was never born"));
    };
    if record.state == IncarnationState::Drained {
        return Err(format!("{txn} was committed by a drained incarnation: fenced, yet it commits"));
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
