//! The long forms of transactions that do not fit into a journal slot.
//!
//! The writer stores the long form before anything of the transaction is sent to the refdb, and puts a [`Locator`] into
//! the slot and into the event log. A reader of either asks here for the whole transaction.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::transaction::signature::SIGNATURE_BYTES;
use lockstep_proto::{DecodeError, Locator, Transaction, limits};
use sha2::{Digest, Sha256};

use super::{BlobError, BlobStore, Payload};

/// Stores and reads long forms. Clones share the blob store.
#[derive(Clone)]
pub struct LongForms {
    blobs: Arc<dyn BlobStore>,
    /// The folder for long forms that arrive.
    spill: PathBuf,
    /// The most commands of a transaction that travels without a locator.
    inline_commands: usize,
    /// The bytes of a slot that stay free for a signature.
    free: usize,
}

/// Why the whole transaction cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LongFormError {
    /// The blob store does not have the long form, has another one, or does not answer.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The bytes of the slot, or those of the long form, are not a transaction.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl LongFormError {
    /// Whether the blob store says that it has no such long form.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Blob(BlobError::Absent(_)))
    }

    /// Whether the content is wrong, so that no retry helps.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        matches!(
            self,
            Self::Blob(BlobError::Bad { .. }) | Self::Decode(DecodeError::Bad(_) | DecodeError::Elsewhere(_))
        )
    }
}

impl LongForms {
    /// Long forms in `blobs`, read through the folder `spill`. Transactions of more than `inline_commands` commands
    /// have one, and those that exceed a cap of the slot.
    #[must_use]
    pub fn new(blobs: Arc<dyn BlobStore>, spill: PathBuf, inline_commands: usize) -> Self {
        Self { blobs, spill, inline_commands: inline_commands.min(limits::INLINE_COMMANDS), free: 0 }
    }

    /// The same, for a node that signs its slots.
    #[must_use]
    pub fn for_signed_slots(self) -> Self {
        Self { free: SIGNATURE_BYTES, ..self }
    }

    /// The bytes for the slot of a transaction. If they are a locator, its long form is in the blob store when this
    /// returns. Copies of one commit get the same bytes.
    ///
    /// # Errors
    /// The blob store did not take the long form.
    pub async fn store(&self, transaction: &Transaction, encoded: Bytes) -> Result<Bytes, BlobError> {
        let Some(locator) = self.locator(transaction, &encoded) else { return Ok(encoded) };
        self.blobs.put(&locator.key, &Payload::Memory(encoded)).await?;
        Ok(locator.encode())
    }

    /// The locator of a transaction that does not fit into its slot. None if it fits.
    #[must_use]
    pub fn locator(&self, transaction: &Transaction, encoded: &Bytes) -> Option<Locator> {
        let fits = transaction.commands.len() <= self.inline_commands
            && encoded.len() + self.free <= limits::TRANSACTION_BYTES
            && Transaction::fits_inline(encoded);
        (!fits).then(|| Locator::of(transaction, encoded.len() as u64, Sha256::digest(encoded).into()))
    }

    /// The whole transaction of a slot or a record.
    ///
    /// # Errors
    /// See [`LongFormError`].
    pub async fn read(&self, bytes: &[u8]) -> Result<Transaction, LongFormError> {
        let locator = match Transaction::decode(bytes) {
            Err(DecodeError::Elsewhere(_)) => Locator::decode(bytes)?,
            end => return Ok(end?),
        };
        let Some(locator) = locator else { return Err(DecodeError::Bad("it has no locator".into()).into()) };
        let payload = self.blobs.get(&locator.key, locator.bytes, &locator.sha256, &self.spill).await?;
        Ok(match payload {
            Payload::Memory(long_form) => locator.resolve(&long_form)?,
            Payload::File(path, _) => {
                let failed = |error: std::io::Error| BlobError::NotNow(format!("{}: {error}", locator.key));
                locator.resolve(&tokio::fs::read(&*path).await.map_err(failed)?)?
            }
        })
    }

    /// Removes the long form of a transaction whose slot is about to be collected. Bytes that are no locator have none.
    ///
    /// # Errors
    /// The blob store did not remove it, or the bytes cannot be read.
    pub async fn delete(&self, bytes: &[u8]) -> Result<(), LongFormError> {
        match Locator::decode(bytes)? {
            Some(locator) => Ok(self.blobs.delete(&locator.key).await?),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::transaction_builder::TransactionBuilder;
    use crate::seams::blob::memory::MemoryBlobs;

    #[tokio::test]
    async fn a_long_form_of_another_hash_is_bad() {
        let blobs = Arc::new(MemoryBlobs::default());
        let long_forms = LongForms::new(Arc::clone(&blobs) as Arc<dyn BlobStore>, PathBuf::new(), 0);
        let transaction = TransactionBuilder::in_slot(0).creates("a").build();
        let slot = long_forms.store(&transaction, transaction.encode()).await.unwrap();
        assert_eq!(long_forms.read(&slot).await.as_ref(), Ok(&transaction));
        let locator = Locator::decode(&slot).unwrap().unwrap();
        let other = vec![0_u8; usize::try_from(locator.bytes).unwrap()];
        blobs.put(&locator.key, &Payload::Memory(other.into())).await.unwrap();
        assert!(long_forms.read(&slot).await.is_err_and(|error| error.is_bad()));
    }
}
