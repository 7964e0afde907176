//! A transaction on its way through the apply stage.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::Transaction;

use crate::links::Done;

/// A transaction from the event log, the journal, or the parking lot.
pub struct Event {
    /// What it says.
    pub transaction: Arc<Transaction>,
    /// Its bytes as they came, for parking.
    pub bytes: Bytes,
    /// Whom to tell.
    pub done: Option<Done>,
}

impl Event {
    /// Tells the reader. The second call tells nobody.
    pub fn done(&mut self) {
        if let Some(done) = self.done.take() {
            done();
        }
    }
}
