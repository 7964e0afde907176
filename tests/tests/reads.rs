//! How often a stream is read: at the poll interval while records trickle in, at once while there is more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::clock::{SeededEntropy, SystemClock};
use lockstep::consume::{ConsumeLimits, Consumer, Progress};
use lockstep::durability::Durability;
use lockstep::eventlog::{Batch, EventLog, EventLogError, Position, Record, ShardInfo, ShardReader, StreamInfo};
use lockstep::git::model::ModelRepositories;
use lockstep::links::{CatchUp, Done, Sink};
use lockstep::observe::Nobody;
use lockstep::plant::Plants;
use lockstep::refs::RefTable;
use lockstep::tasks::Tasks;
use lockstep::volume::NodeStore;
use lockstep::volume::memory::MemoryStore;
use lockstep_proto::{ProjectKey, ProjectName, RefKey, SiteId, Transaction, TxnId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const POLL: Duration = Duration::from_millis(250);

/// A stream of one shard; each read answers one record, and whether there is more.
struct Stream {
    more: bool,
    reads: Arc<AtomicU64>,
}

#[async_trait]
impl EventLog for Stream {
    async fn ensure(&self, _: &SiteId) -> Result<(), EventLogError> {
        Ok(())
    }

    async fn describe(&self, _: &SiteId) -> Result<StreamInfo, EventLogError> {
        Ok(StreamInfo { created: "once".into(), shards: vec![ShardInfo { id: "0".into(), parents: Vec::new() }] })
    }

    async fn append(&self, _: &SiteId, _: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        unreachable!("nobody writes here")
    }

    async fn open(&self, _: &SiteId, _: &str, _: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        Ok(Box::new(Self { more: self.more, reads: Arc::clone(&self.reads) }))
    }
}

#[async_trait]
impl ShardReader for Stream {
    async fn next(&mut self, _: usize) -> Result<Batch, EventLogError> {
        sleep(Duration::from_millis(2)).await;
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        let records = vec![(format!("{number:020}"), Bytes::from_static(b"no transaction"))];
        Ok(Batch { records, ended: false, behind: self.more })
    }
}

/// Nothing decodes, so nothing gets here.
struct Nowhere;

#[async_trait]
impl Sink for Nowhere {
    async fn offer(&self, _: Arc<Transaction>, _: Bytes, _: Option<Done>) {
        unreachable!("no record is a transaction")
    }
}

#[async_trait]
impl CatchUp for Nowhere {
    async fn keys(&self, _: &ProjectKey, _: &[RefKey]) -> Result<(), String> {
        unreachable!("nothing is missing")
    }

    async fn project(&self, _: &ProjectName) -> Result<(), String> {
        unreachable!("nothing is missing")
    }

    async fn revive(&self, _project: &ProjectKey) -> Result<(), String> {
        Ok(())
    }

    async fn jump(&self, _: &ProjectName) -> Result<(), String> {
        unreachable!("nothing is missing")
    }

    async fn projects(&self) -> Result<(), String> {
        unreachable!("nothing is missing")
    }

    async fn everything(&self) -> Result<(), String> {
        unreachable!("nothing is missing")
    }

    async fn journal(&self, _: &TxnId) -> Result<Option<Bytes>, String> {
        unreachable!("nothing is in doubt")
    }

    fn later(&self, _: &ProjectKey, _: Vec<RefKey>) {
        unreachable!("nothing is missing")
    }
}

/// Reads within ten seconds of virtual time.
async fn reads_in_ten_seconds(more: bool) -> u64 {
    let reads = Arc::new(AtomicU64::new(0));
    let store: Arc<dyn NodeStore> = Arc::new(MemoryStore::default());
    let table = Arc::new(RefTable::new(Arc::clone(&store), Plants::default()));
    let repositories = Arc::new(ModelRepositories::new(Plants::default()));
    let pace = Duration::from_millis(50);
    let failed = CancellationToken::new();
    let durability = Durability::new(table, repositories, Arc::clone(&store), pace, Plants::default(), failed);
    let tasks = Tasks::new();
    let consumer = Arc::new(Consumer {
        eventlog: Arc::new(Stream { more, reads: Arc::clone(&reads) }),
        sink: Arc::new(Nowhere),
        catch_up: Arc::new(Nowhere),
        store,
        durability,
        progress: Arc::new(Progress::default()),
        observer: Arc::new(Nobody),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SeededEntropy::new(1)),
        tasks: tasks.clone(),
        limits: ConsumeLimits { poll_interval: POLL, ..ConsumeLimits::default() },
        plants: Plants::default(),
    });
    let running = tokio::spawn(consumer.run("muc-1".parse().unwrap(), Arc::new(|_| {})));
    sleep(Duration::from_secs(10)).await;
    running.abort();
    tasks.abort();
    reads.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn records_that_trickle_in_are_read_at_the_poll_interval() {
    let reads = reads_in_ten_seconds(false).await;
    assert!((30..=40).contains(&reads), "{reads} reads in ten seconds, 4 a second are allowed");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_read_at_once() {
    let reads = reads_in_ten_seconds(true).await;
    assert!(reads > 1_000, "{reads} reads in ten seconds, though there was always more");
}
