//! Replays of a stream in memory, into an apply stage that sets versions in the version map alone.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::announcement::Origin;
use lockstep_proto::{Announcement, AnnouncementId, EventBody, RefKey, Transaction, Version};

use super::*;
use crate::base::transaction_builder::TransactionBuilder;
use crate::seams::eventlog::Record;
use crate::seams::eventlog::memory::MemoryEventLog;
use crate::seams::volume::{RefRecord, ShardId};
use crate::stages::ports::Done;
use crate::state::signing::NotSigned;
use crate::state::version_map::Mover;

/// Records the versions of each transaction that it gets, but for branch b9, which it sets aside.
struct Mapped(Arc<VersionMap>);

#[async_trait]
impl Sink for Mapped {
    async fn offer(&self, transaction: Arc<Transaction>, _: Bytes, _: Option<NotSigned>, done: Option<Done>) {
        let of = |key: &RefKey| key.as_ref_name().is_some_and(|name| name.as_str() == "refs/heads/b9");
        if !transaction.commands.iter().any(|command| of(&command.key)) {
            know(&self.0, &transaction);
        }
        done.into_iter().for_each(|done| done());
    }
}

/// Puts a transaction into the version map.
fn know(versions: &VersionMap, transaction: &Transaction) {
    let record = |command: &lockstep_proto::Command| {
        let (version, value, txn) = (command.version, command.new.clone(), transaction.id.clone());
        (command.key.clone(), RefRecord { version, value, txn })
    };
    let records = transaction.commands.iter().map(record).collect();
    versions.moved(&transaction.project, records, Mover::Other).unwrap();
}

fn creation(number: u64) -> Transaction {
    TransactionBuilder::in_slot(number).creates(&format!("b{number}")).build()
}

struct World {
    log: MemoryEventLog,
    context: NodeContext,
    state: NodeState,
    replayer: Replayer,
}

impl World {
    /// A node whose stream has the creations of these branches. None is in the version map.
    async fn new(branches: &[u64]) -> Self {
        let log = MemoryEventLog::new(1);
        let context = NodeContext { eventlog: Arc::new(log.clone()), ..NodeContext::in_memory() };
        let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
        state.roles.began_with([context.site.clone()].into());
        log.ensure(&context.site).await.unwrap();
        let sink = Arc::new(Mapped(Arc::clone(&state.versions)));
        let replayer = Replayer::new(&context, &state, sink, ConsumeLimits::default());
        let world = Self { log, context, state, replayer };
        for number in branches {
            world.append(creation(*number).encode()).await;
        }
        world
    }

    async fn append(&self, data: Bytes) {
        let record = Record { partition_key: "p".to_owned(), data };
        let answers = self.log.append(&self.context.site, &[record]).await.unwrap();
        assert_eq!(answers, [Ok(())]);
    }

    fn version(&self, number: u64) -> Version {
        let key = format!("refs/heads/b{number}").parse().unwrap();
        self.state.versions.version(&"p#1".parse().unwrap(), &key).unwrap()
    }

    async fn run(&self, request: ReplayRequest) -> Replay {
        let _ = self.replayer.begin("uid 0", request).await.unwrap();
        loop {
            match self.replayer.last().filter(|last| last.ended_ms.is_some()) {
                Some(ended) => return ended,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

fn request(from: ReplayFrom) -> ReplayRequest {
    ReplayRequest { from, stream: None, shard: None, dry_run: false, reason: "a test".to_owned() }
}

fn counts(replay: &Replay) -> [u64; 4] {
    let of = |number: fn(&lockstep_proto::replay::ShardReplay) -> u64| replay.total(number);
    [of(|one| one.records), of(|one| one.applied), of(|one| one.changing), of(|one| one.brought)]
}

#[tokio::test(start_paused = true)]
async fn a_replay_changes_nothing_where_all_is_well() {
    let world = World::new(&[1, 2, 3]).await;
    (1..=3).for_each(|number| know(&world.state.versions, &creation(number)));
    let before = world.state.versions.changes();
    for from in [ReplayFrom::Oldest, ReplayFrom::Time(1)] {
        let ended = world.run(request(from)).await;
        assert_eq!(counts(&ended), [3, 3, 0, 0]);
        assert!(ended.shards[0].ended && ended.notes.is_empty(), "{ended:?}");
    }
    assert_eq!(world.state.versions.changes(), before);
    assert!(world.context.store.checkpoints().unwrap().is_empty(), "a replay moves no checkpoint");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_the_map_lacks_comes_back_and_a_dry_run_only_counts_it() {
    let world = World::new(&[1, 2, 9]).await;
    know(&world.state.versions, &creation(1));
    let dry = world.run(ReplayRequest { dry_run: true, ..request(ReplayFrom::Oldest) }).await;
    assert_eq!((counts(&dry), world.version(2)), ([3, 1, 2, 0], Version::NONE));
    let ended = world.run(request(ReplayFrom::Oldest)).await;
    assert_eq!((counts(&ended), world.version(2)), ([3, 1, 2, 1], Version(1)), "b9 was set aside");
    assert_eq!(counts(&world.run(request(ReplayFrom::Oldest)).await), [3, 2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_position_is_of_one_shard_and_the_record_after_it_is_the_first() {
    let world = World::new(&[1, 2, 3]).await;
    let shard = world.log.describe(&world.context.site).await.unwrap().shards[0].id.clone();
    let after = |position: &str, shard: &str| ReplayRequest {
        stream: Some(world.context.site.clone()),
        shard: Some(shard.to_owned()),
        ..request(ReplayFrom::After(position.to_owned()))
    };
    assert_eq!(counts(&world.run(after("1", &shard)).await), [2, 0, 2, 2]);
    assert_eq!((world.version(1), world.version(3)), (Version::NONE, Version(1)));
    world.log.trim(&world.context.site, "3").unwrap();
    let gone = world.run(after("1", &shard)).await;
    let why = gone.failures().next().and_then(|shard| shard.failed.clone()).unwrap();
    assert!(why.contains("no longer keeps position 1") && why.contains("lockstep resync"), "{why}");
    let absent = world.run(after("1", "no-shard")).await;
    assert!(absent.failures().any(|one| one.failed.as_deref().is_some_and(|why| why.contains("no-shard"))));
}

#[tokio::test(start_paused = true)]
async fn events_and_records_that_cannot_be_read_are_counted_and_not_taken() {
    let world = World::new(&[]).await;
    let origin = Origin { node: "m".parse().unwrap(), start: 1, life: 1 };
    let announcement = Announcement {
        id: AnnouncementId { origin, seq: 0 },
        site: "t".parse().unwrap(),
        announced_at_ms: 1,
        carrier: "p".parse().unwrap(),
        event_id: "1".to_owned(),
        kind: "patchset-created".to_owned(),
        project: Some("p#1".parse().unwrap()),
        change: None,
        needs: Vec::new(),
        body: EventBody::new("{}").unwrap(),
    };
    world.append(announcement.encode()).await;
    world.append(Bytes::from_static(b"no record")).await;
    let ended = world.run(request(ReplayFrom::Oldest)).await;
    assert_eq!((ended.shards[0].events, ended.shards[0].passed_over, counts(&ended)), (1, 1, [2, 0, 0, 0]));
    assert!(world.context.store.quarantined().unwrap().is_empty(), "the first reading has judged them");
}

#[tokio::test(start_paused = true)]
async fn requests_that_make_no_sense_are_refused() {
    let world = World::new(&[]).await;
    let refused = async |request: ReplayRequest| world.replayer.begin("uid 0", request).await.unwrap_err().message;
    assert!(refused(request(ReplayFrom::Time(u64::MAX))).await.contains("which is to come"));
    assert!(refused(request(ReplayFrom::After("1".into()))).await.contains("give stream and shard"));
    let elsewhere = ReplayRequest { stream: Some("x".parse().unwrap()), ..request(ReplayFrom::Oldest) };
    assert!(refused(elsewhere).await.contains("the list of sites has no such site; it has s"));
    assert_eq!(world.replayer.last(), None);
}

#[tokio::test(start_paused = true)]
async fn asking_twice_joins_and_the_readers_of_the_consume_stage_keep_their_checkpoints() {
    let world = World::new(&[1]).await;
    let id = ShardId { site: world.context.site.clone(), created: "1".into(), shard: "shard-000000".into() };
    let at = crate::seams::eventlog::Position::After("1".into());
    let changes = crate::seams::volume::Changes { checkpoints: vec![(id.clone(), at.clone())], ..Default::default() };
    world.context.store.commit(changes).await.unwrap();
    let begun = world.replayer.begin("uid 0", request(ReplayFrom::Oldest)).await.unwrap();
    let again = ReplayRequest { reason: "again".into(), ..request(ReplayFrom::Oldest) };
    assert_eq!(world.replayer.begin("uid 1", again).await.unwrap().number, begun.number);
    let dry = ReplayRequest { dry_run: true, ..request(ReplayFrom::Oldest) };
    assert!(world.replayer.begin("uid 1", dry.clone()).await.unwrap_err().message.contains("is in progress"));
    while world.replayer.last().is_some_and(|last| last.ended_ms.is_none()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.run(dry).await.number, 2);
    assert_eq!(world.context.store.checkpoints().unwrap().get(&id), Some(&at));
}
