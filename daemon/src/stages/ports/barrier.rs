//! Port: the commit stage waits until no incarnation can commit without knowing a transaction.

use async_trait::async_trait;
use lockstep_proto::TxnId;

/// The barrier of a project that is being closed. It reads the registry of sites, nodes and incarnations.
#[async_trait]
pub trait Barrier: Send + Sync {
    /// Waits until no open incarnation of any site can commit to the project without knowing this transaction.
    ///
    /// # Errors
    /// The barrier did not pass in time, or the refdb cannot be reached. The text says why.
    async fn passed(&self, txn: &TxnId) -> Result<(), String>;
}
