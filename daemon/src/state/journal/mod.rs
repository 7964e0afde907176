//! The journal of the running incarnation: its usable, settled and published slots.
//!
//! Bookkeeping without I/O. The commit stage takes and resolves slots, the publisher moves settled slots to the event
//! log, and the mark writer stores the marks. The rules per lane:
//! - a transaction takes the lowest empty slot, so that slots stay dense;
//! - only slots below the *stored* settled mark plus the window may be used, so a node that freezes the incarnation
//!   finds every slot that could ever be occupied inside that window;
//! - the settled mark passes a slot only when that slot is committed or poisoned.
//!
//! | file | idea |
//! |---|---|
//! | `window` | one lane: its usable slots and its marks |
//! | `lane_of` | the hash that maps a project to its lane |

mod lane_of;
mod window;

use std::collections::BTreeMap;
use std::hash::Hasher;

use bytes::Bytes;
use lockstep_proto::{IncarnationId, Lane, ProjectName, Seq, Slot};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::seams::refdb::SlotState;
use lane_of::Fnv;
use window::LaneWindow;

pub use window::LaneMarks;

/// Limits of an incarnation's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    /// Number of lanes for transactions that one write commits. A project always uses the same of them. There is one
    /// more lane, for the transactions that are written in steps.
    pub lanes: u8,
    /// Usable slots above the stored settled mark, per lane. This bounds the number of commits in progress.
    pub window: u64,
    /// Bytes of committed transactions that are kept in memory for the publisher. It reads other transactions back from
    /// the refdb.
    pub cache_bytes: usize,
}

impl JournalLimits {
    /// The number of all lanes.
    #[must_use]
    pub fn all_lanes(&self) -> usize {
        usize::from(self.lanes) + 1
    }
}

/// The journal of the running incarnation.
pub struct Journal {
    id: IncarnationId,
    limits: JournalLimits,
    lanes: Mutex<Vec<LaneWindow>>,
    cached: Mutex<Cache>,
    /// Notified when a slot was given back or a mark was stored.
    room: Notify,
    /// Notified when a settled mark may have moved.
    settled: Notify,
    /// Notified when a settled mark has moved, so that there is something to publish.
    publishable: Notify,
}

#[derive(Default)]
struct Cache {
    bytes: usize,
    entries: BTreeMap<Slot, Bytes>,
}

/// A settled slot that waits for the publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unpublished {
    /// A poisoned slot, which has nothing to publish.
    Poisoned,
    /// A committed slot, with its encoded transaction if that is still in memory.
    Committed(Option<Bytes>),
}

impl Journal {
    /// Creates the empty journal of a new incarnation.
    #[must_use]
    pub fn new(id: IncarnationId, limits: JournalLimits) -> Self {
        let lanes = (0..limits.all_lanes()).map(|_| LaneWindow::default()).collect();
        let (room, settled, publishable) = (Notify::new(), Notify::new(), Notify::new());
        Self { id, limits, lanes: Mutex::new(lanes), cached: Mutex::default(), room, settled, publishable }
    }

    /// The incarnation that owns this journal.
    #[must_use]
    pub fn id(&self) -> &IncarnationId {
        &self.id
    }

    /// The lane of all transactions that are written in steps. They hold their slots for long, and so would exhaust the
    /// window of a lane that they share with others.
    #[must_use]
    pub fn large_lane(&self) -> Lane {
        Lane(self.limits.lanes)
    }

    /// The lane of a project's other transactions. It stays the same for the whole incarnation.
    #[must_use]
    pub fn lane_of(&self, project: &ProjectName) -> Lane {
        let mut hasher = Fnv::default();
        hasher.write(project.as_str().as_bytes());
        let lane = hasher.finish() % u64::from(self.limits.lanes.max(1));
        Lane(u8::try_from(lane).unwrap_or(0))
    }

    /// The lanes of this incarnation.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> + use<> {
        (0..self.limits.all_lanes()).map(Lane::at)
    }

    fn books(&self) -> MutexGuard<'_, Vec<LaneWindow>> {
        self.lanes.lock()
    }

    fn with<T>(&self, slot: &Slot, change: impl FnOnce(&mut LaneWindow, u64) -> T) -> Option<T> {
        debug_assert_eq!(slot.lane.incarnation, self.id, "the slot belongs to the journal of another incarnation");
        self.books().get_mut(slot.lane.lane.index()).map(|book| change(book, slot.seq.0))
    }

    /// Takes the lowest empty slot of a lane; waits while the window is full.
    pub async fn take(&self, lane: Lane) -> Slot {
        loop {
            let room = self.room.notified();
            let taken = self.books().get_mut(lane.index()).and_then(|book| book.take(self.limits.window));
            if let Some(seq) = taken {
                return self.id.lane(lane).slot(Seq(seq));
            }
            // The mark writer may have to store a mark before there is room.
            self.settled.notify_one();
            room.await;
        }
    }

    /// Gives back a slot that is certainly empty: no copy of a transaction that was sent to it can still land.
    pub fn give_back(&self, slot: &Slot) {
        self.with(slot, |book, seq| book.give_back(seq));
        self.room.notify_waiters();
    }

    /// Whether an empty slot holds up its lane: the settled mark waits for it, and half of the window is used above it.
    /// Such a slot should be poisoned rather than given back.
    #[must_use]
    pub fn is_in_the_way(&self, slot: &Slot) -> bool {
        let window = self.limits.window;
        self.with(slot, |book, seq| seq == book.settled && book.next.saturating_sub(seq) > window / 2) == Some(true)
    }

    /// Records that the slot holds a committed transaction, with its encoded `bytes`.
    pub fn committed(&self, slot: &Slot, bytes: Bytes) {
        self.cache(slot, bytes);
        self.resolve(slot, true);
    }

    /// Records the content of a slot as a node found it that fenced this incarnation. A slot that is settled already
    /// has the same content.
    pub fn found(&self, slot: &Slot, state: SlotState) {
        if self.with(slot, |book, seq| seq < book.settled) != Some(false) {
            return;
        }
        match state {
            SlotState::Committed(_, bytes) => self.committed(slot, bytes),
            SlotState::Poisoned => self.poisoned(slot),
            SlotState::Empty => {}
        }
    }

    /// Records that the slot is poisoned.
    pub fn poisoned(&self, slot: &Slot) {
        self.resolve(slot, false);
    }

    fn resolve(&self, slot: &Slot, committed: bool) {
        let moved = self.with(slot, |book, seq| book.resolve(seq, committed));
        self.settled.notify_one();
        if moved == Some(true) {
            self.publishable.notify_one();
        }
    }

    /// Takes the slots that were given back no later than `since` and are still empty. The caller poisons them, so that
    /// the settled mark of an idle lane moves on.
    #[must_use]
    pub fn take_idle(&self, since: Instant) -> Vec<Slot> {
        let mut idle = Vec::new();
        for (lane, book) in self.id.lanes(self.books().iter_mut()) {
            let old: Vec<u64> = book.empty.iter().filter(|(_, at)| **at <= since).map(|(seq, _)| *seq).collect();
            for seq in old {
                book.empty.remove(&seq);
                idle.push(lane.slot(Seq(seq)));
            }
        }
        idle
    }

    /// Waits until there may be something to publish: a settled mark has moved since the last call returned.
    pub async fn publishable(&self) {
        self.publishable.notified().await;
    }

    /// Waits until a settled mark may have moved.
    pub async fn changed(&self) {
        self.settled.notified().await;
    }

    /// The marks of every lane, in the order of the lanes.
    #[must_use]
    pub fn marks(&self) -> Vec<LaneMarks> {
        self.books().iter().map(LaneWindow::marks).collect()
    }

    /// Whether the settled mark of a lane has moved by at least a quarter of the window since it was stored.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.books().iter().any(|book| book.settled - book.stored >= self.limits.window / 4)
    }

    /// Records that these settled marks, one per lane, are stored in the refdb. Tasks that wait for a slot try again.
    pub fn stored(&self, settled: &[Seq]) {
        for (book, mark) in self.books().iter_mut().zip(settled) {
            book.stored = book.stored.max(mark.0);
        }
        self.room.notify_waiters();
    }

    /// The settled slots of a lane from `from` on that are not published yet, in order, at most `limit`.
    #[must_use]
    pub fn unpublished(&self, lane: Lane, from: Seq, limit: usize) -> Vec<(Slot, Unpublished)> {
        let lanes = self.books();
        let Some(book) = lanes.get(lane.index()) else { return Vec::new() };
        let cache = self.cached.lock();
        let slots = (book.published.max(from.0)..book.settled).take(limit).map(|seq| {
            let slot = self.id.lane(lane).slot(Seq(seq));
            let what = if book.poisoned.contains(&seq) {
                Unpublished::Poisoned
            } else {
                Unpublished::Committed(cache.entries.get(&slot).cloned())
            };
            (slot, what)
        });
        slots.collect()
    }

    /// Records that every slot of the lane below `until` is in the event log.
    pub fn published(&self, lane: Lane, until: Seq) {
        if let Some(book) = self.books().get_mut(lane.index()) {
            book.published = book.published.max(until.0);
            book.poisoned = book.poisoned.split_off(&until.0);
        }
        let mut cache = self.cached.lock();
        let lane = self.id.lane(lane);
        let done: Vec<Slot> =
            cache.entries.range(lane.slot(Seq(0))..lane.slot(until)).map(|(slot, _)| slot.clone()).collect();
        for slot in done {
            let freed = cache.entries.remove(&slot).map_or(0, |bytes| bytes.len());
            cache.bytes -= freed;
        }
    }

    fn cache(&self, slot: &Slot, bytes: Bytes) {
        let mut cache = self.cached.lock();
        if cache.bytes + bytes.len() <= self.limits.cache_bytes {
            cache.bytes += bytes.len();
            cache.entries.insert(slot.clone(), bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::FutureExt;

    use super::*;

    fn journal(window: u64) -> Journal {
        let id = IncarnationId { node: "n".parse().unwrap(), number: lockstep_proto::Incarnation(1) };
        Journal::new(id, JournalLimits { lanes: 1, window, cache_bytes: 100 })
    }

    #[tokio::test]
    async fn the_lowest_empty_slot_is_taken_again() {
        let journal = journal(8);
        let slots = [journal.take(Lane(0)).await, journal.take(Lane(0)).await, journal.take(Lane(0)).await];
        journal.give_back(&slots[1]);
        assert_eq!(journal.take(Lane(0)).await, slots[1]);
        journal.give_back(&slots[2]);
        assert_eq!(journal.take(Lane(0)).await, slots[2]);
    }

    #[tokio::test]
    async fn the_window_rests_on_the_stored_mark() {
        let journal = journal(2);
        let first = journal.take(Lane(0)).await;
        let _second = journal.take(Lane(0)).await;
        journal.committed(&first, Bytes::from_static(b"x"));
        let third = journal.take(Lane(0));
        assert!(third.now_or_never().is_none(), "the mark has moved, but is not stored yet");
        journal.stored(&[Seq(1)]);
        assert_eq!(journal.take(Lane(0)).await.seq, Seq(2));
    }

    #[tokio::test]
    async fn the_settled_mark_waits_for_the_gap() {
        let journal = journal(8);
        let slots = [journal.take(Lane(0)).await, journal.take(Lane(0)).await];
        journal.committed(&slots[1], Bytes::from_static(b"y"));
        assert!(journal.unpublished(Lane(0), Seq(0), 9).is_empty());
        assert_eq!(journal.publishable().now_or_never(), None);
        journal.poisoned(&slots[0]);
        assert_eq!(journal.publishable().now_or_never(), Some(()));
        let waiting: Vec<Unpublished> =
            journal.unpublished(Lane(0), Seq(0), 9).into_iter().map(|(_, what)| what).collect();
        assert_eq!(waiting, [Unpublished::Poisoned, Unpublished::Committed(Some(Bytes::from_static(b"y")))]);
        journal.published(Lane(0), Seq(2));
        assert!(journal.unpublished(Lane(0), Seq(0), 9).is_empty());
        assert_eq!(journal.marks()[0], LaneMarks { settled: Seq(2), published: Seq(2), in_flight: 0 });
    }

    #[tokio::test]
    async fn large_transactions_do_not_use_the_window_of_others() {
        let journal = journal(2);
        let large = journal.large_lane();
        assert!(journal.lanes().any(|lane| lane == large));
        for project in ["p", "q", "a/b"] {
            assert_ne!(journal.lane_of(&project.parse().unwrap()), large);
        }
        let (_one, _two) = (journal.take(large).await, journal.take(large).await);
        assert!(journal.take(large).now_or_never().is_none());
        assert_eq!(journal.take(Lane(0)).now_or_never().map(|slot| slot.seq), Some(Seq(0)));
    }

    #[tokio::test]
    async fn an_empty_slot_is_in_the_way_when_half_of_the_window_waits_for_it() {
        let journal = journal(4);
        let slots = [journal.take(Lane(0)).await, journal.take(Lane(0)).await];
        assert!(!journal.is_in_the_way(&slots[0]));
        let third = journal.take(Lane(0)).await;
        assert!(journal.is_in_the_way(&slots[0]) && !journal.is_in_the_way(&third));
    }

    #[tokio::test]
    async fn a_slot_that_a_fence_finds_is_settled_once() {
        let journal = journal(4);
        let slot = journal.take(Lane(0)).await;
        journal.committed(&slot, Bytes::from_static(b"x"));
        journal.published(Lane(0), Seq(1));
        for (seq, state) in [(0, SlotState::Poisoned), (1, SlotState::Poisoned), (2, SlotState::Empty)] {
            journal.found(&journal.id().lane(Lane(0)).slot(Seq(seq)), state);
        }
        assert_eq!(journal.marks()[0], LaneMarks { settled: Seq(2), published: Seq(1), in_flight: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_empty_slot_is_taken_for_poison() {
        let journal = journal(8);
        let slots = [journal.take(Lane(0)).await, journal.take(Lane(0)).await];
        journal.give_back(&slots[0]);
        assert!(journal.take_idle(Instant::now() - std::time::Duration::from_secs(1)).is_empty());
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert_eq!(journal.take_idle(Instant::now() - std::time::Duration::from_secs(1)), vec![slots[0].clone()]);
    }
}
