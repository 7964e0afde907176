//! A node among the others: it beats, says how far it has applied, and adopts the journals of dead siblings.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::drain::Drainer;
use super::lease::Leases;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{IncarnationState, NodeAnswer, NodeRecord, RefDb};
use crate::state::low_water::LowWater;

/// Bounds of membership.
#[derive(Clone, Copy, Debug)]
pub struct MemberLimits {
    /// How often a node beats.
    pub beat: Duration,
    /// How long a beat may stand still before a sibling adopts the journal.
    pub lease: Duration,
    /// How long a beat may stand still before nothing is kept for the node any more.
    pub retention: Duration,
}

impl Default for MemberLimits {
    fn default() -> Self {
        let (beat, lease) = (Duration::from_secs(3), Duration::from_secs(15));
        Self { beat, lease, retention: Duration::from_secs(5 * 24 * 3600) }
    }
}

/// The membership of one node.
pub struct Member {
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// The refdb.
    pub refdb: Arc<dyn RefDb>,
    /// How far this node has applied.
    pub low_water: Arc<LowWater>,
    /// Drains what is adopted.
    pub drainer: Drainer,
    /// The node's record as it was last written.
    pub record: Mutex<NodeRecord>,
    /// Called when this node is no longer what it thinks: expelled, or its volume is used elsewhere.
    pub fenced: Arc<dyn Fn() + Send + Sync>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// Beat now.
    pub nudge: Arc<Notify>,
    /// Bounds.
    pub limits: MemberLimits,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

impl Member {
    /// Beats and watches until it is aborted.
    pub async fn run(self: Arc<Self>) {
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

    /// Writes this node's record: a new beat, the durable low-water marks.
    async fn beat(&self) -> Result<(), String> {
        let previous = self.record.lock().clone();
        let next = NodeRecord { beat: previous.beat + 1, low_water: self.low_water.durable(), ..previous.clone() };
        match self.refdb.put_node(&next, Some(&previous)).await.map_err(|error| error.to_string())? {
            NodeAnswer::Written => {
                *self.record.lock() = next;
                Ok(())
            }
            NodeAnswer::Differs(_) if self.bugs.has(InjectedBug::PausedNodeGoesOn) => Ok(()),
            NodeAnswer::Differs(now) => {
                (self.fenced)();
                Err(format!("this node's record was changed by somebody else ({now:?}): it stops"))
            }
        }
    }

    /// Adopts siblings whose lease is gone, and expels nodes that are away beyond retention.
    async fn watch(&self, leases: &mut Leases, retention: &mut Leases) -> Result<(), String> {
        let nodes = self.refdb.nodes().await.map_err(|error| error.to_string())?;
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

    async fn adopt(&self, dead: &[NodeId]) -> Result<(), String> {
        let open = self.refdb.incarnations(&self.site).await.map_err(|error| error.to_string())?;
        let theirs = open.iter().filter(|one| dead.contains(&one.id.node) && one.state != IncarnationState::Drained);
        for incarnation in theirs {
            tracing::warn!(incarnation = %incarnation.id, "its node is gone: adopting its journal");
            self.drainer.drain(&self.site, &incarnation.id).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Nothing is kept for a node any more; its incarnations are frozen first, so that it notices.
    async fn expel(&self, away: &NodeRecord) -> Result<(), String> {
        let open = self.refdb.incarnations(&away.site).await.map_err(|error| error.to_string())?;
        let theirs = open.iter().filter(|one| one.id.node == away.node && one.state != IncarnationState::Drained);
        for incarnation in theirs {
            self.drainer.drain(&away.site, &incarnation.id).await.map_err(|error| error.to_string())?;
        }
        tracing::error!(node = %away.node, "away beyond retention: expelled, it reconciles when it comes back");
        let expelled = NodeRecord { expelled: true, ..away.clone() };
        self.refdb.put_node(&expelled, Some(away)).await.map_err(|error| error.to_string())?;
        Ok(())
    }
}
