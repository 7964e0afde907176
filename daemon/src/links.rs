//! What the stages need of each other, as traits: they do not know each other, `app` joins them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{ProjectKey, ProjectName, RefKey, Transaction, TxnId};

/// The commit stage needs the apply stage to know what it did not know.
#[async_trait]
pub trait CatchUp: Send + Sync {
    /// Brings these keys, and every transaction that they rest on, up to the refdb. Takes ref locks itself.
    ///
    /// # Errors
    /// The refdb is away, or something is missing: why.
    async fn keys(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<(), String>;

    /// Learns a project's state from the refdb, and applies it.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn project(&self, project: &ProjectName) -> Result<(), String>;

    /// Brings every project up to the refdb: after an expulsion, a lost stream, a restored volume.
    ///
    /// # Errors
    /// As [`CatchUp::keys`].
    async fn everything(&self) -> Result<(), String>;

    /// The same as `keys`, in the background, until it succeeds.
    fn later(&self, project: &ProjectKey, keys: Vec<RefKey>);
}

/// The commit stage needs the sites' registry for the barrier of a project that is taken out of service.
#[async_trait]
pub trait Barrier: Send + Sync {
    /// Waits until no open incarnation of any site can commit to the project without knowing this transaction.
    ///
    /// # Errors
    /// It did not happen in time, or the refdb is away: why.
    async fn passed(&self, txn: &TxnId) -> Result<(), String>;
}

/// The consume stage, and whoever finds a transaction in the journal, need the apply stage to take it.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Takes a transaction with its bytes. `done` is called once, when it is applied, skipped, parked or quarantined, and
    /// the next durable step makes that durable. Waits while too much is under way.
    async fn offer(&self, transaction: Arc<Transaction>, bytes: Bytes, done: Option<Done>);
}

/// Called once when a transaction needs its reader no longer.
pub type Done = Box<dyn FnOnce() + Send + Sync>;
