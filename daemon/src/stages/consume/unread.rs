//! Takes from the journal the transactions that a stream may have lost before a shard was begun.
//!
//! A reader that continues after a record is told when the stream no longer has that record. A reader that begins at
//! the oldest record has no position, so nothing tells it that older records are gone. So it asks the refdb before it
//! hands over its first record, and before it says that it has read everything: which slots below the published marks
//! are not done here? The journal keeps them, because they are above a low-water mark of this node (`docs/adr/0050`).
//!
//! After a restart the slots above a gap are not known to be done, although their transactions may be applied or set
//! aside. These are no loss of the stream: other shards have them before their positions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use lockstep_proto::{DecodeError, LaneId, Seq, SiteId, Slot, Transaction, TxnId};
use tokio::sync::oneshot;

use super::Consumer;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::{RefDbError, SlotState};
use crate::seams::volume::{StoreError, parked_pages};
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
    /// The version map did not tell whether a transaction is applied.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Consumer {
    /// Hands over every transaction of a site that is published, not done here, and not among the records at hand.
    /// Waits until each is applied or durably set aside. Adds the ids of those that were not applied before to `taken`,
    /// also if it fails in between.
    pub(super) async fn take_unread(
        &self,
        site: &SiteId,
        at_hand: &BTreeSet<TxnId>,
        taken: &mut BTreeSet<TxnId>,
    ) -> Result<(), UnreadError> {
        if self.bugs.has(InjectedBug::TrimSkipped) {
            return Ok(());
        }
        let (unread, marks) = self.published_and_not_done(site).await?;
        if unread.len() > MOST {
            self.take_from_refdb(site).await?;
            self.whole.lock().insert(site.clone(), marks);
            return Ok(());
        }
        let (mut waits, mut open) = (Vec::new(), 0);
        for slots in unread.chunks(READS) {
            let reads: Vec<_> = slots.iter().map(|slot| self.read_slot(slot.clone())).collect();
            for (slot, state) in try_join_all(reads).await? {
                match state {
                    SlotState::Poisoned => self.low_water.done(&slot),
                    SlotState::Committed(txn, bytes) if !at_hand.contains(&txn) => {
                        let Some(transaction) = self.decoded(&slot, &bytes) else { continue };
                        if !self.was_applied(&transaction)? {
                            taken.insert(txn);
                        }
                        open += bytes.len() as u64;
                        waits.push(self.offer_unread(transaction, bytes).await);
                    }
                    SlotState::Committed(..) | SlotState::Empty => {}
                }
            }
            // These bytes are not among the open ones of the readers, so they get a part of the room only.
            if open >= self.limits.open_bytes / 4 {
                wait_for(&mut waits).await;
                open = 0;
            }
        }
        wait_for(&mut waits).await;
        Ok(())
    }

    /// The transactions that are set aside: parked, or committed and in quarantine.
    pub(super) fn set_aside(&self) -> Result<BTreeSet<TxnId>, StoreError> {
        let quarantined = self.store.quarantined()?;
        let committed = quarantined.iter().filter(|(_, held)| held.is_committed());
        let mut aside: BTreeSet<TxnId> = committed.filter_map(|(id, _)| id.parse().ok()).collect();
        for page in parked_pages(self.store.as_ref()) {
            aside.extend(page?.iter().filter_map(|(id, _)| id.parse::<TxnId>().ok()));
        }
        Ok(aside)
    }

    /// Whether a transaction is applied here. An outline does not tell its refs, and counts as applied: a loss that did
    /// not happen must not be told.
    fn was_applied(&self, transaction: &Transaction) -> Result<bool, StoreError> {
        Ok(!transaction.is_whole() || self.versions.has_applied(transaction)?)
    }

    /// The slots of a site below its published marks that are not done here, at most one more than [`MOST`], and these
    /// marks. Slots whose refs were all taken from the refdb are left to the sweeper.
    async fn published_and_not_done(&self, site: &SiteId) -> Result<(Vec<Slot>, BTreeMap<LaneId, Seq>), RefDbError> {
        let whole = self.whole.lock().get(site).cloned().unwrap_or_default();
        let (mut slots, mut marks) = (Vec::new(), BTreeMap::new());
        for incarnation in self.refdb.incarnations.incarnations(site).await? {
            for (lane, mark) in incarnation.id.lanes(incarnation.published.iter().copied()) {
                let room = (MOST + 1).saturating_sub(slots.len());
                let from = whole.get(&lane).copied().unwrap_or(Seq(0));
                slots.extend(self.low_water.gaps_from(&lane, from, mark, room));
                marks.insert(lane, mark);
            }
        }
        Ok((slots, marks))
    }

    async fn read_slot(&self, slot: Slot) -> Result<(Slot, SlotState), RefDbError> {
        let state = self.refdb.journal.slot(&slot).await?;
        Ok((slot, state))
    }

    /// The transaction of a slot, if it can be decoded.
    fn decoded(&self, slot: &Slot, bytes: &[u8]) -> Option<Transaction> {
        let tell = |error: &DecodeError| {
            self.observer.failed("consume", &format!("slot {slot} cannot be decoded: {error}"));
        };
        Transaction::outlined(bytes).inspect_err(tell).ok()
    }

    /// Offers a transaction of the journal to the apply stage. The receiver is told when it is applied or durably set
    /// aside.
    async fn offer_unread(&self, transaction: Transaction, bytes: Bytes) -> oneshot::Receiver<()> {
        let (end, ended) = oneshot::channel();
        let done: Done = Box::new(move || {
            let _ = end.send(());
        });
        self.sink.offer(Arc::new(transaction), bytes, None, Some(done)).await;
        ended
    }
}

/// Waits until each of these transactions is applied or durably set aside.
async fn wait_for(waits: &mut Vec<oneshot::Receiver<()>>) {
    for wait in waits.drain(..) {
        // A node that ends drops the other half.
        let _ = wait.await;
    }
}
