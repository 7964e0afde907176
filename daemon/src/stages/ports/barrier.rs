//! How the commit stage waits until no incarnation can commit without knowing a transaction.

use async_trait::async_trait;
use lockstep_proto::TxnId;

/// The commit stage needs the sites' registry for the barrier of a project that is taken out of service.
#[async_trait]
pub trait Barrier: Send + Sync {
    /// Waits until no open incarnation of any site can commit to the project without knowing this transaction.
    ///
    /// # Errors
    /// It did not happen in time, or the refdb is away: why.
    async fn passed(&self, txn: &TxnId) -> Result<(), String>;
}
