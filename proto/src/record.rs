//! The records of the event log.

use crate::announcement::{Announcement, AnnouncementId};
use crate::decode_error::DecodeError;
use crate::transaction::wire;
use crate::transaction::{Locator, Transaction};

/// A decoded record of the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A transaction that the journal has, too.
    Transaction(Box<Transaction>),
    /// The locator of a committed transaction, whose long form is in the blob store.
    Located(Box<Locator>),
    /// A stream event in transit.
    Announcement(Box<Announcement>),
    /// The id of an announcement of a newer release, and why it cannot be read. It waits for an upgrade. The records
    /// after it do not wait.
    Later(AnnouncementId, String),
}

impl Record {
    /// Decodes bytes that came from the event log.
    ///
    /// # Errors
    /// [`DecodeError::Newer`] for an envelope that only a newer release understands. [`DecodeError::Bad`] for every
    /// other defect.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if let Some(locator) = Locator::decode(bytes)? {
            return Ok(Self::Located(Box::new(locator)));
        }
        if wire::carried(bytes)?.is_none() {
            return Ok(Self::Transaction(Box::new(Transaction::decode(bytes)?)));
        }
        match Announcement::decode(bytes) {
            Ok(announcement) => Ok(Self::Announcement(Box::new(announcement))),
            Err(DecodeError::Newer(why)) => {
                let carrier = Transaction::decode(bytes)?;
                Ok(Self::Later(AnnouncementId::of_txn(&carrier.id)?, why))
            }
            Err(bad @ (DecodeError::Bad(_) | DecodeError::Elsewhere(_))) => Err(bad),
        }
    }
}
