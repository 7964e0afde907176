//! The sweeper: reads from the journal every slot that is below a published mark, or in a poisoned incarnation, and was
//! not seen here.
//!
//! Poisoned slots never appear in the event log, so the sweeper takes the low-water mark over them. It also finds every
//! transaction that an event log lost, so none is skipped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use lockstep_proto::{IncarnationId, Slot, Transaction};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::base::observer::Observer;
use crate::seams::refdb::{IncarnationRecord, IncarnationState, RefDb, RefDbError, SlotState};
use crate::stages::ports::Sink;
use crate::state::context::{NodeContext, NodeState};
use crate::state::durability::Durability;
use crate::state::low_water::LowWater;
use crate::state::went_back::{self, WentBack};

/// The most slots of a lane that one sweep looks at.
const MOST: usize = 256;
/// Number of slots that are read concurrently.
const READS: usize = 32;

/// The sweeper of one node.
pub struct Sweeper {
    /// The refdb, which has the incarnations' published marks and the journal.
    refdb: RefDb,
    /// Knows which slots are done here.
    low_water: Arc<LowWater>,
    /// Makes it durable that the lanes of removed incarnations are forgotten.
    durability: Durability,
    /// Takes the transactions that were not seen.
    sink: Arc<dyn Sink>,
    /// Whether the refdb is older than this node.
    went_back: WentBack,
    /// Receives every run that failed.
    observer: Arc<dyn Observer>,
    /// Begins a sweep at once.
    hurry: Arc<Notify>,
    /// The pause between two sweeps.
    pace: Duration,
}

impl Sweeper {
    /// Creates a sweeper that hands the transactions that were not seen to `sink`. `hurry` begins a sweep at once.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        sink: Arc<dyn Sink>,
        hurry: Arc<Notify>,
        pace: Duration,
    ) -> Self {
        let NodeContext { refdb, went_back, observer, .. } = context.clone();
        let NodeState { low_water, durability, .. } = state.clone();
        Self { refdb, low_water, durability, sink, went_back, observer, hurry, pace }
    }

    /// Sweeps periodically, until the task is aborted.
    pub async fn run(self) {
        let mut open_before = BTreeSet::new();
        loop {
            let _ = timeout(self.pace, self.hurry.notified()).await;
            if self.went_back.is_known() {
                continue;
            }
            match self.sweep(&mut open_before).await {
                Ok(()) => {}
                Err(error) => self.observer.failed("sweep", &error),
            }
        }
    }

    /// Does one sweep. Looks into a gap only if the sweep before found it too, because most gaps are on their way
    /// through the event log.
    async fn sweep(&self, open_before: &mut BTreeSet<Slot>) -> Result<(), RefDbError> {
        let applied = self.low_water.durable();
        let incarnations = self.refdb.incarnations().await?;
        if let Some(evidence) = went_back::lanes(&applied, &incarnations) {
            self.went_back.tell(evidence);
            return Ok(());
        }
        self.low_water.listed(&incarnations);
        let open_now: BTreeSet<Slot> = incarnations.iter().flat_map(|incarnation| self.gaps(incarnation)).collect();
        let known: BTreeSet<IncarnationId> = incarnations.into_iter().map(|incarnation| incarnation.id).collect();
        let looks: Vec<Slot> = open_now.intersection(open_before).cloned().collect();
        let reads: Vec<_> = looks.into_iter().map(|slot| self.read(slot)).collect();
        let mut states = std::pin::pin!(stream::iter(reads).buffered(READS));
        while let Some((slot, state)) = states.try_next().await? {
            self.take(&slot, state).await;
        }
        let gone = self.low_water.forget(|lane| !known.contains(&lane.incarnation));
        if !gone.is_empty() {
            self.durability.stage(|changes| changes.forget_lanes.extend(gone));
        }
        *open_before = open_now;
        Ok(())
    }

    /// The slots of an incarnation that are published, or can never change, and are not done here. The
    /// transactions of a dead incarnation wait for no publisher.
    fn gaps(&self, incarnation: &IncarnationRecord) -> Vec<Slot> {
        let is_poisoned = incarnation.state == IncarnationState::Poisoned;
        let bounds = if is_poisoned { incarnation.ends() } else { incarnation.published.clone() };
        let lanes = incarnation.id.lanes(bounds);
        lanes.flat_map(|(lane, bound)| self.low_water.gaps(&lane, bound, MOST)).collect()
    }

    /// Reads one slot from the journal. A slot that is done meanwhile counts as empty.
    async fn read(&self, slot: Slot) -> Result<(Slot, SlotState), RefDbError> {
        let is_done = self.low_water.is_done(&slot);
        let state = if is_done { SlotState::Empty } else { self.refdb.journal.slot(&slot).await? };
        Ok((slot, state))
    }

    /// Notes a slot as done, or hands its transaction to the apply stage.
    async fn take(&self, slot: &Slot, state: SlotState) {
        match state {
            // A slot that is empty below a published mark was collected. That happens only below this node's own mark,
            // or before this node existed.
            SlotState::Poisoned | SlotState::Empty => self.low_water.done(slot),
            SlotState::Committed(_, bytes) => match Transaction::outlined(&bytes) {
                Ok(transaction) => self.sink.offer(Arc::new(transaction), bytes, None, None).await,
                Err(error) => self.observer.failed("sweep", &format!("slot {slot} cannot be decoded: {error}")),
            },
        }
    }
}
