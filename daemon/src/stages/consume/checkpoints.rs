//! The progress of each shard. Its checkpoint is the last position before which nothing is open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::seams::eventlog::Position;
use crate::seams::volume::{Changes, ShardId};
use crate::state::durability::Remember;

/// The progress of every shard that is being read.
#[derive(Default)]
pub struct Progress {
    shards: Mutex<BTreeMap<ShardId, Shard>>,
    /// The bytes of the open records of all shards.
    open_bytes: AtomicU64,
    changed: Notify,
}

#[derive(Default)]
struct Shard {
    /// The number of the next record, counted from 0.
    next: u64,
    open: BTreeSet<u64>,
    /// The sequence numbers of records, done or open, from the first one that `position` does not cover.
    sequence: BTreeMap<u64, String>,
    position: Option<Position>,
    ended: bool,
    staged: bool,
}

impl Progress {
    fn shards(&self) -> MutexGuard<'_, BTreeMap<ShardId, Shard>> {
        self.shards.lock()
    }

    /// Notes that a record of this length was read. The record is open until the returned function is called.
    pub fn open(
        self: &Arc<Self>,
        id: &ShardId,
        sequence: String,
        bytes: usize,
    ) -> impl FnOnce() + Send + Sync + 'static {
        let number = {
            let mut shards = self.shards();
            let shard = shards.entry(id.clone()).or_default();
            let number = shard.next;
            shard.next += 1;
            shard.open.insert(number);
            shard.sequence.insert(number, sequence);
            number
        };
        let (progress, id, bytes) = (Arc::clone(self), id.clone(), bytes as u64);
        self.open_bytes.fetch_add(bytes, Ordering::SeqCst);
        move || progress.done(&id, number, bytes)
    }

    fn done(&self, id: &ShardId, number: u64, bytes: u64) {
        self.open_bytes.fetch_sub(bytes, Ordering::SeqCst);
        if let Some(shard) = self.shards().get_mut(id) {
            shard.open.remove(&number);
            shard.advance();
        }
        self.changed.notify_waiters();
    }

    /// Notes that a shard is being read from its oldest record, as its checkpoint. Nothing of it may be open.
    pub fn begun(&self, id: &ShardId) {
        let mut shards = self.shards();
        let shard = shards.entry(id.clone()).or_default();
        if shard.position.as_ref() != Some(&Position::Start) {
            shard.sequence.clear();
            shard.position = Some(Position::Start);
            shard.staged = false;
        }
    }

    /// Forgets shards that no longer exist.
    pub fn forget(&self, ids: &[ShardId]) {
        self.shards().retain(|id, _| !ids.contains(id));
    }

    /// Notes that the shard has ended and all its records were read.
    pub fn ended(&self, id: &ShardId) {
        let mut shards = self.shards();
        let shard = shards.entry(id.clone()).or_default();
        shard.ended = true;
        shard.advance();
    }

    /// The number of open records of a shard.
    fn open_records(&self, id: &ShardId) -> usize {
        self.shards().get(id).map_or(0, |shard| shard.open.len())
    }

    /// The number of records of a shard that were read, and the number of those before the first open one.
    #[must_use]
    pub fn read_and_done(&self, id: &ShardId) -> (u64, u64) {
        let done = |shard: &Shard| shard.open.first().copied().unwrap_or(shard.next);
        self.shards().get(id).map_or((0, 0), |shard| (shard.next, done(shard)))
    }

    /// Waits until fewer than `limit` records of a shard are open.
    pub async fn room(&self, id: &ShardId, limit: usize) {
        loop {
            let changed = self.changed.notified();
            if self.open_records(id) < limit {
                return;
            }
            changed.await;
        }
    }

    /// Waits until the open records of all shards have fewer than `limit` bytes together.
    pub async fn room_in_memory(&self, limit: u64) {
        loop {
            let changed = self.changed.notified();
            if self.open_bytes.load(Ordering::SeqCst) < limit {
                return;
            }
            changed.await;
        }
    }

    /// The position of each shard, durable or not. A shard has none before its first record is done.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<ShardId, Position> {
        let shards = self.shards();
        shards.iter().filter_map(|(id, shard)| Some((id.clone(), shard.position.clone()?))).collect()
    }
}

impl Shard {
    fn advance(&mut self) {
        let first_open = self.open.first().copied().unwrap_or(self.next);
        let later = self.sequence.split_off(&first_open);
        if let Some((_, sequence)) = self.sequence.pop_last() {
            self.position = Some(Position::After(sequence));
            self.staged = false;
        }
        self.sequence = later;
        if self.ended && self.open.is_empty() && self.position != Some(Position::End) {
            self.position = Some(Position::End);
            self.staged = false;
        }
    }
}

impl Remember for Progress {
    fn remember(&self, into: &mut Changes) {
        for (id, shard) in self.shards().iter_mut().filter(|(_, shard)| !shard.staged) {
            if let Some(position) = &shard.position {
                into.checkpoints.push((id.clone(), position.clone()));
                shard.staged = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_checkpoint_waits_for_what_is_open() {
        let progress = Arc::new(Progress::default());
        let id = ShardId { site: "a".parse().unwrap(), created: "t".into(), shard: "0".into() };
        let done: Vec<_> = ["5", "6", "7"].map(|sequence| progress.open(&id, sequence.into(), 1)).into();
        let mut done = done.into_iter();
        let (first, second, third) = (done.next().unwrap(), done.next().unwrap(), done.next().unwrap());
        second();
        assert!(progress.positions().is_empty());
        assert_eq!(progress.read_and_done(&id), (3, 0));
        first();
        assert_eq!(progress.positions()[&id], Position::After("6".into()));
        assert_eq!(progress.read_and_done(&id), (3, 2));
        progress.ended(&id);
        assert_eq!(progress.positions()[&id], Position::After("6".into()));
        third();
        assert_eq!(progress.positions()[&id], Position::End);
        assert_eq!(progress.read_and_done(&id), (3, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_open_records_of_all_shards_share_one_bound_in_bytes() {
        let progress = Arc::new(Progress::default());
        let id = |shard: &str| ShardId { site: "a".parse().unwrap(), created: "t".into(), shard: shard.into() };
        let (small, large) = (progress.open(&id("0"), "1".into(), 40), progress.open(&id("1"), "1".into(), 60));
        let room = async || timeout(Duration::from_secs(1), progress.room_in_memory(100)).await.is_ok();
        assert!(!room().await);
        small();
        assert!(room().await);
        large();
        assert_eq!(progress.open_bytes.load(Ordering::SeqCst), 0);
    }
}
