//! Low-water marks: per lane of any node, below which slot everything is applied here.
//!
//! The journal is collected below the lowest mark of all nodes. A mark is raised over slots that were seen and applied
//! (or skipped), and over poisoned ones, which never appear in the event log: the sweeper asks the refdb for those, and
//! for anything else that is published and was not seen.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{LaneId, Seq, Slot};
use parking_lot::{Mutex, MutexGuard};

use crate::seams::volume::Changes;
use crate::state::durability::Remember;

/// The low-water marks of one node.
#[derive(Debug, Default)]
pub struct LowWater {
    lanes: Mutex<Lanes>,
}

#[derive(Debug, Default)]
struct Lanes {
    progress: BTreeMap<LaneId, Progress>,
    /// What the last durable step was given, and what is durable.
    staged: BTreeMap<LaneId, Seq>,
    durable: BTreeMap<LaneId, Seq>,
}

#[derive(Debug, Default)]
struct Progress {
    mark: u64,
    above: BTreeSet<u64>,
}

impl LowWater {
    /// Goes on from what is durable.
    #[must_use]
    pub fn new(durable: BTreeMap<LaneId, Seq>) -> Self {
        let progress =
            durable.iter().map(|(lane, mark)| (lane.clone(), Progress { mark: mark.0, ..Progress::default() }));
        Self { lanes: Mutex::new(Lanes { progress: progress.collect(), staged: durable.clone(), durable }) }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock()
    }

    /// This slot needs nothing more here.
    pub fn done(&self, slot: &Slot) {
        let mut lanes = self.lanes();
        let progress = lanes.progress.entry(slot.lane.clone()).or_default();
        if slot.seq.0 >= progress.mark {
            progress.above.insert(slot.seq.0);
        }
        while progress.above.remove(&progress.mark) {
            progress.mark += 1;
        }
    }

    /// Whether the slot is done, durable or not.
    #[must_use]
    pub fn is_done(&self, slot: &Slot) -> bool {
        let lanes = self.lanes();
        lanes
            .progress
            .get(&slot.lane)
            .is_some_and(|progress| slot.seq.0 < progress.mark || progress.above.contains(&slot.seq.0))
    }

    /// Slots of a lane below `until` that are not done, at most `limit`.
    #[must_use]
    pub fn gaps(&self, lane: &LaneId, until: Seq, limit: usize) -> Vec<Slot> {
        let lanes = self.lanes();
        let none = Progress::default();
        let progress = lanes.progress.get(lane).unwrap_or(&none);
        let open = (progress.mark..until.0).filter(|seq| !progress.above.contains(seq));
        open.take(limit).map(|seq| lane.slot(Seq(seq))).collect()
    }

    /// The marks that survive a power cut: what other nodes may rely on.
    #[must_use]
    pub fn durable(&self) -> BTreeMap<LaneId, Seq> {
        self.lanes().durable.clone()
    }

    /// Everything below these marks is here by other means: the refdb was read after they were.
    pub fn transfer_state(&self, marks: impl IntoIterator<Item = (LaneId, Seq)>) {
        let mut lanes = self.lanes();
        for (lane, mark) in marks {
            let progress = lanes.progress.entry(lane).or_default();
            progress.mark = progress.mark.max(mark.0);
            progress.above = progress.above.split_off(&progress.mark);
        }
    }

    /// Forgets lanes whose incarnation is gone.
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
        assert!(low_water.durable().is_empty());
        let mut changes = Changes::default();
        low_water.remember(&mut changes);
        assert_eq!(changes.low_water, vec![(lane.clone(), Seq(1))]);
        low_water.done(&lane.slot(Seq(1)));
        low_water.remembered();
        assert_eq!(low_water.durable()[&lane], Seq(1), "what came after the step is not durable by it");
    }
}
