//! A transaction on its way through the apply stage.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::{DecodeError, Transaction};

use crate::seams::volume::Held;
use crate::stages::ports::Done;

/// A transaction from the event log, the journal, or the parking parked.
pub struct Event {
    /// What it says.
    pub transaction: Arc<Transaction>,
    /// Its bytes as they came, for parking.
    pub bytes: Bytes,
    /// Since when it is parked, in milliseconds since 1970: for what was parked before this process started.
    pub parked_since_ms: Option<u64>,
    /// Whom to tell.
    pub done: Option<Done>,
}

impl Event {
    /// What was parked when the node stopped. It is as old as it was.
    ///
    /// # Errors
    /// Its bytes cannot be read.
    pub fn resumed(held: Held) -> Result<Self, DecodeError> {
        let transaction = Arc::new(Transaction::decode(&held.bytes)?);
        Ok(Self { transaction, bytes: held.bytes, parked_since_ms: Some(held.since_ms), done: None })
    }

    /// Tells the reader. The second call tells nobody.
    pub fn done(&mut self) {
        if let Some(done) = self.done.take() {
            done();
        }
    }
}
