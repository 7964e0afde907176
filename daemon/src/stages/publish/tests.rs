//! The publish stage over an event log that takes a few records of each append.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::{Lane, Seq, SiteId, Slot, Transaction};
use parking_lot::Mutex;
use tokio::time::{Duration, timeout};

use super::{LeftoverPublisher, Publisher};
use crate::base::transaction_builder::TransactionBuilder;
use crate::seams::eventlog::memory::MemoryEventLog;
use crate::seams::eventlog::{EventLog, EventLogError, Position, Record, ShardReader, StreamInfo};
use crate::seams::refdb::{IncarnationRecord, IncarnationState};
use crate::stages::ports::Leftovers;
use crate::state::context::NodeContext;
use crate::state::journal::{Journal, JournalLimits};

/// An event log that takes the first records of each append, and counts how often it took each record.
struct Narrow {
    inner: MemoryEventLog,
    takes: usize,
    taken: Mutex<BTreeMap<bytes::Bytes, usize>>,
}

#[async_trait]
impl EventLog for Narrow {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        self.inner.ensure(site).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        self.inner.describe(site).await
    }

    async fn append(&self, _: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        let mut taken = self.taken.lock();
        let answer = |(at, record): (usize, &Record)| {
            if at >= self.takes {
                return Err(EventLogError::NotNow("throttled".to_owned()));
            }
            *taken.entry(record.data.clone()).or_default() += 1;
            Ok(())
        };
        Ok(records.iter().enumerate().map(answer).collect())
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.inner.open(site, shard, from).await
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.inner.open_since(site, shard, ms).await
    }
}

fn transaction(slot: &Slot, project: u64) -> Transaction {
    let built = TransactionBuilder::of(slot.txn(1)).project(&format!("p{project}#1"));
    let built = built.creates(&format!("b{}", slot.seq)).build();
    Transaction { committed_at_ms: slot.seq.0, request_id: "r".to_owned(), ..built }
}

/// A node whose event log takes two records per append, with an open incarnation of one lane.
async fn world() -> (NodeContext, Arc<Narrow>, IncarnationRecord) {
    let log = Arc::new(Narrow { inner: MemoryEventLog::new(1), takes: 2, taken: Mutex::default() });
    let context = NodeContext { eventlog: Arc::clone(&log) as _, ..NodeContext::in_memory() };
    let record = context.open_incarnation().await;
    (context, log, record)
}

#[tokio::test(start_paused = true)]
async fn the_mark_follows_an_event_log_that_takes_a_few_records_each_time() {
    let (context, log, record) = world().await;
    let limits = JournalLimits { lanes: 1, window: 64, cache_bytes: 1_000_000 };
    let journal = Arc::new(Journal::new(record.id.clone(), limits));
    for number in 0..40 {
        let slot = journal.take(Lane(0)).await;
        journal.committed(&slot, transaction(&slot, number % 5).encode());
    }
    let publisher = tokio::spawn(Publisher::new(&context, Arc::clone(&journal)).run());
    let published = async {
        while journal.marks()[0].published < Seq(40) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(Duration::from_secs(30), published).await.is_ok(), "{:?}", journal.marks());
    publisher.abort();
    let taken = log.taken.lock();
    assert_eq!((taken.len(), taken.values().sum::<usize>()), (40, 40), "each record is appended once");
}

/// An idle publisher looks again after a second. The journal wakes it long before.
#[tokio::test(start_paused = true)]
async fn a_commit_wakes_an_idle_publisher() {
    let (context, log, record) = world().await;
    let limits = JournalLimits { lanes: 1, window: 64, cache_bytes: 1_000_000 };
    let journal = Arc::new(Journal::new(record.id.clone(), limits));
    let publisher = tokio::spawn(Publisher::new(&context, Arc::clone(&journal)).run());
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(log.taken.lock().len(), 0, "it is idle");
    let slot = journal.take(Lane(0)).await;
    journal.committed(&slot, transaction(&slot, 0).encode());
    tokio::time::sleep(Duration::from_millis(1)).await;
    publisher.abort();
    assert_eq!(log.taken.lock().len(), 1, "the record is in the log a millisecond later");
}

#[tokio::test(start_paused = true)]
async fn a_dead_incarnation_is_published_from_its_mark_and_drained() {
    let (context, log, record) = world().await;
    let refdb = &context.refdb;
    let lane = record.id.lane(Lane(0));
    for number in [0, 1, 2, 4] {
        let slot = lane.slot(Seq(number));
        let transaction = transaction(&slot, 0);
        context.refdb.refs.seal(&transaction.id, &transaction.encode()).await.unwrap();
    }
    refdb.incarnations.mark(&record.site, &record.id, &[Seq(1)], &[Seq(1)]).await.unwrap();
    let frozen = refdb.incarnations.freeze(&record.site, &record.id).await.unwrap();
    for seq in 1..frozen.ends()[0].0 {
        context.refdb.journal.poison(&lane.slot(Seq(seq))).await.unwrap();
    }
    refdb.incarnations.poisoned(&record.site, &record.id).await.unwrap();
    let publisher = LeftoverPublisher::new(&context);
    tokio::spawn(publisher.clone().run());
    let one = async || refdb.incarnations.incarnations(&record.site).await.unwrap().remove(0);
    publisher.publish(vec![one().await]);
    let drained = async {
        while one().await.state != IncarnationState::Drained {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(Duration::from_secs(30), drained).await.is_ok(), "{:?}", one().await);
    assert_eq!(one().await.published, frozen.ends());
    let taken = log.taken.lock();
    assert_eq!((taken.len(), taken.values().sum::<usize>()), (3, 3), "the first one was below the mark");
}
