//! The window of one lane: the slots that may be used now, and the marks that move it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::Seq;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct LaneWindow {
    /// Every slot below this number is committed or poisoned.
    pub(super) settled: u64,
    /// The settled mark as it is stored in the refdb.
    pub(super) stored: u64,
    /// Every slot below this number is in the event log.
    pub(super) published: u64,
    /// Slots from this number on are untaken.
    pub(super) next: u64,
    /// Slots that were taken and given back, with the time since when each is empty.
    pub(super) empty: BTreeMap<u64, Instant>,
    /// Resolved slots above the settled mark: true means committed, false means poisoned.
    pub(super) resolved: BTreeMap<u64, bool>,
    /// Poisoned slots below the settled mark that the publisher has not passed yet.
    pub(super) poisoned: BTreeSet<u64>,
}

/// A lane's marks, for the mark writer and the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneMarks {
    /// Every slot below this mark is committed or poisoned.
    pub settled: Seq,
    /// Every slot below this mark is in the event log.
    pub published: Seq,
    /// Number of slots above the settled mark that were taken.
    pub in_flight: u64,
}

impl LaneWindow {
    /// Takes the lowest empty slot inside the window. None if the window is full.
    pub(super) fn take(&mut self, window: u64) -> Option<u64> {
        if let Some((seq, _)) = self.empty.pop_first() {
            return Some(seq);
        }
        if self.next >= self.stored + window {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Gives back a slot that is empty for good.
    pub(super) fn give_back(&mut self, seq: u64) {
        self.empty.insert(seq, Instant::now());
        // Empty slots at the top of the lane count as untaken again.
        while self.next > 0 && self.empty.remove(&(self.next - 1)).is_some() {
            self.next -= 1;
        }
    }

    /// Records the content of a slot. Returns whether the settled mark has moved.
    pub(super) fn resolve(&mut self, seq: u64, committed: bool) -> bool {
        let before = self.settled;
        // A node that fenced this incarnation has poisoned slots that were never taken.
        self.next = self.next.max(seq + 1);
        self.resolved.insert(seq, committed);
        while let Some(committed) = self.resolved.remove(&self.settled) {
            if !committed {
                self.poisoned.insert(self.settled);
            }
            self.settled += 1;
        }
        self.settled > before
    }

    /// The marks of the lane.
    pub(super) fn marks(&self) -> LaneMarks {
        LaneMarks {
            settled: Seq(self.settled),
            published: Seq(self.published),
            in_flight: self.next.saturating_sub(self.settled),
        }
    }
}
