//! The collection of one lane, as far as this process knows it.

use std::collections::BTreeMap;

use futures::future::join_all;
use lockstep_proto::{LaneId, Seq, Slot};

use super::needed::{Kept, Needed};
use super::{Collector, Fate};
use crate::seams::refdb::{RefDbError, SlotState};

/// Slots that are collected in one call of the refdb.
const BATCH: usize = 100;
/// Slots that the last look at a lane reads at once.
const LOOKS: u64 = 32;
/// Slots that the last look at a lane reads per run.
const LOOKS_PER_RUN: u64 = 4_096;
/// The most slots of a lane that are left and remembered. The collection of the lane waits beyond it.
const MOST_LEFT: usize = 10_000;

/// How far a lane is collected.
#[derive(Debug, Default)]
pub(super) struct LaneProgress {
    /// Every slot below it is collected, poisoned or left. None before the first run.
    next: Option<u64>,
    /// The slots below `next` that were left, because a node needs them or their collection failed. One that was needed
    /// has its transaction, so that it is not read again as long as that is needed.
    left: BTreeMap<u64, Option<Kept>>,
    /// Every slot below it was looked at by this process.
    looked_at: u64,
}

impl Collector {
    /// Collects a lane below `until`: first the slots that were left before, then the rest.
    pub(super) async fn collect_lane(
        &self,
        lane: &LaneId,
        until: Seq,
        needed: &Needed,
        progress: &mut LaneProgress,
    ) -> Result<(), RefDbError> {
        if progress.next.is_none() && until > Seq(0) {
            let first = self.first_left(lane, until).await?.0;
            progress.next = Some(first);
            // Every slot of a lane that is collected from its beginning is looked at.
            progress.looked_at = if first == 0 { u64::MAX } else { 0 };
        }
        let left: Vec<u64> = progress.left.keys().copied().collect();
        for batch in left.chunks(BATCH) {
            self.collect_batch(lane, batch, needed, progress).await?;
        }
        while let Some(from) = progress.next.filter(|from| *from < until.0 && progress.left.len() < MOST_LEFT) {
            let to = from.saturating_add(BATCH as u64).min(until.0);
            let batch: Vec<u64> = (from..to).collect();
            // It is remembered as left before its collection is tried, so that a failure loses nothing.
            progress.left.extend(batch.iter().map(|seq| (*seq, None)));
            progress.next = Some(to);
            self.collect_batch(lane, &batch, needed, progress).await?;
        }
        Ok(())
    }

    /// Collects slots that are remembered as left, and forgets those that succeed.
    async fn collect_batch(
        &self,
        lane: &LaneId,
        batch: &[u64],
        needed: &Needed,
        progress: &mut LaneProgress,
    ) -> Result<(), RefDbError> {
        let mut free: Vec<Slot> = Vec::with_capacity(batch.len());
        for seq in batch {
            let slot = lane.slot(Seq(*seq));
            if progress.left.get(seq).and_then(Option::as_ref).is_some_and(|kept| needed.has(kept)) {
                continue;
            }
            match self.let_go(&slot, needed).await? {
                Fate::Free => free.push(slot),
                Fate::Needed(kept) => _ = progress.left.insert(*seq, Some(kept)),
                Fate::Stuck(why) => self.observer.failed("collect", &format!("slot {slot} is left for now: {why}")),
            }
        }
        self.refdb.journal.collect(&free).await?;
        self.plain.forget(&free);
        progress.left.retain(|seq, _| !free.iter().any(|slot| slot.seq.0 == *seq));
        Ok(())
    }

    /// Whether nothing of a lane is left below its end. Looks at slots that this process has not seen, a part of them
    /// per run, and remembers those that still hold a transaction.
    pub(super) async fn has_nothing_left(
        &self,
        lane: &LaneId,
        end: Seq,
        progress: &mut LaneProgress,
    ) -> Result<bool, RefDbError> {
        let stop = end.0.min(progress.looked_at.saturating_add(LOOKS_PER_RUN));
        while progress.looked_at < stop {
            let until = stop.min(progress.looked_at.saturating_add(LOOKS));
            let slots: Vec<Slot> = (progress.looked_at..until).map(|seq| lane.slot(Seq(seq))).collect();
            let states = join_all(slots.iter().map(|slot| self.refdb.journal.slot(slot))).await;
            for (slot, state) in slots.iter().zip(states) {
                if matches!(state?, SlotState::Committed(..)) {
                    progress.left.entry(slot.seq.0).or_default();
                }
            }
            progress.looked_at = until;
        }
        Ok(progress.looked_at >= end.0 && progress.left.is_empty())
    }

    /// The first slot that may still be there. Collected slots are empty, from the beginning of the lane on, except for
    /// slots that were left.
    async fn first_left(&self, lane: &LaneId, until: Seq) -> Result<Seq, RefDbError> {
        let (mut low, mut high) = (0, until.0);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.refdb.journal.slot(&lane.slot(Seq(middle))).await? {
                SlotState::Empty => low = middle + 1,
                // A poisoned slot is never collected, so it tells nothing. Search as if a transaction were left here.
                SlotState::Committed(..) | SlotState::Poisoned => high = middle,
            }
        }
        Ok(Seq(low))
    }
}
