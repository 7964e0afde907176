//! The barrier: the wait until every open incarnation knows a transaction, before a project loses its writability for
//! good, or a name its directory mark.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::{NodeId, Seq, TxnId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::seams::refdb::{IncarnationRecord, RefDb, RefDbError};
use crate::stages::ports::{Barrier, BarrierError, Unaware};
use crate::state::context::NodeContext;

/// The barrier by means of the refdb: asks its registry of nodes and incarnations until the barrier is passed.
pub struct RegistryBarrier {
    /// The refdb with the registry.
    refdb: RefDb,
    /// Makes this node write its own low-water marks at once.
    nudge: Arc<Notify>,
}

impl RegistryBarrier {
    /// Creates a barrier. `nudge` makes this node write its low-water marks at once.
    #[must_use]
    pub fn new(context: &NodeContext, nudge: Arc<Notify>) -> Self {
        Self { refdb: context.refdb.clone(), nudge }
    }

    /// The nodes that have an incarnation in which something may still be committed, and whose low-water mark has not
    /// passed the transaction. A frozen incarnation counts, because late copies of its writes may still land. A
    /// poisoned one does not, although some of its slots may not be published: they were committed before.
    async fn waiting_for(&self, txn: &TxnId) -> Result<Vec<Unaware>, RefDbError> {
        let nodes = self.refdb.nodes.nodes().await?;
        let records = self.refdb.incarnations().await?;
        let knows = |node: &NodeId| {
            let record = nodes.iter().find(|one| one.node == *node);
            let mark = record.map_or(Seq(0), |one| one.mark(&txn.slot.lane));
            mark > txn.slot.seq
        };
        let open = records.into_iter().filter(IncarnationRecord::may_commit);
        let unaware = open.filter(|one| !knows(&one.id.node));
        Ok(unaware.map(|one| Unaware { node: one.id.node, site: one.site }).collect())
    }
}

#[async_trait]
impl Barrier for RegistryBarrier {
    async fn passed(&self, txn: &TxnId, patience: Duration) -> Result<(), BarrierError> {
        let deadline = Instant::now() + patience;
        loop {
            self.nudge.notify_one();
            let error = match self.waiting_for(txn).await {
                Ok(waiting) if waiting.is_empty() => return Ok(()),
                Ok(waiting) => BarrierError::Timeout(waiting),
                Err(error) => BarrierError::RefDb(error),
            };
            if Instant::now() >= deadline {
                return Err(error);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::seams::refdb::NodeRecord;

    const PATIENCE: Duration = Duration::from_secs(1);

    /// A node with an open incarnation, and a transaction of another node that it has not applied.
    async fn world() -> (RefDb, RegistryBarrier, IncarnationRecord, TxnId) {
        let context = NodeContext::in_memory();
        let (refdb, record) = (context.refdb.clone(), context.open_incarnation().await);
        let node = NodeRecord::first(context.node.as_str(), context.site.as_str());
        refdb.nodes.put_node(&node, None).await.unwrap();
        let barrier = RegistryBarrier::new(&context, Arc::default());
        (refdb, barrier, record, "m.1.0.4.00000000000000aa".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_until_nothing_can_land() {
        let (refdb, barrier, one, txn) = world().await;
        let why = barrier.passed(&txn, PATIENCE).await.expect_err("an open incarnation stops it").to_string();
        assert_eq!(why, "nodes that have not applied it yet: n of site s");
        refdb.incarnations.freeze(&one.site, &one.id).await.unwrap();
        assert!(barrier.passed(&txn, PATIENCE).await.is_err(), "frozen: writes in flight may still land");
        refdb.incarnations.poisoned(&one.site, &one.id).await.unwrap();
        assert_eq!(barrier.passed(&txn, PATIENCE).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn it_passes_whoever_has_applied_the_transaction() {
        let (refdb, barrier, _, txn) = world().await;
        let before = refdb.nodes.nodes().await.unwrap().remove(0);
        let mark = |seq| NodeRecord { low_water: [(txn.slot.lane.clone(), Seq(seq))].into(), ..before.clone() };
        refdb.nodes.put_node(&mark(4), Some(&before)).await.unwrap();
        assert!(barrier.passed(&txn, PATIENCE).await.is_err(), "the mark covers the slots below the transaction only");
        refdb.nodes.put_node(&mark(5), Some(&before)).await.unwrap();
        assert_eq!(barrier.passed(&txn, PATIENCE).await, Ok(()));
    }
}
