//! A transaction on its way through the apply stage.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::{DecodeError, Transaction};

use crate::seams::volume::Held;
use crate::stages::ports::Done;
use crate::state::signing::NotSigned;

/// A transaction from the event log or the journal, or one that was parked when the node stopped.
pub struct Event {
    /// The decoded transaction. In a stub it has no pack. If the bytes are a locator whose long form was not read yet,
    /// it is the outline.
    pub transaction: Arc<Transaction>,
    /// Its bytes as they came, for parking. Empty in a stub, whose bytes are in the store alone.
    pub bytes: Bytes,
    /// Why its signature is not good. If so, only the journal can tell whether it was committed. The writer asks it
    /// before anything else, so an event that is planned, parked or applied has none.
    pub unsigned: Option<NotSigned>,
    /// Since when it has been parked, in milliseconds since 1970. Set if it was parked before this process started.
    pub parked_since_ms: Option<u64>,
    /// Called when the transaction no longer needs its reader. None after the call, or if there is no reader.
    pub done: Option<Done>,
}

impl Event {
    /// Takes up a transaction that was parked when the node stopped. It keeps its age.
    ///
    /// # Errors
    /// Its bytes cannot be decoded.
    pub fn resumed(held: Held) -> Result<Self, DecodeError> {
        let transaction = Arc::new(Transaction::outlined(&held.bytes)?);
        Ok(Self { transaction, bytes: held.bytes, unsigned: None, parked_since_ms: Some(held.since_ms), done: None })
    }

    /// Tells the reader that the transaction no longer needs it. Only the first call has an effect.
    pub fn done(&mut self) {
        if let Some(done) = self.done.take() {
            done();
        }
    }
}
