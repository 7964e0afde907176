//! The blobs of an attempt that ends without a commit, its pack and its long form, are deleted from the blob store.
//!
//! A blob belongs to one attempt. It is deleted with the slot of its transaction, so the blob of an attempt that never
//! gets a slot would stay for ever.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::Locator;
use tokio::time::sleep;

use super::Committer;
use super::attempt::AttemptEnd;
use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::blob::BlobStore;

/// The most tries to delete one blob.
const TRIES: u32 = 8;

/// The blob of an attempt. If the attempt is known to end without a commit, the blob is deleted in the background.
pub(super) struct UnusedBlob {
    key: Option<String>,
    blobs: Arc<dyn BlobStore>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
    tasks: Tasks,
    unused: Cell<bool>,
}

impl UnusedBlob {
    /// The blob of an attempt that was not sent yet. It is unused if this is dropped.
    pub(super) fn new(committer: &Committer, key: Option<String>) -> Self {
        let (blobs, observer) = (Arc::clone(&committer.blobs), Arc::clone(&committer.observer));
        let (entropy, tasks) = (Arc::clone(&committer.attempts.entropy), committer.tasks.clone());
        Self { key, blobs, entropy, observer, tasks, unused: Cell::new(true) }
    }

    /// The long form of an attempt that was not sent yet and whose slot is to have these bytes. It is unused if this is
    /// dropped.
    pub(super) fn long_form(committer: &Committer, encoded: &[u8]) -> Self {
        let locator = Locator::decode(encoded).ok().flatten();
        Self::new(committer, locator.map(|locator| locator.key))
    }

    /// Notes that the attempt is about to be sent. From now on it may be committed, whatever happens to the caller.
    pub(super) fn is_sent(&self) {
        self.unused.set(false);
    }

    /// Notes the end of the attempt. Only an end after which the transaction never can be committed makes the blob
    /// unused.
    pub(super) fn ended(&self, end: &AttemptEnd) {
        self.unused.set(match end {
            AttemptEnd::Refused(_)
            | AttemptEnd::SlotLost(_)
            | AttemptEnd::NotTaken { .. }
            | AttemptEnd::Throttled(_) => true,
            AttemptEnd::Committed | AttemptEnd::Unknown(_) => false,
        });
    }
}

impl Drop for UnusedBlob {
    fn drop(&mut self) {
        let Some(key) = self.key.take().filter(|_| self.unused.get()) else { return };
        let (blobs, entropy, observer) =
            (Arc::clone(&self.blobs), Arc::clone(&self.entropy), Arc::clone(&self.observer));
        self.tasks.spawn("unused-blob", async move {
            for tries in 1..=TRIES {
                match blobs.delete(&key).await {
                    Ok(()) => return,
                    Err(error) => observer.failed("commit", &format!("unused blob {key} is left: {error}")),
                }
                let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
                sleep(Backoff::nth(entropy.as_ref(), first, longest, tries)).await;
            }
        });
    }
}
