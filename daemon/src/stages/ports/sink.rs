//! Port: a reader hands a transaction to the apply stage.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::Transaction;

use crate::state::signing::NotSigned;

/// Takes transactions to apply, from the consume stage and from every stage that finds one in the journal.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Takes a transaction with its encoded bytes. `done` is called once, when the transaction is applied, skipped,
    /// parked or quarantined; the next durable step makes that durable. Waits while too much is in progress. A record
    /// of a stream that must be signed, and is `unsigned` for this reason, counts only if the journal has the same.
    async fn offer(&self, transaction: Arc<Transaction>, bytes: Bytes, unsigned: Option<NotSigned>, done: Option<Done>);
}

/// Called once, when a transaction no longer needs its reader.
pub type Done = Box<dyn FnOnce() + Send + Sync>;
