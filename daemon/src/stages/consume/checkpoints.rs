//! The progress of each shard. Its checkpoint is the last position before which nothing is open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::seams::eventlog::Position;
use crate::seams::volume::{Changes, ShardId};
use crate::state::durability::Remember;

/// The progress of every shard that is being read.
#[derive(Default)]
pub struct Progress {
    shards: Mutex<BTreeMap<ShardId, Shard>>,
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

    /// Notes that a record was read. The record is open until the returned function is called.
    pub fn open(self: &Arc<Self>, id: &ShardId, sequence: String) -> impl FnOnce() + Send + Sync + 'static {
        let number = {
            let mut shards = self.shards();
            let shard = shards.entry(id.clone()).or_default();
            let number = shard.next;
            shard.next += 1;
            shard.open.insert(number);
            shard.sequence.insert(number, sequence);
            number
        };
        let (progress, id) = (Arc::clone(self), id.clone());
        move || progress.done(&id, number)
    }

    fn done(&self, id: &ShardId, number: u64) {
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
    #[must_use]
    pub fn open_records(&self, id: &ShardId) -> usize {
        self.shards().get(id).map_or(0, |shard| shard.open.len())
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
    use super::*;

    #[test]
    fn the_checkpoint_waits_for_what_is_open() {
        let progress = Arc::new(Progress::default());
        let id = ShardId { site: "a".parse().unwrap(), created: "t".into(), shard: "0".into() };
        let done: Vec<_> = ["5", "6", "7"].map(|sequence| progress.open(&id, sequence.into())).into();
        let mut done = done.into_iter();
        let (first, second, third) = (done.next().unwrap(), done.next().unwrap(), done.next().unwrap());
        second();
        assert!(progress.positions().is_empty());
        first();
        assert_eq!(progress.positions()[&id], Position::After("6".into()));
        progress.ended(&id);
        assert_eq!(progress.positions()[&id], Position::After("6".into()));
        third();
        assert_eq!(progress.positions()[&id], Position::End);
    }
}
