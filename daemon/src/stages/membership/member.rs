//! The membership of a node: it writes heartbeats and low-water marks, adopts the journals of dead siblings, and expels
//! nodes that are away for too long.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::freeze_and_drain::Drainer;
use super::lease::Leases;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{IncarnationState, NodeAnswer, NodeRecord, RefDb, RefDbError};
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::low_water::LowWater;
use crate::state::low_water_extent::Extent;

/// The intervals and deadlines of membership.
#[derive(Clone, Copy, Debug)]
pub struct MemberLimits {
    /// Interval between the heartbeats of a node.
    pub beat: Duration,
    /// How long a heartbeat may stand still before a sibling adopts the journal.
    pub lease: Duration,
    /// How long a heartbeat may stand still before the node is expelled and nothing is kept for it any more.
    pub retention: Duration,
}

impl Default for MemberLimits {
    fn default() -> Self {
        let (beat, lease) = (Duration::from_secs(3), Duration::from_secs(15));
        Self { beat, lease, retention: Duration::from_secs(5 * 24 * 3600) }
    }
}

/// Why a round of membership failed.
#[derive(Debug, thiserror::Error)]
enum MemberError {
    /// The refdb failed, or a drain that reads it.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// This node's record is now another one.
    #[error("another process has changed this node's record ({0:?}); this node stops")]
    Fenced(Box<NodeRecord>),
}

/// The membership of one node, with its record in the refdb.
pub struct Member {
    /// The site of this node.
    site: SiteId,
    /// The name of this node.
    node: NodeId,
    /// The refdb with the registry of nodes and incarnations.
    refdb: RefDb,
    /// The low-water marks of this node.
    low_water: Arc<LowWater>,
    /// The debts of this node, which its record names, and those of the other nodes.
    debts: Arc<Debts>,
    /// Drains the incarnations that this node adopts.
    drainer: Drainer,
    /// The node's record as it was last written.
    record: Mutex<NodeRecord>,
    /// Cancelled when another process has changed this node's record: the node was expelled, or its volume is used
    /// elsewhere.
    fenced: CancellationToken,
    /// Receives each round that failed.
    observer: Arc<dyn Observer>,
    /// Makes the node write a heartbeat at once.
    nudge: Arc<Notify>,
    /// Times of heartbeats, leases and retention.
    limits: MemberLimits,
    /// Defects that a test has switched on.
    bugs: InjectedBugs,
}

impl Member {
    /// Creates the membership of a node whose record was just written. `nudge` makes it write a heartbeat at once.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        drainer: Drainer,
        record: NodeRecord,
        nudge: Arc<Notify>,
        limits: MemberLimits,
    ) -> Self {
        let NodeContext { site, node, refdb, observer, fenced, bugs, .. } = context.clone();
        let (low_water, record, debts) = (Arc::clone(&state.low_water), Mutex::new(record), Arc::clone(&state.debts));
        Self { site, node, refdb, low_water, debts, drainer, record, fenced, observer, nudge, limits, bugs }
    }

    /// Writes heartbeats and watches the other nodes, until the task is aborted.
    pub async fn run(self) {
        let mut leases = Leases::default();
        let mut retention = Leases::default();
        loop {
            let _ = timeout(self.limits.beat, self.nudge.notified()).await;
            if let Err(why) = self.beat().await {
                self.observer.failed("member", &why);
                continue;
            }
            if let Err(why) = self.watch(&mut leases, &mut retention).await {
                self.observer.failed("member", &why);
            }
        }
    }

    /// Writes this node's record with a new heartbeat and the durable low-water marks.
    async fn beat(&self) -> Result<(), MemberError> {
        let previous = self.record.lock().clone();
        let Extent { low_water, whole } = self.low_water.extent();
        let needs = self.debts.needs();
        let next = NodeRecord { beat: previous.beat + 1, low_water, whole, needs, ..previous.clone() };
        match self.refdb.registry.put_node(&next, Some(&previous)).await? {
            NodeAnswer::Written => {
                *self.record.lock() = next;
                Ok(())
            }
            NodeAnswer::Differs(_) if self.bugs.has(InjectedBug::PausedNodeGoesOn) => Ok(()),
            NodeAnswer::Differs(now) => {
                self.fenced.cancel();
                Err(MemberError::Fenced(Box::new(now)))
            }
        }
    }

    /// Adopts siblings whose lease is over, and expels nodes that are away for longer than the retention.
    async fn watch(&self, leases: &mut Leases, retention: &mut Leases) -> Result<(), MemberError> {
        let nodes = self.refdb.registry.nodes().await?;
        self.debts.seen(&self.node, &nodes);
        let gone = leases.expired(&nodes, Instant::now(), self.limits.lease);
        let siblings = nodes.iter().filter(|node| node.site == self.site && node.node != self.node);
        let dead: Vec<NodeId> = siblings.map(|node| node.node.clone()).filter(|node| gone.contains(node)).collect();
        if !dead.is_empty() {
            self.adopt(&dead).await?;
        }
        for node in retention.expired(&nodes, Instant::now(), self.limits.retention) {
            let away = nodes.iter().find(|one| one.node == node && !one.expelled && node != self.node);
            if let Some(away) = away {
                self.expel(away).await?;
            }
        }
        Ok(())
    }

    async fn adopt(&self, dead: &[NodeId]) -> Result<(), MemberError> {
        let open = self.refdb.registry.incarnations(&self.site).await?;
        let theirs = open.iter().filter(|one| dead.contains(&one.id.node) && one.state != IncarnationState::Drained);
        for incarnation in theirs {
            tracing::warn!(incarnation = %incarnation.id, "the node of this incarnation is gone; adopting its journal");
            self.drainer.drain(&self.site, &incarnation.id).await?;
        }
        Ok(())
    }

    /// Expels a node, for which nothing is kept any more. Its incarnations are drained first, so that it notices.
    async fn expel(&self, away: &NodeRecord) -> Result<(), MemberError> {
        let open = self.refdb.registry.incarnations(&away.site).await?;
        let theirs = open.iter().filter(|one| one.id.node == away.node && one.state != IncarnationState::Drained);
        for incarnation in theirs {
            self.drainer.drain(&away.site, &incarnation.id).await?;
        }
        tracing::error!(node = %away.node, "away for too long and expelled; it reconciles when it comes back");
        let expelled = NodeRecord { expelled: true, ..away.clone() };
        self.refdb.registry.put_node(&expelled, Some(away)).await?;
        Ok(())
    }
}
