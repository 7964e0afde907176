//! Tests: the loop over an event log and a refdb in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::overview::Written;
use serde_json::json;

use super::*;
use crate::seams::eventlog::memory::MemoryEventLog;
use crate::seams::eventlog::{OpenShards, Position, Record, ShardReader, StreamInfo};
use crate::seams::refdb::DigestRecord;

const MINUTE: u64 = 60_000;

/// A clock that a test sets.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A site with a stream in memory, and the writes that its first node tells.
struct World {
    context: NodeContext,
    log: MemoryEventLog,
    hand: Arc<Hand>,
    written: Mutex<Written>,
}

impl World {
    async fn new(shards: u32) -> Self {
        let log = MemoryEventLog::new(shards);
        let hand = Arc::new(Hand(AtomicU64::new(1_000_000 * MINUTE)));
        let (eventlog, clock) = (Arc::new(log.clone()), Arc::clone(&hand) as Arc<dyn Clock>);
        let context = NodeContext { eventlog, clock, ..NodeContext::in_memory() };
        log.ensure(&context.site).await.unwrap();
        Self { context, log, hand, written: Mutex::default() }
    }

    fn node(&self, name: &str, dry_run: bool) -> Autoscaler {
        let limits = Limits { target: 60, least: 1, most: 64, settle_ms: 30 * MINUTE, interval_ms: MINUTE };
        let context = NodeContext { node: name.parse().unwrap(), ..self.context.clone() };
        Autoscaler::new(&context, AutoscaleSettings { dry_run, limits, peaks: Vec::new() })
    }

    /// A minute passes, in which the site writes so many bytes per second.
    async fn minute(&self, bytes: u64) {
        let at_ms = self.hand.0.fetch_add(MINUTE, Ordering::Relaxed) + MINUTE;
        self.written.lock().bytes += bytes * 60;
        let written = *self.written.lock();
        let body = json!({"format": 1, "site": self.context.site, "node": "n", "at_ms": at_ms, "starts": 1,
            "written": written});
        let record = DigestRecord { node: "n".parse().unwrap(), body: body.to_string() };
        self.context.refdb.nodes.put_digest(&record).await.unwrap();
    }

    async fn shards(&self) -> u32 {
        self.log.open_shards(&self.context.site).await.unwrap().unwrap().count
    }
}

/// Two looks: a rate needs two digests.
async fn two_looks(world: &World, node: &Autoscaler, memory: &mut Memory, bytes: u64) {
    for _ in 0..2 {
        world.minute(bytes).await;
        node.look(memory).await.unwrap();
    }
}

#[tokio::test]
async fn the_stream_follows_the_load_while_readers_read_it() {
    let (world, mut memory) = (World::new(1).await, Memory::default());
    let (node, site) = (world.node("n", false), &world.context.site);
    let shard = world.log.describe(site).await.unwrap().shards.remove(0).id;
    let mut parent = world.log.open(site, &shard, &Position::Start).await.unwrap();
    let append = async |number: usize| {
        let keys = ["a", "b", "c", "d", "e", "f"];
        let record =
            |key: &&str| Record { partition_key: (*key).to_owned(), data: Bytes::from(format!("{key} {number}")) };
        let records: Vec<Record> = keys.iter().map(record).collect();
        assert!(world.log.append(site, &records).await.unwrap().iter().all(Result::is_ok));
    };
    append(0).await;
    assert_eq!(parent.next(3).await.unwrap().records.len(), 3);
    two_looks(&world, &node, &mut memory, 1 << 20).await;
    assert_eq!(world.shards().await, 2);
    append(1).await;
    let rest = parent.next(100).await.unwrap();
    assert_eq!((rest.records.len(), rest.ended), (3, true), "the parent ends with its own records");
    let mut read = 0;
    for child in world.log.describe(site).await.unwrap().shards.iter().filter(|one| one.parents == [shard.clone()]) {
        let mut reader = world.log.open(site, &child.id, &Position::Start).await.unwrap();
        read += reader.next(100).await.unwrap().records.len();
    }
    assert_eq!(read, 6);
    let shown = node.shown().unwrap();
    assert_eq!((shown.history.len(), shown.calls_ms.len(), shown.turn), (1, 1, 2));
    assert_eq!(shown.history[0].outcome.as_deref(), Some("taken"));
    for _ in 0..40 {
        world.minute(1_000).await;
        node.look(&mut memory).await.unwrap();
    }
    assert_eq!(world.shards().await, 1, "it shrinks when the load has been low for long");
}

#[tokio::test]
async fn one_node_looks_and_another_takes_its_place_when_it_is_gone() {
    let world = World::new(1).await;
    let (first, second) = (world.node("n", false), world.node("m", false));
    let (mut of_first, mut of_second) = (Memory::default(), Memory::default());
    for _ in 0..6 {
        world.minute(100).await;
        first.look(&mut of_first).await.unwrap();
        second.look(&mut of_second).await.unwrap();
    }
    let shown = second.shown().unwrap();
    assert_eq!((shown.holder, shown.turn), (Some("n".parse().unwrap()), 6), "the other one follows");
    for _ in 0..6 {
        world.minute(1 << 20).await;
        second.look(&mut of_second).await.unwrap();
    }
    assert_eq!(second.shown().unwrap().holder, Some("m".parse().unwrap()));
    assert_eq!(world.shards().await, 2);
}

#[tokio::test]
async fn of_two_nodes_that_look_at_once_one_makes_the_change() {
    let world = World::new(2).await;
    let (first, second) = (world.node("n", false), world.node("m", false));
    let mut memory = Memory::default();
    two_looks(&world, &first, &mut memory, 100).await;
    // The second node takes itself for the holder, and reads the state before the first one changes it.
    let own = second.read().await.unwrap();
    world.minute(100 << 20).await;
    first.look(&mut memory).await.unwrap();
    assert_eq!(world.shards().await, 4, "at most to the double");
    let next = StreamCapacity { turn: own.turn + 1, holder: Some("m".parse().unwrap()), ..own.clone() };
    assert!(!second.replace(&own, &next).await.unwrap(), "its state is not written, so it makes no change");
    let stored = second.read().await.unwrap();
    assert_eq!((stored.holder, stored.calls_ms.len()), (Some("n".parse().unwrap()), 1));
    let late = world.log.set_shards(&world.context.site, 2, 4).await;
    assert!(matches!(late, Err(EventLogError::NotNow(_))), "a late copy of the change: {late:?}");
}

#[tokio::test]
async fn the_changes_of_the_day_outlive_the_node_that_made_them() {
    let world = World::new(1).await;
    let node = world.node("n", false);
    let now = world.hand.now_ms();
    let calls_ms = (1..=10).map(|hours| now - hours * 60 * MINUTE).collect();
    let before = StreamCapacity { holder: Some("n".parse().unwrap()), calls_ms, ..StreamCapacity::default() };
    assert!(node.replace(&StreamCapacity::default(), &before).await.unwrap());
    let restarted = world.node("n", false);
    two_looks(&world, &restarted, &mut Memory::default(), 1 << 20).await;
    let shown = restarted.shown().unwrap();
    assert_eq!((world.shards().await, shown.stuck), (1, true), "{}", shown.told);
    world.hand.0.fetch_add(24 * 60 * MINUTE, Ordering::Relaxed);
    two_looks(&world, &restarted, &mut Memory::default(), 1 << 20).await;
    assert_eq!(world.shards().await, 2);
}

/// A stream whose limit of calls is used up.
struct UsedUp(MemoryEventLog);

#[async_trait]
impl EventLog for UsedUp {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        self.0.ensure(site).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        self.0.describe(site).await
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        self.0.append(site, records).await
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.0.open(site, shard, from).await
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.0.open_since(site, shard, ms).await
    }

    async fn open_shards(&self, site: &SiteId) -> Result<Option<OpenShards>, EventLogError> {
        self.0.open_shards(site).await
    }

    async fn set_shards(&self, _: &SiteId, _: u32, _: u32) -> Result<(), EventLogError> {
        Err(EventLogError::Limited("a retry helps tomorrow".to_owned()))
    }
}

#[tokio::test]
async fn a_change_that_a_limit_refuses_is_told_as_refused_and_never_as_not_known() {
    let mut world = World::new(1).await;
    world.context.eventlog = Arc::new(UsedUp(world.log.clone()));
    let (node, mut memory) = (world.node("n", false), Memory::default());
    world.minute(1 << 20).await;
    node.look(&mut memory).await.unwrap();
    world.minute(1 << 20).await;
    let failed = node.look(&mut memory).await.unwrap_err();
    assert!(matches!(failed, LookError::EventLog(EventLogError::Limited(_))), "{failed}");
    let outcome = node.shown().unwrap().history.pop().and_then(|last| last.outcome).unwrap();
    assert!(outcome.starts_with("refused: ") && outcome.contains("a retry helps tomorrow"), "{outcome}");
    assert_eq!(world.shards().await, 1);
}

#[tokio::test]
async fn a_dry_run_tells_each_step_once_and_changes_nothing() {
    let (world, mut memory) = (World::new(1).await, Memory::default());
    let node = world.node("n", true);
    for _ in 0..6 {
        world.minute(1 << 20).await;
        node.look(&mut memory).await.unwrap();
    }
    let shown = node.shown().unwrap();
    assert_eq!((world.shards().await, shown.calls_ms.len()), (1, 0));
    assert_eq!(shown.history.len(), 1, "{:?}", shown.history);
    assert!(shown.history[0].dry_run && shown.history[0].to == 2);
}
