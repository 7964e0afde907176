//! The blobs of an attempt that ends without a commit, its pack and its long form, are deleted from the blob store.
//!
//! A blob belongs to one attempt. It is deleted with the slot of its transaction, so the blob of an attempt that never
//! gets a slot would stay for ever. An attempt without a known outcome hands its blobs to the in-doubt resolver. A put
//! without an answer may store its blob later, so such a blob is deleted twice.
//!
//! The node's store has a note of each blob, until it is deleted or committed. The next start deletes the blobs that a
//! crash left.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::TxnId;
use tokio::time::sleep;

use super::Committer;
use super::attempt::AttemptEnd;
use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::blob::BlobStore;
use crate::seams::volume::{NodeStore, StoreError};

/// The most tries to delete one blob.
const TRIES: u32 = 8;
/// How long after its failure a put may still take effect. No store works on a request for longer.
const LATE: Duration = Duration::from_secs(120);

/// The blob of an attempt. If the attempt is known to end without a commit, the blob is deleted in the background.
pub(super) struct UnusedBlob {
    key: Option<String>,
    store: Arc<dyn NodeStore>,
    blobs: Arc<dyn BlobStore>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
    tasks: Tasks,
    unused: Cell<bool>,
    /// Whether its transaction is committed: then the blob is deleted with the slot.
    is_committed: Cell<bool>,
    /// Whether the answer to its put is missing.
    unanswered: Cell<bool>,
}

impl UnusedBlob {
    /// A blob that is about to be put, for an attempt that was not sent yet. It is unused if this is dropped.
    pub(super) fn before_put(committer: &Committer, key: Option<String>) -> Self {
        let (blobs, observer) = (Arc::clone(&committer.blobs), Arc::clone(&committer.observer));
        let (entropy, tasks) = (Arc::clone(&committer.attempts.entropy), committer.tasks.clone());
        let (unused, is_committed, unanswered) = (Cell::new(true), Cell::new(false), Cell::new(true));
        let store = Arc::clone(&committer.store);
        if let Some(Err(error)) = key.as_ref().map(|key| store.note_blob(key, None)) {
            observer.failed("commit", &error);
        }
        Self { key, store, blobs, entropy, observer, tasks, unused, is_committed, unanswered }
    }

    /// Notes that the put was answered: the blob is stored.
    pub(super) fn is_stored(&self) {
        self.unanswered.set(false);
        if self.key.is_some() {
            crate::base::faults::failpoint::reach("commit.stored");
        }
    }

    /// Notes that the blob may be needed, whatever happens to the caller: the attempt is about to be sent as this
    /// transaction, and may be committed.
    ///
    /// # Errors
    /// The store failed. The transaction must not be sent: the next start would delete the blob.
    pub(super) fn may_be_needed(&self, txn: &TxnId) -> Result<(), StoreError> {
        if let Some(key) = &self.key {
            self.store.note_blob(key, Some(txn))?;
        }
        self.unused.set(false);
        Ok(())
    }

    /// Notes the end of the attempt. Only an end after which the transaction never can be committed makes the blob
    /// unused.
    pub(super) fn ended(&self, end: &AttemptEnd) {
        self.is_committed.set(matches!(end, AttemptEnd::Committed));
        self.unused.set(match end {
            AttemptEnd::Refused(_)
            | AttemptEnd::SlotLost(_)
            | AttemptEnd::NotTaken { .. }
            | AttemptEnd::Throttled(_) => true,
            AttemptEnd::Committed | AttemptEnd::Unknown(_) => false,
        });
    }

    /// Notes the proof that the transaction was not committed and never will be.
    pub(super) fn is_not_needed(&self) {
        self.unused.set(true);
    }
}

impl Drop for UnusedBlob {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let (store, observer) = (Arc::clone(&self.store), Arc::clone(&self.observer));
        let end = move |key: &str| {
            store.end_blob(key).unwrap_or_else(|error| observer.failed("commit", &error));
        };
        if self.is_committed.get() {
            end(&key);
        }
        if !self.unused.get() {
            return;
        }
        let (blobs, entropy, observer) =
            (Arc::clone(&self.blobs), Arc::clone(&self.entropy), Arc::clone(&self.observer));
        let again = self.unanswered.get();
        self.tasks.spawn("unused-blob", async move {
            let mut is_gone = delete(blobs.as_ref(), entropy.as_ref(), observer.as_ref(), &key).await;
            if again {
                sleep(LATE).await;
                is_gone = delete(blobs.as_ref(), entropy.as_ref(), observer.as_ref(), &key).await;
            }
            if is_gone {
                end(&key);
            }
        });
    }
}

/// Deletes a blob. Returns whether the store did.
async fn delete(blobs: &dyn BlobStore, entropy: &dyn Entropy, observer: &dyn Observer, key: &str) -> bool {
    for tries in 1..=TRIES {
        match blobs.delete(key).await {
            Ok(()) => return true,
            Err(error) => observer.failed("commit", &format!("unused blob {key} is left: {error}")),
        }
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
        sleep(Backoff::nth(entropy, first, longest, tries)).await;
    }
    false
}
