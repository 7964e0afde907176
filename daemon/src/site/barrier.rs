//! When every open incarnation knows a transaction: the barrier before a project's writability is gone for good.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::{NodeId, Seq, TxnId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::links::Barrier;
use crate::refdb::{IncarnationState, RefDb, RefDbError};

/// Asks the registry until the barrier is passed.
pub struct RegistryBarrier {
    /// The refdb.
    pub refdb: Arc<dyn RefDb>,
    /// Makes this node's own marks known soon.
    pub nudge: Arc<Notify>,
    /// How long to wait at most.
    pub patience: Duration,
}

impl RegistryBarrier {
    /// Nodes with an incarnation that is not drained (a frozen one may hold copies that still land) whose low-water mark has not passed the transaction.
    async fn waiting_for(&self, txn: &TxnId) -> Result<Vec<NodeId>, RefDbError> {
        let nodes = self.refdb.nodes().await?;
        let mut open = Vec::new();
        for site in self.refdb.sites().await? {
            let records = self.refdb.incarnations(&site.site).await?;
            let those = records.into_iter().filter(|one| one.state != IncarnationState::Drained);
            open.extend(those.map(|one| one.id.node));
        }
        let knows = |node: &NodeId| {
            let record = nodes.iter().find(|one| one.node == *node);
            let mark = record.and_then(|one| one.low_water.get(&txn.slot.lane)).copied().unwrap_or(Seq(0));
            mark > txn.slot.seq
        };
        open.retain(|node| !knows(node));
        Ok(open)
    }
}

#[async_trait]
impl Barrier for RegistryBarrier {
    async fn passed(&self, txn: &TxnId) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        loop {
            self.nudge.notify_one();
            let waiting = match self.waiting_for(txn).await {
                Ok(waiting) if waiting.is_empty() => return Ok(()),
                Ok(waiting) => format!("nodes that have not applied it yet: {waiting:?}"),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= deadline {
                return Err(waiting);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}
