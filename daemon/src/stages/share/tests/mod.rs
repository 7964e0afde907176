//! Tests of readers among siblings: the number of reads of the stream, the way back to the stream after each failure of
//! a sibling, the hand-over of leases, and the bound on calls that wait.

mod held;

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lockstep_proto::peer::{PeerAnswer, PeerStatus};
use lockstep_proto::sharing::{HandedRecord, RecordOrigin};
use lockstep_proto::{Oid, ProjectName};
use tokio::time::{Instant, sleep};

use super::keeper::Reader;
use super::*;
use crate::seams::blob::Payload;
use crate::seams::eventlog::Batch;
use crate::seams::eventlog::memory::MemoryEventLog;
use crate::seams::peers::PeerError;
use crate::seams::refdb::RefDb;

const INTERVAL: Duration = Duration::from_millis(250);
/// The retention of the streams, if a test sets no other one.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

fn site() -> SiteId {
    "a".parse().unwrap()
}

fn settings() -> ShareSettings {
    ShareSettings { interval: INTERVAL, beat: Duration::from_secs(2), records: 100, bytes: 1 << 20 }
}

/// An event log in memory that counts reads.
#[derive(Clone)]
struct Counted {
    inner: MemoryEventLog,
    reads: Arc<AtomicU64>,
    /// The retention of the stream.
    kept: Duration,
}

impl Counted {
    /// A log with one stream, which has this number of records in one shard.
    async fn new(records: usize) -> Self {
        let log = Self { inner: MemoryEventLog::new(1), reads: Arc::default(), kept: KEPT };
        log.inner.ensure(&site()).await.unwrap();
        for _ in 0..records {
            log.add().await;
        }
        log
    }

    async fn add(&self) {
        let record = Record { partition_key: "p".to_owned(), data: Bytes::from_static(b"data") };
        assert_eq!(self.inner.append(&site(), &[record]).await, Ok(vec![Ok(())]));
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl EventLog for Counted {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        self.inner.ensure(site).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        self.inner.describe(site).await
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        self.inner.append(site, records).await
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        let inner = self.inner.open(site, shard, from).await?;
        Ok(Box::new(CountedReader { inner, reads: Arc::clone(&self.reads) }))
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.inner.open_since(site, shard, ms).await
    }

    async fn retention(&self, _: &SiteId) -> Result<Option<Duration>, EventLogError> {
        Ok(Some(self.kept))
    }
}

struct CountedReader {
    inner: Box<dyn ShardReader>,
    reads: Arc<AtomicU64>,
}

#[async_trait]
impl ShardReader for CountedReader {
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.next(limit).await
    }
}

/// The nodes of the site that are up, as peers of each other.
#[derive(Clone, Default)]
struct Near(Arc<Mutex<BTreeMap<String, Arc<Share>>>>);

#[async_trait]
impl Peers for Near {
    async fn objects(&self, _: &ProjectName, _: &[Oid], _: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        unreachable!("nobody asks for objects")
    }

    async fn statuses(&self) -> Vec<PeerStatus> {
        self.0.lock().keys().map(|name| status(name)).collect()
    }

    async fn records(&self, peer: &str, request: &RecordsRequest) -> Result<RecordsAnswer, PeerError> {
        let share = self.0.lock().get(peer).cloned();
        let share = share.ok_or_else(|| PeerError::NotNow("connection refused".to_owned()))?;
        share.records(request.clone()).await.map_err(|error| PeerError::NotNow(error.message))
    }
}

fn status(name: &str) -> PeerStatus {
    let answer = PeerAnswer {
        site: site(),
        node: name.parse().unwrap(),
        version: String::new(),
        role: String::new(),
        epoch: 0,
        ready: true,
        waits_for: Vec::new(),
    };
    let (name, address, way) = (name.to_owned(), String::new(), String::new());
    PeerStatus { name, address, way, answer: Some(answer), problem: None, took_ms: 0 }
}

/// The answer of a sibling to every call. None: it never answers.
type Script = Option<fn(&RecordsRequest) -> Result<RecordsAnswer, PeerError>>;

/// A sibling that answers by a script, and counts the calls.
struct Scripted {
    script: Script,
    calls: Arc<AtomicU64>,
}

#[async_trait]
impl Peers for Scripted {
    async fn objects(&self, _: &ProjectName, _: &[Oid], _: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        unreachable!("nobody asks for objects")
    }

    async fn records(&self, _: &str, request: &RecordsRequest) -> Result<RecordsAnswer, PeerError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.script {
            Some(script) => script(request),
            None => std::future::pending().await,
        }
    }
}

fn share(name: &str, log: &Counted, refdb: &RefDb, peers: Arc<dyn Peers>) -> Arc<Share> {
    let (eventlog, node) = (Arc::new(log.clone()), name.parse().unwrap());
    let memory = NodeContext::in_memory();
    let context = NodeContext { site: site(), node, eventlog, refdb: refdb.clone(), peers, ..memory };
    Share::new(&context, Some(settings()))
}

/// A reader of the only shard, from its oldest record.
async fn reader(share: &Arc<Share>) -> Box<dyn ShardReader> {
    let log = share.eventlog();
    let shard = log.describe(&site()).await.unwrap().shards[0].id.clone();
    log.open(&site(), &shard, &Position::Start).await.unwrap()
}

/// Reads as the consume stage does, and keeps the sequence numbers.
fn read_on(share: &Arc<Share>) -> Arc<Mutex<Vec<String>>> {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (share, into) = (Arc::clone(share), Arc::clone(&seen));
    tokio::spawn(async move {
        let mut reader = reader(&share).await;
        loop {
            let batch = reader.next(1_000).await.unwrap();
            let has_read_all = batch.records.is_empty() || !batch.behind;
            into.lock().extend(batch.records.into_iter().map(|(sequence, _)| sequence));
            if has_read_all && !reader.waits() {
                sleep(INTERVAL).await;
            }
        }
    });
    seen
}

/// The number of reads of a stream by this number of siblings in 20 seconds, in which all of them get 20 records.
async fn reads_of(nodes: usize) -> u64 {
    let (log, refdb, near) = (Counted::new(0).await, NodeContext::in_memory().refdb, Near::default());
    let mut seen = Vec::new();
    for number in 0..nodes {
        let name = format!("a-{number}");
        let share = share(&name, &log, &refdb, Arc::new(near.clone()));
        near.0.lock().insert(name, Arc::clone(&share));
        seen.push(read_on(&share));
        tokio::spawn(share.run());
    }
    sleep(Duration::from_secs(30)).await;
    let before = log.reads();
    for _ in 0..20 {
        log.add().await;
        sleep(Duration::from_secs(1)).await;
    }
    let expected: Vec<String> = (1..=20).map(|number: u32| number.to_string()).collect();
    assert!(seen.iter().all(|seen| *seen.lock() == expected), "each node has each record once, in order");
    log.reads() - before
}

#[tokio::test(start_paused = true)]
async fn twenty_siblings_read_a_stream_as_often_as_one_node() {
    let (one, twenty) = (reads_of(1).await, reads_of(20).await);
    assert!(one > 40 && twenty <= one + one / 10, "one node reads {one} times, twenty read {twenty} times");
}

/// A node whose sibling `a-9` has the lease of the only shard, with a reader of it.
async fn follower(script: Script, log: &Counted) -> (Arc<Share>, Box<dyn ShardReader>, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let peers = Scripted { script, calls: Arc::clone(&calls) };
    let share = share("a-0", log, &NodeContext::in_memory().refdb, Arc::new(peers));
    let reader = reader(&share).await;
    let node: NodeId = "a-9".parse().unwrap();
    let leases = share.shards.turn().0;
    let mut known = share.leases.lock();
    known.siblings.insert(node.clone(), "a-9".to_owned());
    let of = |key: String| (key, Reader { node: node.clone(), is_still: false });
    known.readers = leases.into_iter().map(of).collect();
    drop(known);
    (share, reader, calls)
}

fn record(sequence: &str) -> HandedRecord {
    HandedRecord { sequence: sequence.to_owned(), data: "ZGF0YQ==".to_owned() }
}

fn handed(follows: Option<&str>, sequences: &[&str]) -> RecordsAnswer {
    let records = sequences.iter().map(|sequence| record(sequence)).collect();
    RecordsAnswer::Records { follows: follows.map(str::to_owned), records, ended: false, behind: false }
}

/// No records, and the stream has more.
fn nothing_yet(request: &RecordsRequest) -> RecordsAnswer {
    RecordsAnswer::Records { follows: request.after.clone(), records: Vec::new(), ended: false, behind: true }
}

/// Records in order, and one more than the request takes.
fn one_too_many(request: &RecordsRequest) -> RecordsAnswer {
    let records = (1..=request.most + 1).map(|number| record(&number.to_string())).collect();
    RecordsAnswer::Records { follows: request.after.clone(), records, ended: false, behind: false }
}

fn sequences(batch: &Batch) -> Vec<&str> {
    batch.records.iter().map(|(sequence, _)| sequence.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn after_any_failure_of_a_sibling_the_next_records_come_from_the_stream() {
    let scripts: [(Script, &str); 10] = [
        (Some(|_| Err(PeerError::NotNow("refused".to_owned()))), "cannot be asked: refused"),
        (None, "did not answer in time"),
        (Some(|_| Ok(RecordsAnswer::Silent)), "has read nothing for two poll intervals"),
        // A reader whose stream has more, and gives it nothing.
        (Some(|request| Ok(nothing_yet(request))), "has read nothing for two poll intervals"),
        (Some(|_| Ok(RecordsAnswer::Elsewhere { oldest: Some("2".to_owned()) })), "does not have the position"),
        (Some(|_| Ok(RecordsAnswer::NotReader)), "does not read the shard for others"),
        (Some(|_| Ok(handed(Some("1"), &["2"]))), "do not follow the position"),
        (Some(|_| Ok(handed(None, &["2", "1"]))), "do not follow the position"),
        (Some(|_| Ok(handed(None, &["2", "2"]))), "do not follow the position"),
        (Some(|request| Ok(one_too_many(request))), "do not follow the position"),
    ];
    for (script, reason) in scripts {
        let log = Counted::new(3).await;
        let (share, mut reader, calls) = follower(script, &log).await;
        let began = Instant::now();
        let batch = reader.next(10).await.unwrap();
        assert_eq!((sequences(&batch), log.reads()), (vec!["1", "2", "3"], 1), "{reason}");
        assert!(began.elapsed() <= INTERVAL * 2 + Duration::from_secs(1), "{reason}");
        assert!(!reader.waits(), "{reason}");
        let shown = share.status().shards.remove(0);
        assert_eq!((shown.origin, shown.reader.unwrap().as_str()), (RecordOrigin::Stream, "a-9"));
        assert!(shown.reason.contains(reason), "{reason}: {}", shown.reason);
        reader.next(10).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 1, "{reason}: a sibling that failed is asked later");
        sleep(INTERVAL * 2).await;
        reader.next(10).await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), 2, "{reason}: it is asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn records_of_a_sibling_are_not_read_from_the_stream_and_the_end_comes_with_them() {
    let log = Counted::new(3).await;
    let script: Script = Some(|request| {
        let ended = request.after.is_some();
        let sequence = if ended { "2" } else { "1" };
        let records = vec![record(sequence)];
        Ok(RecordsAnswer::Records { follows: request.after.clone(), records, ended, behind: false })
    });
    let (share, mut reader, calls) = follower(script, &log).await;
    let first = reader.next(10).await.unwrap();
    assert_eq!(first.records, [("1".to_owned(), Bytes::from_static(b"data"))]);
    assert!(!first.ended && reader.waits(), "the sibling waits for the next ones");
    assert_eq!(share.status().shards[0].origin, RecordOrigin::Sibling);
    let last = reader.next(10).await.unwrap();
    assert_eq!((sequences(&last), last.ended), (vec!["2"], true));
    assert!(reader.next(10).await.unwrap().ended);
    assert_eq!((log.reads(), calls.load(Ordering::Relaxed)), (0, 2));
}

/// A sibling that has nothing, then is away, and the stream forgets its records by their age.
#[tokio::test(start_paused = true)]
async fn a_position_that_was_idle_is_no_gap_while_the_stream_keeps_whatever_came_since() {
    // A retention of a week may have been set after the stream forgot records of more than a day.
    for (kept, idle, is_told) in [(KEPT, KEPT / 3, false), (KEPT, KEPT, true), (KEPT * 7, KEPT, true)] {
        let mut log = Counted::new(3).await;
        log.kept = kept;
        let script: Script = Some(|request| match request.after.as_deref() {
            None => Ok(handed(None, &["1", "2", "3"])),
            Some(_) => Err(PeerError::NotNow("refused".to_owned())),
        });
        let (_, mut reader, _) = follower(script, &log).await;
        assert_eq!(sequences(&reader.next(10).await.unwrap()), ["1", "2", "3"], "of the sibling, which has no more");
        sleep(idle).await;
        log.inner.trim(&site(), "4").unwrap();
        let next = reader.next(10).await;
        assert_eq!(next.is_err(), is_told, "{kept:?} {idle:?}: {next:?}");
        if is_told {
            assert_eq!(next, Err(EventLogError::Trimmed("3".to_owned())));
            continue;
        }
        log.add().await;
        assert_eq!(sequences(&reader.next(10).await.unwrap()), ["4"]);
        log.add().await;
        assert_eq!(sequences(&reader.next(10).await.unwrap()), ["5"], "each record once");
    }
}

/// Two nodes, of which the first one has the lease and takes nothing behind its first read, as if it applied slowly.
#[tokio::test(start_paused = true)]
async fn a_holder_that_applies_slowly_reads_on_for_its_siblings_up_to_a_bound() {
    let (log, refdb, near) = (Counted::new(0).await, NodeContext::in_memory().refdb, Near::default());
    let [slow, fast] = ["a-0", "a-1"].map(|name| {
        let share = share(name, &log, &refdb, Arc::new(near.clone()));
        near.0.lock().insert(name.to_owned(), Arc::clone(&share));
        share
    });
    let (mut of_slow, seen) = (reader(&slow).await, read_on(&fast));
    sleep(INTERVAL).await;
    slow.turn().await;
    fast.turn().await;
    assert!(of_slow.next(10).await.unwrap().records.is_empty() && slow.held() == 1);
    sleep(INTERVAL * 8).await;
    for _ in 0..50 {
        log.add().await;
    }
    sleep(INTERVAL * 4).await;
    let of_fast = || fast.status().shards.remove(0).origin;
    assert_eq!((seen.lock().len(), of_fast()), (50, RecordOrigin::Sibling), "it does not wait for the slow one");
    for _ in 0..200 {
        log.add().await;
    }
    sleep(INTERVAL * 40).await;
    assert_eq!((seen.lock().len(), of_fast()), (250, RecordOrigin::Stream), "it reads alone beyond the bound");
    let mut taken = Vec::new();
    while taken.len() < 250 {
        taken.extend(of_slow.next(30).await.unwrap().records.into_iter().map(|(sequence, _)| sequence));
    }
    assert_eq!(taken, *seen.lock(), "the slow one gets each record once, in order");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_hands_its_lease_over_and_answers_no_sibling() {
    let (log, refdb, near) = (Counted::new(0).await, NodeContext::in_memory().refdb, Near::default());
    let [one, two] = ["a-0", "a-1"].map(|name| {
        let share = share(name, &log, &refdb, Arc::new(near.clone()));
        near.0.lock().insert(name.to_owned(), Arc::clone(&share));
        share
    });
    let (mut of_one, _of_two) = (reader(&one).await, reader(&two).await);
    one.turn().await;
    two.turn().await;
    of_one.next(10).await.unwrap();
    assert_eq!((one.held(), two.held()), (1, 0));
    let call = |wait_ms| {
        let shard = one.shards.shown().remove(0).0;
        let (stream, created, shard) = (shard.site, shard.created, shard.shard);
        one.records(RecordsRequest {
            reader: "a-1".parse().unwrap(),
            stream,
            created,
            shard,
            after: None,
            most: 9,
            wait_ms,
        })
    };
    assert_eq!(call(0).await, Ok(RecordsAnswer::Silent), "nothing is new");
    one.hand_over().await;
    assert_eq!(call(0).await, Ok(RecordsAnswer::NotReader));
    one.turn().await;
    two.turn().await;
    assert_eq!((one.held(), two.held()), (0, 1), "a node that stops takes no lease");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_no_peer_any_more_is_no_sibling() {
    let (log, refdb, near) = (Counted::new(0).await, NodeContext::in_memory().refdb, Near::default());
    let [one, two] = ["a-0", "a-1"].map(|name| share(name, &log, &refdb, Arc::new(near.clone())));
    near.0.lock().extend([("a-0".to_owned(), Arc::clone(&one)), ("a-1".to_owned(), two)]);
    one.turn().await;
    assert!(one.status().shares, "{:?}", one.status());
    near.0.lock().remove("a-1");
    // A node that misses nobody asks once in 60 turns.
    for _ in 0..60 {
        one.turn().await;
    }
    assert!(!one.status().shares, "{:?}", one.status());
}
