//! The collector: removes journal slots that every node has applied. Poisoned slots stay for ever.
//!
//! Each node collects the journals of all incarnations of its site, so those of dead nodes are collected too. Every
//! step may be repeated. The collector finds the first slot that is left by bisection, so it remembers nothing between
//! runs.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{LaneId, Pack, Seq, SiteId, Slot, Transaction};
use tokio::time::sleep;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::blob::BlobStore;
use crate::seams::blob::long_form::{LongFormError, LongForms};
use crate::seams::refdb::{FinishLocks, IncarnationState, NodeRecord, RefDb, RefDbError, SlotState};
use crate::state::context::NodeContext;
use crate::state::went_back::WentBack;

/// Slots that are collected in one call of the refdb.
const BATCH: u64 = 100;
/// Items per page, when the refs of a project are read.
const PAGE: usize = 1_000;

/// Collects the journals of one site.
pub struct Collector {
    /// The site whose journals are collected.
    site: SiteId,
    /// The refdb, which has the nodes' low-water marks and the journals.
    refdb: RefDb,
    /// Ends the locks of a transaction before its slot goes.
    locks: Arc<dyn FinishLocks>,
    /// The store of packs, which are deleted with their slots.
    blobs: Arc<dyn BlobStore>,
    /// The long forms of transactions, which are deleted with their slots.
    long_forms: LongForms,
    /// Receives every run that failed.
    observer: Arc<dyn Observer>,
    /// Whether the refdb is older than this node. Then nothing is removed.
    went_back: WentBack,
    /// The pause between two runs.
    pace: Duration,
    /// The injected bugs that a test switched on.
    bugs: InjectedBugs,
}

impl Collector {
    /// Creates the collector of this node's site.
    #[must_use]
    pub fn new(context: &NodeContext, locks: Arc<dyn FinishLocks>, pace: Duration) -> Self {
        let NodeContext { site, refdb, blobs, long_forms, observer, went_back, bugs, .. } = context.clone();
        Self { site, refdb, locks, blobs, long_forms, observer, went_back, pace, bugs }
    }

    /// Collects periodically, until the task is aborted.
    pub async fn run(self) {
        loop {
            sleep(self.pace).await;
            if self.went_back.is_known() {
                continue;
            }
            if let Err(error) = self.collect().await {
                self.observer.failed("collect", &error);
            }
        }
    }

    /// Collects every lane of the site once, and removes the records of drained incarnations that have no slots left.
    async fn collect(&self) -> Result<(), RefDbError> {
        let nodes = self.refdb.registry.nodes().await?;
        let mut over = Vec::new();
        for incarnation in self.refdb.registry.incarnations(&self.site).await? {
            let mut empty = incarnation.state == IncarnationState::Drained;
            for (lane, published) in incarnation.id.lanes(&incarnation.published) {
                let until = self.limit(&lane, *published, &nodes);
                self.collect_lane(&lane, until).await?;
                if self.bugs.has(InjectedBug::LongFormDroppedEarly) {
                    self.drop_long_forms(&lane, until, *published).await?;
                }
                empty &= until == *published;
            }
            if empty {
                over.push(incarnation.id);
            }
        }
        if over.is_empty() { Ok(()) } else { self.refdb.registry.forget_incarnations(&self.site, &over).await }
    }

    /// The position below which every slot of the lane is in the event log and applied at every node that is not
    /// expelled.
    fn limit(&self, lane: &LaneId, published: Seq, nodes: &[NodeRecord]) -> Seq {
        let marks =
            nodes.iter().filter(|node| !node.expelled).map(|node| node.low_water.get(lane).copied().unwrap_or(Seq(0)));
        let lowest = if self.bugs.has(InjectedBug::CollectBelowSlowNode) { marks.max() } else { marks.min() };
        lowest.unwrap_or(Seq(0)).min(published)
    }

    async fn collect_lane(&self, lane: &LaneId, until: Seq) -> Result<(), RefDbError> {
        let mut from = self.first_left(lane, until).await?.0;
        while from < until.0 {
            let to = (from + BATCH).min(until.0);
            let slots: Vec<Slot> = (from..to).map(|seq| lane.slot(Seq(seq))).collect();
            for slot in &slots {
                self.let_go(slot).await?;
            }
            self.refdb.journal.collect(&slots).await?;
            from = to;
        }
        Ok(())
    }

    /// With the injected bug `LongFormDroppedEarly`, deletes the long forms of these slots, which stay.
    async fn drop_long_forms(&self, lane: &LaneId, from: Seq, to: Seq) -> Result<(), RefDbError> {
        for slot in (from.0..to.0).map(|seq| lane.slot(Seq(seq))) {
            if let SlotState::Committed(_, bytes) = self.refdb.journal.slot(&slot).await? {
                self.long_forms.delete(&bytes).await.map_err(|error| not_collected(&slot, &error))?;
            }
        }
        Ok(())
    }

    /// The first slot that may still be there. Collected slots are empty, from the beginning of the lane on.
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

    /// Releases everything that depends on a slot: the ref locks that name it, and its pack in the blob store.
    async fn let_go(&self, slot: &Slot) -> Result<(), RefDbError> {
        let SlotState::Committed(_, bytes) = self.refdb.journal.slot(slot).await? else { return Ok(()) };
        let transaction = match self.long_forms.read(&bytes).await {
            // An earlier run deleted the long form last, and ended before the slot was collected.
            Err(error) if error.is_absent() => return self.no_lock_is_left(&bytes).await,
            read => read.map_err(|error| not_collected(slot, &error))?,
        };
        self.locks.finish(&transaction).await?;
        if let Pack::Blob { key, .. } = &transaction.pack {
            self.blobs.delete(key).await.map_err(|error| RefDbError::NotNow(error.to_string()))?;
        }
        self.long_forms.delete(&bytes).await.map_err(|error| not_collected(slot, &error))
    }

    /// Reads all refs of the project of a transaction whose long form is gone. A lock that still named the transaction
    /// could not be decided, and would end this with an error.
    async fn no_lock_is_left(&self, bytes: &[u8]) -> Result<(), RefDbError> {
        let outline = Transaction::outlined(bytes).map_err(|error| RefDbError::Broken(error.to_string()))?;
        let mut after = None;
        loop {
            let page = self.refdb.refs.scan(&outline.project, after.as_ref(), PAGE).await?;
            if page.len() < PAGE {
                return Ok(());
            }
            after = page.last().map(|item| item.key.clone());
        }
    }
}

fn not_collected(slot: &Slot, error: &LongFormError) -> RefDbError {
    let why = format!("slot {slot} is not collected, it cannot be read: {error}");
    if error.is_bad() { RefDbError::Broken(why) } else { RefDbError::NotNow(why) }
}
