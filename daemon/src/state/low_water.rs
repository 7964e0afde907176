//! Low-water marks, one per lane of any node: every slot below the mark is applied at this node.
//!
//! The journal is collected below the lowest mark of all nodes. A mark moves past slots that were seen and applied (or
//! skipped) here, and past poisoned slots. Poisoned slots never appear in the event log, so the sweeper asks the refdb
//! about them, and about every other published slot that was not seen.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{LaneId, Seq, Slot};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::seams::refdb::IncarnationRecord;
use crate::seams::volume::Changes;
use crate::state::durability::Remember;
use crate::state::low_water_extent::{Extent, extent};

/// The low-water marks of one node.
#[derive(Debug, Default)]
pub struct LowWater {
    lanes: Mutex<Lanes>,
    /// Wakes those that wait for a slot.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Lanes {
    progress: BTreeMap<LaneId, Progress>,
    /// The marks that the last durable step took, and the marks that are durable.
    staged: BTreeMap<LaneId, Seq>,
    durable: BTreeMap<LaneId, Seq>,
    /// The incarnations that were not forgotten when they were listed last.
    listed: Vec<IncarnationRecord>,
}

#[derive(Debug, Default)]
struct Progress {
    mark: u64,
    above: BTreeSet<u64>,
}

impl LowWater {
    /// Starts from the durable marks.
    #[must_use]
    pub fn new(durable: BTreeMap<LaneId, Seq>) -> Self {
        let progress =
            durable.iter().map(|(lane, mark)| (lane.clone(), Progress { mark: mark.0, ..Progress::default() }));
        let (progress, listed) = (progress.collect(), Vec::new());
        Self { lanes: Mutex::new(Lanes { progress, staged: durable.clone(), durable, listed }), moved: Notify::new() }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock()
    }

    /// Records that the slot is done: this node has nothing left to do for it.
    pub fn done(&self, slot: &Slot) {
        let mut lanes = self.lanes();
        let progress = lanes.progress.entry(slot.lane.clone()).or_default();
        if slot.seq.0 >= progress.mark {
            progress.above.insert(slot.seq.0);
        }
        while progress.above.remove(&progress.mark) {
            progress.mark += 1;
        }
        drop(lanes);
        self.moved.notify_waiters();
    }

    /// Ends when a slot becomes done, or a mark is raised, after this call.
    pub fn moves(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// Whether the slot is done. The record of this may not be durable yet.
    #[must_use]
    pub fn is_done(&self, slot: &Slot) -> bool {
        let lanes = self.lanes();
        lanes
            .progress
            .get(&slot.lane)
            .is_some_and(|progress| slot.seq.0 < progress.mark || progress.above.contains(&slot.seq.0))
    }

    /// The slots of a lane below `until` that are not done, in order, at most `limit`.
    #[must_use]
    pub fn gaps(&self, lane: &LaneId, until: Seq, limit: usize) -> Vec<Slot> {
        self.gaps_from(lane, Seq(0), until, limit)
    }

    /// The slots of a lane from `from` on and below `until` that are not done, in order, at most `limit`.
    #[must_use]
    pub fn gaps_from(&self, lane: &LaneId, from: Seq, until: Seq, limit: usize) -> Vec<Slot> {
        let lanes = self.lanes();
        let none = Progress::default();
        let progress = lanes.progress.get(lane).unwrap_or(&none);
        let open = (progress.mark.max(from.0)..until.0).filter(|seq| !progress.above.contains(seq));
        open.take(limit).map(|seq| lane.slot(Seq(seq))).collect()
    }

    /// The durable marks. They survive a power cut, so other nodes may rely on them.
    #[must_use]
    pub fn durable(&self) -> BTreeMap<LaneId, Seq> {
        self.lanes().durable.clone()
    }

    /// Takes in the incarnations that are not forgotten, by which the marks are condensed.
    pub fn listed(&self, incarnations: &[IncarnationRecord]) {
        self.lanes().listed = incarnations.to_vec();
    }

    /// The durable marks in the bounded form of the node's record.
    #[must_use]
    pub fn extent(&self) -> Extent {
        let lanes = self.lanes();
        extent(&lanes.durable, &lanes.listed)
    }

    /// Raises marks after a reconciliation. The state was read from the refdb after these marks were, so it contains
    /// everything below them.
    pub fn transfer_state(&self, marks: impl IntoIterator<Item = (LaneId, Seq)>) {
        let mut lanes = self.lanes();
        for (lane, mark) in marks {
            let progress = lanes.progress.entry(lane).or_default();
            progress.mark = progress.mark.max(mark.0);
            progress.above = progress.above.split_off(&progress.mark);
        }
        drop(lanes);
        self.moved.notify_waiters();
    }

    /// Forgets the lanes of incarnations that no longer exist, as `gone` says, and returns these lanes.
    pub fn forget(&self, gone: impl Fn(&LaneId) -> bool) -> Vec<LaneId> {
        let mut lanes = self.lanes();
        let gone: Vec<LaneId> = lanes.progress.keys().filter(|lane| gone(lane)).cloned().collect();
        for lane in &gone {
            lanes.progress.remove(lane);
            lanes.staged.remove(lane);
            lanes.durable.remove(lane);
        }
        gone
    }
}

impl Remember for LowWater {
    fn remember(&self, into: &mut Changes) {
        let mut lanes = self.lanes();
        let marks: BTreeMap<LaneId, Seq> =
            lanes.progress.iter().map(|(lane, progress)| (lane.clone(), Seq(progress.mark))).collect();
        let moved = marks.iter().filter(|(lane, mark)| lanes.durable.get(lane) != Some(mark));
        into.low_water.extend(moved.map(|(lane, mark)| (lane.clone(), *mark)));
        lanes.staged = marks;
    }

    fn remembered(&self) {
        let mut lanes = self.lanes();
        lanes.durable = lanes.staged.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_waits_for_its_gap() {
        let low_water = LowWater::default();
        let lane: LaneId = "n.1.0".parse().unwrap();
        low_water.done(&lane.slot(Seq(0)));
        low_water.done(&lane.slot(Seq(2)));
        assert_eq!(low_water.gaps(&lane, Seq(4), 9), vec![lane.slot(Seq(1)), lane.slot(Seq(3))]);
        assert_eq!(low_water.gaps_from(&lane, Seq(2), Seq(4), 9), vec![lane.slot(Seq(3))]);
        assert!(low_water.durable().is_empty());
        let mut changes = Changes::default();
        low_water.remember(&mut changes);
        assert_eq!(changes.low_water, vec![(lane.clone(), Seq(1))]);
        low_water.done(&lane.slot(Seq(1)));
        low_water.remembered();
        assert_eq!(low_water.durable()[&lane], Seq(1), "a slot that was done after the step began is not durable yet");
    }
}
