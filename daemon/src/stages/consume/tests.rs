//! Tests when a reader reports that it has caught up, and how often it reads: at the poll interval while records
//! trickle in, and at once while there are more.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{Announcement, AnnouncementId, ProjectKey, ProjectName, RefKey, Slot, Transaction, TxnId};

use super::*;
use crate::seams::eventlog::{Batch, EventLogError, Record, ShardInfo, ShardReader, StreamInfo};
use crate::stages::ports::{Behind, CatchUpError, Done};
use crate::state::signing::NotSigned;

/// The answer to a read, by the number of reads before it.
type Script = fn(u64) -> Batch;

/// An event log with one shard that answers by a script.
#[derive(Clone)]
struct Scripted {
    script: Script,
    reads: Arc<AtomicU64>,
}

impl Scripted {
    fn new(script: Script) -> Self {
        Self { script, reads: Arc::default() }
    }
}

#[async_trait]
impl EventLog for Scripted {
    async fn ensure(&self, _: &SiteId) -> Result<(), EventLogError> {
        Ok(())
    }

    async fn describe(&self, _: &SiteId) -> Result<StreamInfo, EventLogError> {
        Ok(StreamInfo { created: "t".into(), shards: vec![ShardInfo { id: "0".into(), parents: Vec::new() }] })
    }

    async fn append(&self, _: &SiteId, _: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        unreachable!("the consume stage appends nothing")
    }

    async fn open(&self, _: &SiteId, _: &str, _: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl ShardReader for Scripted {
    async fn next(&mut self, _: usize) -> Result<Batch, EventLogError> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok((self.script)(self.reads.fetch_add(1, Ordering::SeqCst)))
    }
}

/// A batch with one record that is not a transaction.
fn record(number: u64, behind: bool) -> Batch {
    let records = vec![(format!("{number:020}"), Bytes::from_static(b"no transaction"))];
    Batch { records, ended: false, behind }
}

/// The script of a shard whose first answer is empty, although it has a record.
fn slow(number: u64) -> Batch {
    match number {
        0 => Batch { behind: true, ..Batch::default() },
        1 => record(number, false),
        _ => Batch::default(),
    }
}

/// Expects no call: no record in these tests is a transaction.
struct Nowhere;

#[async_trait]
impl Sink for Nowhere {
    async fn offer(&self, _: Arc<Transaction>, _: Bytes, _: Option<NotSigned>, _: Option<Done>) {
        unreachable!("no record is a transaction")
    }
}

/// Counts how often missed events are reported.
#[derive(Default)]
struct Missing(AtomicU64);

impl Announcements for Missing {
    fn take(&self, _: &Announcement, _: &Bytes) {
        unreachable!("no record is an announcement")
    }

    fn keep(&self, _: &AnnouncementId, _: &Bytes) {
        unreachable!("no record is an announcement")
    }

    fn missed(&self, _: &SiteId) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl CatchUp for Nowhere {
    async fn keys(&self, _: &ProjectKey, _: &[RefKey]) -> Result<(), CatchUpError> {
        unreachable!("nothing is missing")
    }

    async fn project(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        unreachable!("nothing is missing")
    }

    async fn journal(&self, _: &TxnId) -> Result<Option<Bytes>, CatchUpError> {
        unreachable!("nothing is in doubt")
    }

    async fn is_collectable(&self, _: &Slot) -> Result<bool, CatchUpError> {
        unreachable!("nothing is in doubt")
    }

    async fn restore_repository(&self, _project: &ProjectKey) -> Result<(), CatchUpError> {
        Ok(())
    }

    async fn refetch_objects(&self, _: &ProjectKey) -> Result<(), CatchUpError> {
        unreachable!("nothing is missing")
    }

    async fn transfer_state(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        unreachable!("nothing is missing")
    }

    async fn projects(&self) -> Result<Behind, CatchUpError> {
        unreachable!("nothing is missing")
    }

    async fn bring_up_to_date(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        unreachable!("nothing is missing")
    }

    async fn everything(&self) -> Result<Behind, CatchUpError> {
        Ok(Behind::new())
    }

    fn later(&self, _: &ProjectKey, _: Vec<RefKey>) {
        unreachable!("nothing is missing")
    }
}

fn consumer(log: &Scripted) -> Arc<Consumer> {
    let context = NodeContext { eventlog: Arc::new(log.clone()), ..NodeContext::in_memory() };
    let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
    let (sink, announcements, catch_up) = (Arc::new(Nowhere), Arc::new(Missing::default()), Arc::new(Nowhere));
    Consumer::new(&context, &state, sink, announcements, catch_up, ConsumeLimits::default())
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_answers_nothing_and_is_behind_has_not_caught_up() {
    let log = Scripted::new(slow);
    let (told, reads) = (Arc::new(Notify::new()), Arc::clone(&log.reads));
    let tell = Arc::clone(&told);
    let seen = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&seen);
    let caught_up = move |_: &SiteId| {
        noted.store(reads.load(Ordering::SeqCst), Ordering::SeqCst);
        tell.notify_one();
    };
    let running = tokio::spawn(consumer(&log).run("s".parse().unwrap(), Arc::new(caught_up), CancellationToken::new()));
    told.notified().await;
    running.abort();
    assert!(seen.load(Ordering::SeqCst) >= 3, "it reported after {seen:?} reads, before the record");
}

/// The refdb has the missed refs, but nothing has the missed events. So the events stage is told.
#[tokio::test]
async fn a_trimmed_stream_reports_its_announcements_as_missing() {
    let mut consumer = consumer(&Scripted::new(slow));
    let missing = Arc::new(Missing::default());
    Arc::get_mut(&mut consumer).expect("no reader shares it yet").announcements = Arc::clone(&missing) as _;
    tokio::spawn(consumer.durability.clone().run());
    let id = ShardId { site: "s".parse().unwrap(), created: "t".into(), shard: "0".into() };
    assert_eq!(consumer.trimmed(&id).await, Ok(Position::Start));
    assert_eq!(consumer.progress.positions()[&id], Position::Start, "the lost position is not looked for again");
    assert_eq!(missing.0.load(Ordering::SeqCst), 1);
}

/// The number of reads within ten seconds of virtual time.
async fn reads_in_ten_seconds(script: Script) -> u64 {
    let log = Scripted::new(script);
    let consumer = consumer(&log);
    let tasks = consumer.tasks.clone();
    let running = tokio::spawn(consumer.run("s".parse().unwrap(), Arc::new(|_| {}), CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(10)).await;
    running.abort();
    tasks.abort();
    log.reads.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn records_that_trickle_in_are_read_at_the_poll_interval() {
    let reads = reads_in_ten_seconds(|number| record(number, false)).await;
    assert!((30..=40).contains(&reads), "{reads} reads in ten seconds, 4 per second are allowed");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_read_at_once() {
    let reads = reads_in_ten_seconds(|number| record(number, true)).await;
    assert!(reads > 1_000, "{reads} reads in ten seconds, although there were always more records");
}
