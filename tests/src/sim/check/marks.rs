//! Marks: below a settled mark every slot is committed or poisoned. Below a published mark every transaction is in the
//! event log. Below a node's low-water mark every transaction is applied or durably held there. One that is not applied
//! is named in the node's record.

use std::collections::BTreeSet;

use lockstep::seams::refdb::NodeRecord;
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
    let parked = super::parked(store)?;
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

/// Judges the record of a node against its store: collectors keep a slot below its mark only if the record names it.
///
/// # Errors
/// The node has parked or holds a committed transaction below its mark, has not applied it, and the record names
/// neither the transaction nor its project.
pub fn named(facts: &Facts, store: &dyn NodeStore, record: &NodeRecord) -> Verdict {
    let parked = super::parked(store)?;
    let mut bad = store.quarantined().map_err(|error| error.to_string())?;
    bad.retain(|_, held| held.is_committed());
    let ids = parked.keys().chain(bad.keys()).filter_map(|id| id.parse::<TxnId>().ok());
    let passed = ids.filter(|txn| txn.slot.seq < record.mark(&txn.slot.lane));
    for transaction in passed.filter_map(|txn| facts.transactions.get(&txn)) {
        let (txn, project, needs) = (&transaction.id, &transaction.project.name, &record.needs);
        let is_named = needs.held.contains_key(txn) || needs.owed.contains(project);
        if let Some(why) = checkpoints::behind(store, transaction).filter(|_| !is_named) {
            return Err(format!("the record of {} passes {txn} and does not name it, but {why}", record.node));
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

#[cfg(test)]
mod tests {
    use lockstep::seams::refdb::Needs;
    use lockstep::seams::volume::memory::MemoryStore;
    use lockstep::seams::volume::{Changes, Held, HeldKind};
    use lockstep_proto::{Command, RefValue, Transaction};

    use super::*;

    fn transaction() -> Transaction {
        let command =
            Command::creation("refs/heads/a".parse().unwrap(), RefValue::Oid("1".repeat(40).parse().unwrap()));
        let id = "n.1.0.0.00000000000000aa".parse().unwrap();
        Transaction { commands: vec![command], ..Transaction::empty(id, "s".parse().unwrap(), "p#1".parse().unwrap()) }
    }

    /// Judges a record with this mark and these needs, of a node that has parked or holds slot 0.
    async fn judged(is_parked: bool, mark: u64, needs: Needs) -> Verdict {
        let (one, mut facts, store) = (transaction(), Facts::default(), MemoryStore::default());
        facts.commit(&one);
        let (bytes, kind, project) = (one.encode(), HeldKind::Committed, "p#1".to_owned());
        let held = Held { bytes, kind, project, reason: "x".into(), waits_for: vec![], since_ms: 7 };
        let entries = vec![(one.id.to_string(), held)];
        let (park, quarantine) = if is_parked { (entries, vec![]) } else { (vec![], entries) };
        store.commit(Changes { park, quarantine, ..Changes::default() }).await.unwrap();
        let record = NodeRecord {
            node: "m".parse().unwrap(),
            site: "s".parse().unwrap(),
            volume: "v".into(),
            starts: 1,
            beat: 1,
            expelled: false,
            low_water: [(one.id.slot.lane, Seq(mark))].into(),
            whole: std::collections::BTreeMap::new(),
            needs,
            frees_names: true,
            obeys_locks: 0,
            follows_moves: true,
            fences_locks: true,
        };
        named(&facts, &store, &record)
    }

    #[tokio::test]
    async fn a_record_names_what_is_parked_or_held_below_its_mark() {
        let (id, project) = (transaction().id, transaction().project.name);
        for is_parked in [true, false] {
            assert!(judged(is_parked, 1, Needs::default()).await.is_err());
            assert_eq!(judged(is_parked, 0, Needs::default()).await, Ok(()));
            let held = Needs { held: [(id.clone(), project.clone())].into(), ..Needs::default() };
            assert_eq!(judged(is_parked, 1, held).await, Ok(()));
            let owed = Needs { owed: [project.clone()].into(), ..Needs::default() };
            assert_eq!(judged(is_parked, 1, owed).await, Ok(()));
        }
    }
}
