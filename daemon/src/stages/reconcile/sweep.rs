//! The sweeper: whatever is below a published mark, and was not seen here, is read from the journal.
//!
//! Poisoned slots never appear in the event log, so this is what takes the low-water mark over them. And whatever an event
//! log lost is found here: no event is skipped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{IncarnationId, Lane, Seq, Slot, Transaction};
use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::seams::refdb::{IncarnationRecord, RefDb, RefDbError, SlotState};
use crate::stages::ports::Sink;
use crate::state::durability::Durability;
use crate::state::low_water::LowWater;

/// Slots of a lane that are looked at in one sweep.
const MOST: usize = 256;

/// Sweeps for one node.
pub struct Sweeper {
    /// The refdb.
    pub refdb: Arc<dyn RefDb>,
    /// What is done here.
    pub low_water: Arc<LowWater>,
    /// Makes it durable that lanes are forgotten.
    pub durability: Durability,
    /// Takes what was not seen.
    pub sink: Arc<dyn Sink>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// How often.
    pub pace: Duration,
}

impl Sweeper {
    /// Sweeps until it is aborted.
    pub async fn run(self) {
        let mut open_before = BTreeSet::new();
        loop {
            sleep(self.pace).await;
            match self.sweep(&mut open_before).await {
                Ok(()) => {}
                Err(error) => self.observer.failed("sweep", &error.to_string()),
            }
        }
    }

    /// One sweep. A gap is looked into when it was there at the last sweep too: mostly it is just on its way.
    async fn sweep(&self, open_before: &mut BTreeSet<Slot>) -> Result<(), RefDbError> {
        let mut open_now = BTreeSet::new();
        let mut known: BTreeSet<IncarnationId> = BTreeSet::new();
        for site in self.refdb.sites().await? {
            for incarnation in self.refdb.incarnations(&site.site).await? {
                open_now.extend(self.gaps(&incarnation));
                known.insert(incarnation.id);
            }
        }
        for slot in open_now.intersection(open_before) {
            self.look(slot).await?;
        }
        let gone = self.low_water.forget(|lane| !known.contains(&lane.incarnation));
        if !gone.is_empty() {
            self.durability.stage(|changes| changes.forget_lanes.extend(gone));
        }
        *open_before = open_now;
        Ok(())
    }

    fn gaps(&self, incarnation: &IncarnationRecord) -> Vec<Slot> {
        let lanes = incarnation.published.iter().enumerate();
        let gaps = lanes.flat_map(|(lane, published): (usize, &Seq)| {
            let lane = incarnation.id.lane(Lane(u8::try_from(lane).unwrap_or(u8::MAX)));
            self.low_water.gaps(&lane, *published, MOST)
        });
        gaps.collect()
    }

    async fn look(&self, slot: &Slot) -> Result<(), RefDbError> {
        if self.low_water.is_done(slot) {
            return Ok(());
        }
        match self.refdb.slot(slot).await? {
            // Empty below a published mark: collected, which happens only below this node's own mark, or before its time.
            SlotState::Poisoned | SlotState::Empty => self.low_water.done(slot),
            SlotState::Committed(_, bytes) => match Transaction::decode(&bytes) {
                Ok(transaction) => self.sink.offer(Arc::new(transaction), bytes, None).await,
                Err(error) => self.observer.failed("sweep", &format!("{slot}: {error}")),
            },
        }
        Ok(())
    }
}
