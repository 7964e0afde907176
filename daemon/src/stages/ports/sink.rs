//! How a reader hands a transaction to the apply stage.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::Transaction;

/// The consume stage, and whoever finds a transaction in the journal, need the apply stage to take it.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Takes a transaction with its bytes. `done` is called once, when it is applied, skipped, parked or quarantined, and
    /// the next durable step makes that durable. Waits while too much is under way.
    async fn offer(&self, transaction: Arc<Transaction>, bytes: Bytes, done: Option<Done>);
}

/// Called once when a transaction needs its reader no longer.
pub type Done = Box<dyn FnOnce() + Send + Sync>;
