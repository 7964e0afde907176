//! Judges one record that is read again.

use lockstep_proto::{Record, SiteId, Transaction};

use super::Replayer;
use crate::seams::blob::long_form::LongFormError;
use crate::seams::volume::StoreError;

/// The judgement on a record.
#[derive(Debug)]
pub(super) enum Judgement {
    /// Nothing is left to do of the transaction.
    Applied,
    /// It is handed to the apply stage: the transaction as the stream has it, and as a whole.
    Changing(Box<(Transaction, Transaction)>),
    /// It is a stream event.
    Event,
    /// It is passed over: it cannot be read, has no good signature, or is of another refdb.
    PassedOver,
}

/// Why nothing is known about a record.
#[derive(Debug, thiserror::Error)]
pub(super) enum JudgeError {
    /// The version map failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The long form of a transaction cannot be read now.
    #[error(transparent)]
    LongForm(#[from] LongFormError),
}

impl Replayer {
    /// Judges a record by the version map. An error is never taken for "applied".
    pub(super) async fn judge(&self, data: &[u8]) -> Result<Judgement, JudgeError> {
        let transaction = match Record::decode(data) {
            Ok(Record::Transaction(transaction)) => *transaction,
            Ok(Record::Located(locator)) => locator.outline(),
            Ok(Record::Announcement(_) | Record::Later(..)) => return Ok(Judgement::Event),
            Err(_) => return Ok(Judgement::PassedOver),
        };
        if self.is_unsigned(&transaction.site, data) || self.is_of_other_refdb(&transaction) {
            return Ok(Judgement::PassedOver);
        }
        if self.versions.has_applied(&transaction)? {
            return Ok(Judgement::Applied);
        }
        let whole = match transaction.is_whole() {
            true => transaction.clone(),
            false => match self.long_forms.read(data).await {
                Ok(whole) => whole,
                // It was deleted when the slot was collected, or is damaged: nothing can be applied.
                Err(error) if error.is_absent() || error.is_bad() => return Ok(Judgement::PassedOver),
                Err(error) => return Err(error.into()),
            },
        };
        Ok(match self.versions.has_applied(&whole)? {
            true => Judgement::Applied,
            false => Judgement::Changing(Box::new((transaction, whole))),
        })
    }

    fn is_unsigned(&self, site: &SiteId, data: &[u8]) -> bool {
        self.signing.is_required() && self.signing.verify(Some(site), data).is_err()
    }

    /// Whether a transaction was committed in a refdb from which the present one was rebuilt. The apply stage passes
    /// over it, too.
    fn is_of_other_refdb(&self, transaction: &Transaction) -> bool {
        transaction.id.slot.lane.incarnation.number.0 <= self.bound.floor()
    }
}
