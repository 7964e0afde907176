//! The journals that are published: the living one of this node, and those that dead incarnations left.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use lockstep_proto::{Lane, LaneId, Seq, Slot, Transaction};

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::{IncarnationRecord, RefDb, RefDbError, SlotState};
use crate::state::journal::{Journal, Unpublished};

/// Number of slots of a dead incarnation that are read concurrently.
const READS: usize = 8;

/// A journal whose settled slots are published.
#[async_trait]
pub(super) trait Source: Send + Sync {
    /// The lanes, each with the mark below which it is published already.
    fn lanes(&self) -> Vec<(Lane, Seq)>;

    /// The slot of a lane with this number.
    fn slot(&self, lane: Lane, seq: Seq) -> Slot;

    /// The settled slots of a lane from `from` on, in order, at most `limit`.
    async fn settled(&self, lane: Lane, from: Seq, limit: usize) -> Result<Vec<(Seq, Unpublished)>, RefDbError>;
}

#[async_trait]
impl Source for Arc<Journal> {
    fn lanes(&self) -> Vec<(Lane, Seq)> {
        Journal::lanes(self).zip(self.marks().into_iter().map(|mark| mark.published)).collect()
    }

    fn slot(&self, lane: Lane, seq: Seq) -> Slot {
        self.id().lane(lane).slot(seq)
    }

    async fn settled(&self, lane: Lane, from: Seq, limit: usize) -> Result<Vec<(Seq, Unpublished)>, RefDbError> {
        Ok(self.unpublished(lane, from, limit).into_iter().map(|(slot, what)| (slot.seq, what)).collect())
    }
}

/// An incarnation whose windows are poisoned: each of its slots is committed or poisoned for good.
pub(super) struct Left {
    pub(super) record: IncarnationRecord,
    pub(super) refdb: RefDb,
    pub(super) bugs: InjectedBugs,
}

impl Left {
    fn lane(&self, lane: Lane) -> LaneId {
        self.record.id.lane(lane)
    }
}

#[async_trait]
impl Source for Left {
    fn lanes(&self) -> Vec<(Lane, Seq)> {
        self.record.id.lanes(self.record.published.iter().copied()).map(|(id, mark)| (id.lane, mark)).collect()
    }

    fn slot(&self, lane: Lane, seq: Seq) -> Slot {
        self.lane(lane).slot(seq)
    }

    async fn settled(&self, lane: Lane, from: Seq, limit: usize) -> Result<Vec<(Seq, Unpublished)>, RefDbError> {
        let end = self.record.ends().get(lane.index()).copied().unwrap_or_default();
        let until = end.0.min(from.0 + limit as u64);
        let read = async |seq: u64| {
            let state = self.refdb.journal.slot(&self.slot(lane, Seq(seq))).await?;
            let content = content(&self.slot(lane, Seq(seq)), state)?;
            Ok((Seq(seq), if self.bugs.has(InjectedBug::AdopterSignsNothing) { rewritten(content) } else { content }))
        };
        stream::iter((from.0..until).map(read)).buffered(READS).try_collect().await
    }
}

/// The bytes as an adopter would write them that does not copy the slot.
fn rewritten(content: Unpublished) -> Unpublished {
    match content {
        Unpublished::Committed(Some(bytes)) => {
            let again = Transaction::decode(&bytes).map(|transaction| transaction.encode());
            Unpublished::Committed(Some(again.unwrap_or(bytes)))
        }
        other => other,
    }
}

fn content(slot: &Slot, state: SlotState) -> Result<Unpublished, RefDbError> {
    match state {
        SlotState::Committed(_, bytes) => Ok(Unpublished::Committed(Some(bytes))),
        SlotState::Poisoned => Ok(Unpublished::Poisoned),
        SlotState::Empty => Err(not_committed(slot, &SlotState::Empty)),
    }
}

/// The transaction of a slot that is settled as committed.
pub(super) async fn load(refdb: &RefDb, slot: &Slot) -> Result<Bytes, RefDbError> {
    match refdb.journal.slot(slot).await? {
        SlotState::Committed(_, bytes) => Ok(bytes),
        state => Err(not_committed(slot, &state)),
    }
}

fn not_committed(slot: &Slot, state: &SlotState) -> RefDbError {
    RefDbError::Broken(format!("slot {slot} is settled and not published, but the refdb says {state:?}"))
}
