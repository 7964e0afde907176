//! What a record of the event log is.

use crate::announcement::{Announcement, AnnouncementId};
use crate::decode_error::DecodeError;
use crate::transaction::Transaction;
use crate::transaction::wire;

/// A record of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A committed transaction.
    Transaction(Box<Transaction>),
    /// A stream event on its way.
    Announcement(Box<Announcement>),
    /// An announcement of a newer release, by its id: it waits for an upgrade, and the record behind it does not.
    Later(AnnouncementId, String),
}

impl Record {
    /// Reads bytes that came from the event log.
    ///
    /// # Errors
    /// [`DecodeError::Newer`] for an envelope that only a newer release understands, [`DecodeError::Bad`] for everything
    /// else that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if wire::carried(bytes)?.is_none() {
            return Ok(Self::Transaction(Box::new(Transaction::decode(bytes)?)));
        }
        match Announcement::decode(bytes) {
            Ok(announcement) => Ok(Self::Announcement(Box::new(announcement))),
            Err(DecodeError::Newer(why)) => {
                let carrier = Transaction::decode(bytes)?;
                Ok(Self::Later(AnnouncementId::of_txn(&carrier.id)?, why))
            }
            Err(bad @ DecodeError::Bad(_)) => Err(bad),
        }
    }
}
