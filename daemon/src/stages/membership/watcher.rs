//! The watcher looks after nodes that seem to be gone: it fences their incarnations, decides who publishes what they
//! left, poisons the slots of locks that they left, and expels those that are away for too long.
//!
//! Safety never depends on its view. It runs apart from the heartbeats, so nothing that it waits for can stop them.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::freeze_and_poison::Fencer;
use super::heir::{Gone, heir};
use super::lease::Leases;
use super::member::MemberLimits;
use super::met_locks::NotedLocks;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{IncarnationRecord, IncarnationState, NodeRecord, RefDb, RefDbError};
use crate::stages::ports::Leftovers;
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::gone_nodes::GoneNodes;
use crate::state::journal::Journal;
use crate::state::went_back::{Evidence, WentBack};

/// The journal of the running incarnation, if one is open.
pub type Running = Arc<Mutex<Option<Arc<Journal>>>>;

/// Watches the other nodes on behalf of one node.
pub struct Watcher {
    /// The site of this node.
    site: SiteId,
    /// The name of this node.
    node: NodeId,
    /// The refdb with the registry of nodes and incarnations.
    refdb: RefDb,
    /// Learns from the records of other nodes which transactions they hold as bad.
    debts: Arc<Debts>,
    /// Fences the incarnations of nodes that are gone.
    fencer: Fencer,
    /// Publishes what dead incarnations left.
    leftovers: Arc<dyn Leftovers>,
    /// The locks that stood in the way of a commit.
    locks: Arc<NotedLocks>,
    /// Receives each failure.
    observer: Arc<dyn Observer>,
    /// The journal of this node's running incarnation, which the node publishes itself.
    running: Running,
    /// Cancelled when this node is fenced, and when it ends.
    fenced: CancellationToken,
    ended: CancellationToken,
    /// Whether the refdb is older than this node.
    went_back: WentBack,
    /// Receives the nodes whose heartbeat stands still.
    gone: GoneNodes,
    limits: MemberLimits,
    /// Defects that a test has switched on.
    bugs: InjectedBugs,
}

/// The heartbeats of all nodes as one watcher has seen them, against each of the three leases.
#[derive(Default)]
struct Views {
    lease: Leases,
    elsewhere: Leases,
    retention: Leases,
}

impl Watcher {
    /// Creates the watcher of a node.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        fencer: Fencer,
        leftovers: Arc<dyn Leftovers>,
        locks: Arc<NotedLocks>,
        running: Running,
        gone: GoneNodes,
        limits: MemberLimits,
    ) -> Self {
        let NodeContext { site, node, refdb, observer, fenced, went_back, bugs, .. } = context.clone();
        let (ended, debts) = (context.tasks.cancelled(), Arc::clone(&state.debts));
        Self {
            site,
            node,
            refdb,
            debts,
            fencer,
            leftovers,
            locks,
            observer,
            running,
            fenced,
            ended,
            went_back,
            gone,
            limits,
            bugs,
        }
    }

    fn ends(&self) -> bool {
        self.fenced.is_cancelled() || self.ended.is_cancelled()
    }

    /// Watches until the task is aborted, the node is fenced, or it ends.
    pub async fn run(self) {
        let mut views = Views::default();
        while !self.ends() {
            if let Err(why) = self.watch(&mut views).await {
                self.observer.failed("member", &why);
            }
            sleep(self.limits.beat).await;
        }
    }

    /// One round. A step that fails for one node is tried again in the next round, and holds up no other step.
    async fn watch(&self, views: &mut Views) -> Result<(), RefDbError> {
        if self.went_back.is_known() {
            self.leftovers.publish(Vec::new());
            return Ok(());
        }
        if let Some(declared) = self.refdb.registry.went_back().await? {
            self.went_back.tell(Evidence::Declared { by: declared.by, why: declared.why });
            return Ok(());
        }
        let nodes = self.refdb.registry.nodes().await?;
        self.debts.seen(&self.node, &nodes);
        let (now, limits) = (Instant::now(), &self.limits);
        let others = |gone: Vec<NodeId>| gone.into_iter().filter(|node| *node != self.node).collect::<BTreeSet<_>>();
        let gone = Gone {
            lately: others(views.lease.expired(&nodes, now, limits.lease)),
            long: others(views.elsewhere.expired(&nodes, now, limits.elsewhere)),
        };
        self.gone.set(gone.lately.clone());
        let away = others(views.retention.expired(&nodes, now, limits.retention));
        self.poison_locks(&gone).await;
        let records = self.refdb.incarnations().await?;
        let adopted = self.adopt(&records, &gone).await;
        for node in nodes.iter().filter(|node| away.contains(&node.node) && !node.expelled) {
            if let Err(why) = self.expel(node, &records).await {
                self.observer.failed("member", &why);
            }
        }
        let records = if adopted { self.refdb.incarnations().await? } else { records };
        let left = records.into_iter().filter(|one| one.state == IncarnationState::Poisoned);
        let own = self.running.lock().as_ref().map(|journal| journal.id().clone());
        let mine = left.filter(|one| own != Some(one.id.clone()) && heir(one, &nodes, &gone) == Some(&self.node));
        self.leftovers.publish(if self.ends() { Vec::new() } else { mine.collect() });
        Ok(())
    }

    /// Fences the incarnations of siblings that are gone, and of nodes elsewhere that are gone for long. Answers
    /// whether there were any.
    async fn adopt(&self, records: &[IncarnationRecord], gone: &Gone) -> bool {
        let mut adopted = false;
        for one in records.iter().filter(|one| one.may_commit()) {
            let dead = if one.site == self.site { &gone.lately } else { &gone.long };
            let is_left = one.site != self.site && self.bugs.has(InjectedBug::NobodyElseAdopts);
            if !dead.contains(&one.id.node) || is_left {
                continue;
            }
            tracing::warn!(incarnation = %one.id, "the node of this incarnation is gone; adopting its journal");
            adopted = true;
            if let Err(why) = self.fencer.fence_once(&one.site, &one.id, |_, _| {}).await {
                self.observer.failed("member", &why);
            }
        }
        adopted
    }

    /// Poisons the slots of locks that a commit has met, and whose owner is gone. Then the locks are void, and the next
    /// commit that meets them removes them.
    async fn poison_locks(&self, gone: &Gone) {
        for lock in self.locks.take() {
            if !gone.lately.contains(&lock.slot.lane.incarnation.node) {
                continue;
            }
            tracing::warn!(%lock, "the node of a transaction that locks refs is gone; poisoning its slot");
            if let Err(why) = self.refdb.journal.poison(&lock.slot).await {
                self.observer.failed("member", &why);
            }
        }
    }

    /// Expels a node, for which nothing is kept any more. Its incarnations are fenced first, so that it notices.
    async fn expel(&self, away: &NodeRecord, records: &[IncarnationRecord]) -> Result<(), RefDbError> {
        for one in records.iter().filter(|one| one.id.node == away.node && one.may_commit()) {
            self.fencer.fence_once(&away.site, &one.id, |_, _| {}).await?;
        }
        tracing::error!(node = %away.node, "away for too long and expelled; it reconciles when it comes back");
        let expelled = NodeRecord { expelled: true, ..away.clone() };
        self.refdb.registry.put_node(&expelled, Some(away)).await?;
        Ok(())
    }
}
