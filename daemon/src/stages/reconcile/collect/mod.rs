//! The collector: removes journal slots that every node has applied. Poisoned slots stay for ever.
//!
//! Each node collects the journals of all incarnations of its site, so those of dead nodes are collected too. The
//! living node with the lowest name collects those of sites that were removed from the list. Every step may be
//! repeated. A slot that a node still needs, and a slot whose collection fails, is left and remembered; the collection
//! goes on behind it. A collector that starts anew finds the first slot that is left by bisection. Slots that this
//! oversees are found at the end: the record of an incarnation is removed only after a look at each of its slots.
//!
//! A slot is read before it goes, because a blob or ref locks may depend on its content. The slots that this node knows
//! as plain ones ([`PlainSlots`]) go without that: they are most of its own transactions.
//!
//! | file | idea |
//! |---|---|
//! | `lane` | the collection of one lane, as far as this process knows it |
//! | `needed` | the journal entries that some node still needs although its marks have passed them |

mod lane;
mod needed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{IncarnationId, LaneId, NodeId, Pack, ProjectKey, Seq, SiteId, Slot, Transaction};
use tokio::time::sleep;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::blob::BlobStore;
use crate::seams::blob::long_form::LongForms;
use crate::seams::refdb::{FinishLocks, IncarnationRecord, IncarnationState, NodeRecord, RefDb, RefDbError, SlotState};
use crate::state::context::{NodeContext, NodeState};
use crate::state::gone_nodes::GoneNodes;
use crate::state::plain_slots::PlainSlots;
use crate::state::site_roles::SiteRoles;
use crate::state::went_back::WentBack;
use lane::LaneProgress;
use needed::{Kept, Needed};

/// Items per page, when the refs of a project are read.
const PAGE: usize = 1_000;

/// Collects the journals of one site.
pub struct Collector {
    /// The site whose journals are collected.
    site: SiteId,
    /// The name of this node.
    node: NodeId,
    /// Knows the sites that were removed from the list.
    roles: Arc<SiteRoles>,
    /// The nodes whose heartbeat stands still.
    gone: GoneNodes,
    /// The refdb, which has the nodes' low-water marks and the journals.
    refdb: RefDb,
    /// Ends the locks of a transaction before its slot goes.
    locks: Arc<dyn FinishLocks>,
    /// The store of packs, which are deleted with their slots.
    blobs: Arc<dyn BlobStore>,
    /// The long forms of transactions, which are deleted with their slots.
    long_forms: LongForms,
    /// The slots of this node that need no look before they go.
    plain: Arc<PlainSlots>,
    /// Receives every slot and every run that failed.
    observer: Arc<dyn Observer>,
    /// Whether the refdb is older than this node. Then nothing is removed.
    went_back: WentBack,
    /// The pause between two runs.
    pace: Duration,
    /// The injected bugs that a test switched on.
    bugs: InjectedBugs,
}

/// The fate of a slot whose collection was tried.
enum Fate {
    /// Nothing depends on it any more: it may be removed.
    Free,
    /// Some node still needs its transaction.
    Needed(Kept),
    /// It cannot be collected now: the reason.
    Stuck(String),
}

impl Collector {
    /// Creates the collector of this node's site.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, locks: Arc<dyn FinishLocks>, pace: Duration) -> Self {
        let (roles, gone, plain) = (Arc::clone(&state.roles), state.gone.clone(), Arc::clone(&state.plain_slots));
        let NodeContext { site, node, refdb, blobs, long_forms, observer, went_back, bugs, .. } = context.clone();
        Self { site, node, roles, gone, refdb, locks, blobs, long_forms, plain, observer, went_back, pace, bugs }
    }

    /// Collects periodically, until the task is aborted.
    pub async fn run(self) {
        let mut lanes = BTreeMap::new();
        loop {
            sleep(self.pace).await;
            if self.went_back.is_known() {
                continue;
            }
            if let Err(error) = self.collect(&mut lanes).await {
                self.observer.failed("collect", &error);
            }
        }
    }

    /// The sites whose journals this node collects.
    fn sites(&self, nodes: &[NodeRecord]) -> BTreeSet<SiteId> {
        let (gone, removed) = (self.gone.all(), self.roles.removed());
        // A node that reconciles beats, and does not collect yet.
        let lives = |node: &&NodeRecord| {
            let leaves = node.expelled || node.reconciles() || removed.contains(&node.site);
            !leaves && !gone.contains(&node.node)
        };
        let is_first = nodes.iter().filter(lives).map(|node| &node.node).min() == Some(&self.node);
        let left = removed.into_iter().filter(|_| is_first);
        left.chain([self.site.clone()]).collect()
    }

    /// Collects every lane of the sites once, and removes the records of drained incarnations that have no slots left.
    async fn collect(&self, lanes: &mut BTreeMap<LaneId, LaneProgress>) -> Result<(), RefDbError> {
        let nodes = self.refdb.nodes.nodes().await?;
        let needed = Needed::of(&nodes, self.bugs);
        let mut incarnations = Vec::new();
        for site in self.sites(&nodes) {
            incarnations.extend(self.refdb.incarnations.incarnations(&site).await?);
        }
        let mut over = Vec::new();
        for incarnation in &incarnations {
            match self.collect_incarnation(incarnation, &nodes, &needed, lanes).await {
                Ok(true) => over.push(incarnation.id.clone()),
                Ok(false) => {}
                // The others can be collected.
                Err(error @ RefDbError::Broken(_)) => self.observer.failed("collect", &error),
                Err(error) => return Err(error),
            }
        }
        lanes.retain(|lane, _| {
            incarnations.iter().any(|one| one.id == lane.incarnation) && !over.contains(&lane.incarnation)
        });
        let sites: BTreeSet<&SiteId> = incarnations.iter().map(|one| &one.site).collect();
        for site in sites {
            let of_site = incarnations.iter().filter(|one| one.site == *site && over.contains(&one.id));
            let ids: Vec<IncarnationId> = of_site.map(|one| one.id.clone()).collect();
            if !ids.is_empty() {
                self.refdb.incarnations.forget_incarnations(site, &ids).await?;
            }
        }
        Ok(())
    }

    /// Collects the lanes of an incarnation. Returns whether it is drained and has no slots left.
    async fn collect_incarnation(
        &self,
        incarnation: &IncarnationRecord,
        nodes: &[NodeRecord],
        needed: &Needed,
        lanes: &mut BTreeMap<LaneId, LaneProgress>,
    ) -> Result<bool, RefDbError> {
        let mut is_over = incarnation.state == IncarnationState::Drained;
        for (lane, published) in incarnation.id.lanes(&incarnation.published) {
            let until = self.limit(&lane, *published, nodes);
            let progress = lanes.entry(lane.clone()).or_default();
            self.collect_lane(&lane, until, needed, progress).await?;
            if self.bugs.has(InjectedBug::LongFormDroppedEarly) {
                self.drop_long_forms(&lane, until, *published).await?;
            }
            is_over &= until == *published;
            if self.bugs.has(InjectedBug::LeftoverForgotten) {
                continue;
            }
            is_over = is_over && self.has_nothing_left(&lane, until, progress).await?;
        }
        Ok(is_over)
    }

    /// With the injected bug `LongFormDroppedEarly`, deletes the long forms of these slots, which stay.
    async fn drop_long_forms(&self, lane: &LaneId, from: Seq, to: Seq) -> Result<(), RefDbError> {
        for slot in (from.0..to.0).map(|seq| lane.slot(Seq(seq))) {
            if let SlotState::Committed(_, bytes) = self.refdb.journal.slot(&slot).await? {
                let _ = self.long_forms.delete(&bytes).await;
            }
        }
        Ok(())
    }

    /// The position below which every slot of the lane is in the event log and applied at every node that is not
    /// expelled.
    fn limit(&self, lane: &LaneId, published: Seq, nodes: &[NodeRecord]) -> Seq {
        let marks = nodes.iter().filter(|node| !node.expelled).map(|node| node.mark(lane));
        let lowest = if self.bugs.has(InjectedBug::CollectBelowSlowNode) { marks.max() } else { marks.min() };
        lowest.unwrap_or(Seq(0)).min(published)
    }

    /// Releases everything that depends on a slot: the ref locks that name it, and its pack in the blob store.
    async fn let_go(&self, slot: &Slot, needed: &Needed) -> Result<Fate, RefDbError> {
        if let Some((txn, project)) = self.plain.find(slot) {
            let kept = Kept::new(txn, project);
            return Ok(if needed.has(&kept) { Fate::Needed(kept) } else { Fate::Free });
        }
        let SlotState::Committed(_, bytes) = self.refdb.journal.slot(slot).await? else { return Ok(Fate::Free) };
        let outline = match Transaction::outlined(&bytes) {
            Ok(outline) => outline,
            Err(error) => return Ok(Fate::Stuck(format!("it cannot be decoded: {error}"))),
        };
        let kept = Kept::of(&outline);
        if needed.has(&kept) {
            return Ok(Fate::Needed(kept));
        }
        let transaction = match self.long_forms.read(&bytes).await {
            Ok(transaction) => transaction,
            // An earlier run deleted the long form last, and ended before the slot was collected.
            Err(error) if error.is_absent() => return self.no_lock_is_left(&outline.project).await,
            Err(error) => return Ok(Fate::Stuck(format!("it cannot be read: {error}"))),
        };
        self.locks.finish(&transaction).await?;
        if let Pack::Blob { key, .. } = &transaction.pack
            && let Err(error) = self.blobs.delete(key).await
        {
            return Ok(Fate::Stuck(format!("its blob {key} cannot be deleted: {error}")));
        }
        match self.long_forms.delete(&bytes).await {
            Ok(()) => Ok(Fate::Free),
            Err(error) => Ok(Fate::Stuck(format!("its long form cannot be deleted: {error}"))),
        }
    }

    /// Reads all refs of the project of a transaction whose long form is gone. A lock that still named the transaction
    /// could not be decided, and would end this with an error.
    async fn no_lock_is_left(&self, project: &ProjectKey) -> Result<Fate, RefDbError> {
        let mut after = None;
        loop {
            let page = self.refdb.refs.scan(project, after.as_ref(), PAGE).await?;
            if page.len() < PAGE {
                return Ok(Fate::Free);
            }
            after = page.last().map(|item| item.key.clone());
        }
    }
}
