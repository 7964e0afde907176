//! Port: the commit stage waits until no incarnation can commit without knowing a transaction.

use async_trait::async_trait;
use lockstep_proto::{NodeId, TxnId};

use crate::seams::refdb::RefDbError;

/// Why the barrier did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// These nodes can still commit without knowing the transaction, and the time is over.
    #[error("nodes that have not applied it yet: {0:?}")]
    Timeout(Vec<NodeId>),
    /// The time is over, and the last call on the refdb failed.
    #[error(transparent)]
    RefDb(RefDbError),
}

/// The barrier of a project that is being closed. It reads the registry of sites, nodes and incarnations.
#[async_trait]
pub trait Barrier: Send + Sync {
    /// Waits until no open incarnation of any site can commit to the project without knowing this transaction.
    ///
    /// # Errors
    /// The barrier did not pass in time, or the refdb cannot be reached.
    async fn passed(&self, txn: &TxnId) -> Result<(), BarrierError>;
}
