//! Tests when a reader reports that it has caught up, and how often it reads: at the poll interval while records
//! trickle in, and at once while there are more. Tests also that a shard which is read from its oldest record hides
//! nothing that the stream has lost.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{Announcement, AnnouncementId, ProjectKey, ProjectName, RefKey, Seq, Slot, Transaction, TxnId};

use super::*;
use crate::base::transaction_builder::TransactionBuilder;
use crate::seams::eventlog::{Batch, EventLogError, Record, ShardInfo, ShardReader, StreamInfo};
use crate::seams::refdb::{CommitAnswer, CommitRequest};
use crate::seams::volume::{Changes, Held, HeldKind, RefRecord};
use crate::stages::ports::{Behind, CatchUpError, Done};
use crate::state::signing::NotSigned;

/// The answer to a read, by the number of reads before it.
type Script = fn(u64) -> Batch;

/// An event log whose shards answer by one script, which counts the reads of all of them.
#[derive(Clone)]
struct Scripted {
    script: Script,
    shards: usize,
    /// Whether its readers wait for records by themselves.
    waits: bool,
    reads: Arc<AtomicU64>,
}

impl Scripted {
    fn new(script: Script) -> Self {
        Self { script, shards: 1, waits: false, reads: Arc::default() }
    }
}

#[async_trait]
impl EventLog for Scripted {
    async fn ensure(&self, _: &SiteId) -> Result<(), EventLogError> {
        Ok(())
    }

    async fn describe(&self, _: &SiteId) -> Result<StreamInfo, EventLogError> {
        let shards = (0..self.shards).map(|number| ShardInfo { id: number.to_string(), parents: Vec::new() });
        Ok(StreamInfo { created: "t".into(), shards: shards.collect() })
    }

    async fn append(&self, _: &SiteId, _: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        unreachable!("the consume stage appends nothing")
    }

    async fn open(&self, _: &SiteId, _: &str, _: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        Ok(Box::new(self.clone()))
    }

    async fn open_since(&self, _: &SiteId, _: &str, _: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        unreachable!("the consume stage begins at positions")
    }
}

#[async_trait]
impl ShardReader for Scripted {
    async fn next(&mut self, _: usize) -> Result<Batch, EventLogError> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok((self.script)(self.reads.fetch_add(1, Ordering::SeqCst)))
    }

    fn waits(&self) -> bool {
        self.waits
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

/// Notes the slots of the transactions that it gets, and is done with each at once.
#[derive(Default)]
struct Applied(Mutex<Vec<Slot>>);

#[async_trait]
impl Sink for Applied {
    async fn offer(&self, transaction: Arc<Transaction>, _: Bytes, _: Option<NotSigned>, done: Option<Done>) {
        self.0.lock().push(transaction.id.slot.clone());
        done.into_iter().for_each(|done| done());
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

    async fn may_be_late(&self, _: &Slot) -> Result<bool, CatchUpError> {
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
    assert!(seen.load(Ordering::SeqCst) >= 2, "it reported after {seen:?} reads, before the record");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_has_new_records_at_every_read_is_caught_up_when_its_first_end_is_done() {
    let script: Script = |number| record(number, number < 5);
    let log = Scripted { waits: true, ..Scripted::new(script) };
    let told = Arc::new(Notify::new());
    let (tell, reads, seen) = (Arc::clone(&told), Arc::clone(&log.reads), Arc::new(AtomicU64::new(0)));
    let noted = Arc::clone(&seen);
    let caught_up = move |_: &SiteId| {
        noted.store(reads.load(Ordering::SeqCst), Ordering::SeqCst);
        tell.notify_one();
    };
    let running = tokio::spawn(consumer(&log).run("s".parse().unwrap(), Arc::new(caught_up), CancellationToken::new()));
    tokio::time::timeout(Duration::from_secs(60), told.notified()).await.expect("no batch is empty");
    running.abort();
    assert!(seen.load(Ordering::SeqCst) >= 6, "it reported after {seen:?} reads, while there were more records");
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
async fn reads_in_ten_seconds(log: Scripted) -> u64 {
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
    let reads = reads_in_ten_seconds(Scripted::new(|number| record(number, false))).await;
    assert!((30..=40).contains(&reads), "{reads} reads in ten seconds, 4 per second are allowed");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_for_records_is_read_again_at_once() {
    let pushed = Scripted { waits: true, ..Scripted::new(|number| record(number, false)) };
    let reads = reads_in_ten_seconds(pushed).await;
    assert!(reads > 1_000, "{reads} reads in ten seconds, although no read costs anything");
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_read_at_once() {
    let reads = reads_in_ten_seconds(Scripted::new(|number| record(number, true))).await;
    assert!(reads > 1_000, "{reads} reads in ten seconds, although there were always more records");
}

/// The transaction in a slot of the only lane of node `n`.
fn creation(seq: u64) -> Transaction {
    TransactionBuilder::in_slot(seq).creates(&format!("b{seq}")).build()
}

/// The script of a shard that has the transaction of slot 1 alone.
fn second_of_two(number: u64) -> Batch {
    let records = if number == 0 { vec![("2".to_owned(), creation(1).encode())] } else { Vec::new() };
    Batch { records, ..Batch::default() }
}

/// The slots that were handed over before the stream was reported as read, and the number of reports of lost events.
/// Two slots are published. The node's store has what `before` says.
async fn handed_over(log: Scripted, before: Changes) -> (Vec<u64>, u64) {
    let context = NodeContext { eventlog: Arc::new(log), ..NodeContext::in_memory() };
    let record = context.open_incarnation().await;
    for seq in 0..2 {
        let (transaction, directories, freed) = (creation(seq), Vec::new(), Default::default());
        let request =
            CommitRequest { encoded: transaction.encode(), transaction, directories, freed, lock_token: None };
        assert_eq!(context.refdb.refs.commit(&request).await, Ok(CommitAnswer::Committed));
    }
    context.refdb.incarnations.mark(&record.site, &record.id, &[Seq(2)], &[Seq(2)]).await.unwrap();
    context.store.commit(before).await.unwrap();
    let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
    let (applied, missing) = (Arc::new(Applied::default()), Arc::new(Missing::default()));
    let (sink, announcements, catch_up) = (Arc::clone(&applied), Arc::clone(&missing), Arc::new(Nowhere));
    let consumer = Consumer::new(&context, &state, sink, announcements, catch_up, ConsumeLimits::default());
    let (told, slots) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
    let (tell, noted) = (Arc::clone(&told), Arc::clone(&slots));
    let caught_up = move |_: &SiteId| {
        *noted.lock() = applied.0.lock().iter().map(|slot| slot.seq.0).collect();
        tell.notify_one();
    };
    let running = tokio::spawn(consumer.run(record.site, Arc::new(caught_up), CancellationToken::new()));
    told.notified().await;
    running.abort();
    context.tasks.abort();
    (slots.lock().clone(), missing.0.load(Ordering::SeqCst))
}

/// A reader that begins at the oldest record is not told that older ones are gone.
#[tokio::test(start_paused = true)]
async fn a_shard_without_a_position_hides_nothing_that_the_stream_has_lost() {
    let (slots, lost) = handed_over(Scripted::new(second_of_two), Changes::default()).await;
    assert!(slots.contains(&0), "slot 0 is in no stream, and the node says that it has read everything: {slots:?}");
    assert_eq!(lost, 1, "the events stage is told, because nothing has the events that were lost");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_everything_has_lost_nothing() {
    let all = |number: u64| match number {
        0 => Batch { records: vec![("1".to_owned(), creation(0).encode())], behind: true, ..Batch::default() },
        1 => second_of_two(0),
        _ => Batch::default(),
    };
    let (slots, lost) = handed_over(Scripted::new(all), Changes::default()).await;
    assert!(slots.contains(&0) && slots.contains(&1), "{slots:?}");
    assert_eq!(lost, 0);
}

/// Shard 0 goes on after the records that it has read, and shard 1 begins. Slot 0 is parked, so the durable low-water
/// mark does not cover slot 1 either.
#[tokio::test(start_paused = true)]
async fn transactions_that_were_here_before_a_restart_are_not_told_as_lost() {
    let (parked, applied) = (creation(0), creation(1));
    let (bytes, kind, since_ms) = (parked.encode(), HeldKind::Committed, 1);
    let held = Held { bytes, kind, project: "p#1".into(), reason: "r".into(), waits_for: Vec::new(), since_ms };
    let command = &applied.commands[0];
    let record = RefRecord { version: command.version, value: command.new.clone(), txn: applied.id.clone() };
    let shard = ShardId { site: "s".parse().unwrap(), created: "t".into(), shard: "0".into() };
    let before = Changes {
        refs: vec![(applied.project.clone(), command.key.clone(), record)],
        checkpoints: vec![(shard, Position::After("2".into()))],
        park: vec![(parked.id.to_string(), held)],
        ..Changes::default()
    };
    let log = Scripted { shards: 2, ..Scripted::new(|_| Batch::default()) };
    assert_eq!(handed_over(log, before).await.1, 0, "both are behind the position of shard 0");
}

#[test]
fn transactions_that_a_failed_look_has_taken_count_as_lost() {
    let lost = Arc::new(AtomicU64::new(0));
    let noted = Arc::clone(&lost);
    let count = move |number: usize| noted.store(number as u64, Ordering::SeqCst);
    let caught_up = reader::CaughtUp::new("s".parse().unwrap(), Arc::new(|_: &SiteId| {}), Arc::new(count));
    caught_up.lacks(BTreeSet::from([creation(0).id]));
    caught_up.lacks(BTreeSet::from([creation(1).id]));
    caught_up.listed();
    assert_eq!(lost.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_node_that_lacks_too_many_slots_takes_every_project_once() {
    let context = NodeContext::in_memory();
    let record = context.open_incarnation().await;
    context.refdb.incarnations.mark(&record.site, &record.id, &[Seq(5_000)], &[Seq(5_000)]).await.unwrap();
    let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
    let (missing, catch_up) = (Arc::new(Missing::default()), Arc::new(Nowhere));
    let announcements = Arc::clone(&missing);
    let limits = ConsumeLimits::default();
    let consumer = Consumer::new(&context, &state, Arc::new(Nowhere), announcements, catch_up, limits);
    for _ in 0..2 {
        consumer.take_unread(&record.site, &BTreeSet::new(), &mut BTreeSet::new()).await.unwrap();
    }
    assert_eq!(missing.0.load(Ordering::SeqCst), 1);
}
