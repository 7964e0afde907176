//! The collector: journal slots that every node is past are removed. Poison stays for ever.
//!
//! Each node collects its own incarnations, and those of its site whose node is gone for good are collected by whoever
//! drained them. The first slot that is still there is found by bisection, so nothing has to be remembered.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{Lane, LaneId, Pack, Seq, SiteId, Slot, Transaction};
use tokio::time::sleep;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::blob::BlobStore;
use crate::seams::refdb::staged::StagedRefDb;
use crate::seams::refdb::{IncarnationRecord, IncarnationState, NodeRecord, RefDb, RefDbError, SlotState};

/// Slots that are collected in one go.
const BATCH: u64 = 100;

/// Collects the journals of one site.
pub struct Collector {
    /// The site.
    pub site: SiteId,
    /// The refdb.
    pub refdb: Arc<StagedRefDb>,
    /// Packs that go with their slots.
    pub blobs: Arc<dyn BlobStore>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// How often.
    pub pace: Duration,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

impl Collector {
    /// Collects until it is aborted.
    pub async fn run(self) {
        loop {
            sleep(self.pace).await;
            if let Err(error) = self.collect().await {
                self.observer.failed("collect", &error.to_string());
            }
        }
    }

    async fn collect(&self) -> Result<(), RefDbError> {
        let nodes = self.refdb.nodes().await?;
        let mut over = Vec::new();
        for incarnation in self.refdb.incarnations(&self.site).await? {
            let mut empty = incarnation.state == IncarnationState::Drained;
            for lane in 0..incarnation.published.len() {
                let until = self.limit(&incarnation, lane, &nodes);
                self.collect_lane(&incarnation, lane, until).await?;
                empty &= until == incarnation.published[lane];
            }
            if empty {
                over.push(incarnation.id);
            }
        }
        if over.is_empty() { Ok(()) } else { self.refdb.forget_incarnations(&self.site, &over).await }
    }

    /// Every slot of the lane below is applied by every node, and in the event log.
    fn limit(&self, incarnation: &IncarnationRecord, lane: usize, nodes: &[NodeRecord]) -> Seq {
        let id = lane_id(incarnation, lane);
        let marks =
            nodes.iter().filter(|node| !node.expelled).map(|node| node.low_water.get(&id).copied().unwrap_or(Seq(0)));
        let lowest = if self.bugs.has(InjectedBug::CollectBelowSlowNode) { marks.max() } else { marks.min() };
        lowest.unwrap_or(Seq(0)).min(incarnation.published[lane])
    }

    async fn collect_lane(&self, incarnation: &IncarnationRecord, lane: usize, until: Seq) -> Result<(), RefDbError> {
        let id = lane_id(incarnation, lane);
        let mut from = self.first_left(&id, until).await?.0;
        while from < until.0 {
            let to = (from + BATCH).min(until.0);
            let slots: Vec<Slot> = (from..to).map(|seq| id.slot(Seq(seq))).collect();
            for slot in &slots {
                self.let_go(slot).await?;
            }
            self.refdb.collect(&slots).await?;
            from = to;
        }
        Ok(())
    }

    /// The first slot that may still be there: collected ones are empty, from the beginning on.
    async fn first_left(&self, lane: &LaneId, until: Seq) -> Result<Seq, RefDbError> {
        let (mut low, mut high) = (0, until.0);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.refdb.slot(&lane.slot(Seq(middle))).await? {
                SlotState::Empty => low = middle + 1,
                // Poison tells nothing, it is never collected: look as if something were left here.
                SlotState::Committed(..) | SlotState::Poisoned => high = middle,
            }
        }
        Ok(Seq(low))
    }

    /// Ends what rests on a slot: locks that name it, and its pack.
    async fn let_go(&self, slot: &Slot) -> Result<(), RefDbError> {
        let SlotState::Committed(_, bytes) = self.refdb.slot(slot).await? else { return Ok(()) };
        let unreadable =
            |error| RefDbError::Broken(format!("slot {slot} is not collected, it cannot be read: {error}"));
        let transaction = Transaction::decode(&bytes).map_err(unreadable)?;
        self.refdb.settle(&transaction).await?;
        if let Pack::Blob { key, .. } = &transaction.pack {
            self.blobs.delete(key).await.map_err(|error| RefDbError::NotNow(error.to_string()))?;
        }
        Ok(())
    }
}

fn lane_id(incarnation: &IncarnationRecord, lane: usize) -> LaneId {
    incarnation.id.lane(Lane(u8::try_from(lane).unwrap_or(u8::MAX)))
}
