//! Takes from the journal the transactions that a stream may have lost before a shard was begun.
//!
//! A reader that continues after a record is told when the stream no longer has that record. A reader that begins at
//! the oldest record has no position, so nothing tells it that older records are gone. So it asks the refdb before it
//! hands over its first record, and before it says that it has read everything: which slots below the published marks
//! are not done here? The journal keeps them, because they are above a low-water mark of this node (`docs/adr/0050`).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use lockstep_proto::{SiteId, Slot, Transaction, TxnId};
use tokio::sync::oneshot;

use super::Consumer;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::{RefDbError, SlotState};
use crate::stages::ports::{CatchUpError, Done};

/// The most slots that are read one by one. A node that lacks more takes every project from the refdb.
const MOST: usize = 4_096;
/// Number of slots that are read concurrently.
const READS: usize = 32;

/// Why the transactions that a stream may have lost were not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnreadError {
    /// The refdb did not give the published marks, or a slot.
    #[error("the published slots that are not done here were not read: {0}")]
    RefDb(#[from] RefDbError),
    /// Too many slots are not done here, and the projects could not be taken from the refdb.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
}

impl Consumer {
    /// Hands over every transaction of a site that is published, not done here, and not among the records at hand.
    /// Waits until each is applied or durably set aside, and returns their ids.
    pub(super) async fn take_unread(
        &self,
        site: &SiteId,
        at_hand: &BTreeSet<TxnId>,
    ) -> Result<BTreeSet<TxnId>, UnreadError> {
        let (mut taken, mut waits) = (BTreeSet::new(), Vec::new());
        if self.bugs.has(InjectedBug::TrimSkipped) {
            return Ok(taken);
        }
        let unread = self.published_and_not_done(site).await?;
        if unread.len() > MOST {
            self.take_from_refdb(site).await?;
            return Ok(taken);
        }
        let reads: Vec<_> = unread.into_iter().map(|slot| self.read_slot(slot)).collect();
        let mut states = std::pin::pin!(stream::iter(reads).buffered(READS));
        while let Some((slot, state)) = states.try_next().await? {
            match state {
                SlotState::Poisoned => self.low_water.done(&slot),
                SlotState::Committed(txn, bytes) if !at_hand.contains(&txn) => {
                    waits.extend(self.hand_over(&slot, bytes).await);
                    taken.insert(txn);
                }
                SlotState::Committed(..) | SlotState::Empty => {}
            }
        }
        for wait in waits {
            // A node that ends drops the other half.
            let _ = wait.await;
        }
        Ok(taken)
    }

    /// The slots of a site below its published marks that are not done here, at most one more than [`MOST`].
    async fn published_and_not_done(&self, site: &SiteId) -> Result<Vec<Slot>, RefDbError> {
        let mut slots = Vec::new();
        for incarnation in self.refdb.incarnations.incarnations(site).await? {
            for (lane, mark) in incarnation.id.lanes(incarnation.published.iter().copied()) {
                let room = (MOST + 1).saturating_sub(slots.len());
                slots.extend(self.low_water.gaps(&lane, mark, room));
            }
        }
        Ok(slots)
    }

    async fn read_slot(&self, slot: Slot) -> Result<(Slot, SlotState), RefDbError> {
        let state = self.refdb.journal.slot(&slot).await?;
        Ok((slot, state))
    }

    /// Hands over the transaction of a slot. The receiver is told when it is applied or durably set aside.
    async fn hand_over(&self, slot: &Slot, bytes: Bytes) -> Option<oneshot::Receiver<()>> {
        let transaction = match Transaction::outlined(&bytes) {
            Ok(transaction) => Arc::new(transaction),
            Err(error) => {
                self.observer.failed("consume", &format!("slot {slot} cannot be decoded: {error}"));
                return None;
            }
        };
        let (end, ended) = oneshot::channel();
        let done: Done = Box::new(move || {
            let _ = end.send(());
        });
        self.sink.offer(transaction, bytes, None, Some(done)).await;
        Some(ended)
    }
}
