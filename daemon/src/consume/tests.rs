//! When a reader says that it has caught up.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{ProjectKey, ProjectName, RefKey, Transaction, TxnId};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::{SeededEntropy, SystemClock};
use crate::eventlog::{Batch, EventLogError, Record, ShardInfo, ShardReader, StreamInfo};
use crate::git::model::ModelRepositories;
use crate::links::Done;
use crate::observe::Nobody;
use crate::plant::Plants;
use crate::refs::RefTable;
use crate::volume::memory::MemoryStore;

/// A log whose only shard answers nothing at first, although there is a record.
#[derive(Clone, Default)]
struct Slow(Arc<AtomicUsize>);

#[async_trait]
impl EventLog for Slow {
    async fn ensure(&self, _: &SiteId) -> Result<(), EventLogError> {
        Ok(())
    }

    async fn describe(&self, _: &SiteId) -> Result<StreamInfo, EventLogError> {
        Ok(StreamInfo { created: "t".into(), shards: vec![ShardInfo { id: "0".into(), parents: Vec::new() }] })
    }

    async fn append(&self, _: &SiteId, _: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        Ok(Vec::new())
    }

    async fn open(&self, _: &SiteId, _: &str, _: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl ShardReader for Slow {
    async fn next(&mut self, _: usize) -> Result<Batch, EventLogError> {
        Ok(match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Batch { behind: true, ..Batch::default() },
            1 => Batch { records: vec![("1".into(), Bytes::from_static(b"\xff"))], ..Batch::default() },
            _ => Batch::default(),
        })
    }
}

/// Nothing is handed over here: the record is none.
struct Nowhere;

#[async_trait]
impl Sink for Nowhere {
    async fn offer(&self, _: Arc<Transaction>, _: Bytes, _: Option<Done>) {}
}

#[async_trait]
impl CatchUp for Nowhere {
    async fn keys(&self, _: &ProjectKey, _: &[RefKey]) -> Result<(), String> {
        Ok(())
    }

    async fn project(&self, _: &ProjectName) -> Result<(), String> {
        Ok(())
    }

    async fn journal(&self, _: &TxnId) -> Result<Option<Bytes>, String> {
        Ok(None)
    }

    async fn revive(&self, _project: &ProjectKey) -> Result<(), String> {
        Ok(())
    }

    async fn jump(&self, _: &ProjectName) -> Result<(), String> {
        Ok(())
    }

    async fn projects(&self) -> Result<(), String> {
        Ok(())
    }

    async fn everything(&self) -> Result<(), String> {
        Ok(())
    }

    fn later(&self, _: &ProjectKey, _: Vec<RefKey>) {}
}

fn consumer(log: &Slow) -> Arc<Consumer> {
    let (store, plants): (Arc<dyn NodeStore>, _) = (Arc::new(MemoryStore::default()), Plants::default());
    let table = Arc::new(RefTable::new(Arc::clone(&store), plants));
    let repositories = Arc::new(ModelRepositories::new(plants));
    let (pace, failed) = (Duration::from_millis(1), CancellationToken::new());
    Arc::new(Consumer {
        eventlog: Arc::new(log.clone()),
        sink: Arc::new(Nowhere),
        catch_up: Arc::new(Nowhere),
        store: Arc::clone(&store),
        durability: Durability::new(table, repositories, store, pace, plants, failed),
        progress: Arc::default(),
        observer: Arc::new(Nobody),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SeededEntropy::new(1)),
        tasks: Tasks::new(),
        limits: ConsumeLimits::default(),
        plants,
    })
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_answers_nothing_and_is_behind_has_not_caught_up() {
    let log = Slow::default();
    let (told, reads) = (Arc::new(Notify::new()), log.clone());
    let tell = Arc::clone(&told);
    let seen = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&seen);
    let caught_up = move |_: &SiteId| {
        noted.store(reads.0.load(Ordering::SeqCst), Ordering::SeqCst);
        tell.notify_one();
    };
    let running = tokio::spawn(consumer(&log).run("s".parse().unwrap(), Arc::new(caught_up)));
    told.notified().await;
    running.abort();
    assert!(seen.load(Ordering::SeqCst) >= 3, "it said so after {seen:?} reads, before the record");
}
