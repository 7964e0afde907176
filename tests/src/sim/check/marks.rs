//! Marks: below a settled mark every slot is committed or poisoned. Below a published mark every transaction is in the
//! event log. Below a node's low-water mark every transaction is applied or durably held there.

use std::collections::BTreeSet;

use lockstep::seams::volume::NodeStore;
use lockstep_proto::{IncarnationId, LaneId, Seq, TxnId};

use super::{Verdict, checkpoints};
use crate::sim::facts::{Facts, Occupant};

/// Judges settled marks that rise from `before`.
///
/// # Errors
/// A slot below a mark is empty.
pub fn settled(facts: &Facts, id: &IncarnationId, before: &[Seq], marks: &[Seq]) -> Verdict {
    for (at, (lane, mark)) in id.lanes(marks).enumerate() {
        let from = before.get(at).copied().unwrap_or_default();
        for seq in from.0..mark.0 {
            let slot = lane.slot(Seq(seq));
            if !facts.slots.contains_key(&slot) {
                return Err(format!("{lane} is settled below {mark}, but slot {slot} is empty"));
            }
        }
    }
    Ok(())
}

/// Judges published marks that rise from `before`. `logged` are the transactions in the event log.
///
/// # Errors
/// A committed transaction below a mark is not in the event log.
pub fn published(
    facts: &Facts,
    id: &IncarnationId,
    before: &[Seq],
    marks: &[Seq],
    logged: &BTreeSet<TxnId>,
) -> Verdict {
    for (at, (lane, mark)) in id.lanes(marks).enumerate() {
        let from = before.get(at).copied().unwrap_or_default();
        for seq in from.0..mark.0 {
            let slot = lane.slot(Seq(seq));
            match facts.slots.get(&slot) {
                Some(Occupant::Poison) => {}
                Some(Occupant::Committed(txn)) if logged.contains(txn) => {}
                other => return Err(format!("{lane} is published below {mark}, but {slot} holds {other:?}, unlogged")),
            }
        }
    }
    Ok(())
}

/// Judges a node's low-water mark that rises from `before`.
///
/// # Errors
/// A slot below the mark is empty, or the node has neither applied nor set aside its transaction.
pub fn low_water(facts: &Facts, store: &dyn NodeStore, lane: &LaneId, before: Seq, mark: Seq) -> Verdict {
    let parked = store.parked().map_err(|error| error.to_string())?;
    let bad = store.quarantined().map_err(|error| error.to_string())?;
    for seq in before.0..mark.0 {
        let slot = lane.slot(Seq(seq));
        match facts.slots.get(&slot) {
            Some(Occupant::Poison) => {}
            Some(Occupant::Committed(txn)) => {
                let transaction = facts.transactions.get(txn);
                let why = transaction.and_then(|one| checkpoints::not_applied(store, one, &[&parked, &bad]));
                if let Some(why) = why {
                    return Err(format!("the low-water mark of {lane} passes {txn}, but {why}"));
                }
            }
            None => return Err(format!("the low-water mark of {lane} is {mark}, but slot {slot} is empty")),
        }
    }
    Ok(())
}

/// A lane whose low-water mark at a node is below its published mark. None if the journal can be collected.
#[must_use]
pub fn lane_behind(facts: &Facts, store: &dyn NodeStore) -> Option<String> {
    let low_water = store.low_water().unwrap_or_default();
    let kept = facts.incarnations.values().filter(|record| !facts.forgotten.contains(&record.id));
    kept.flat_map(|record| record.id.lanes(&record.published)).find_map(|(lane, published)| {
        let mark = low_water.get(&lane).copied().unwrap_or_default();
        (mark < *published)
            .then(|| format!("the low-water mark of {lane} is {mark}, it is published below {published}"))
    })
}
