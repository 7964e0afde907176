//! Tests of the stage with its store: sessions, long polls, restarts, and a Gerrit without the bridge.

use std::collections::BTreeMap;

use lockstep_proto::bridge::RefusalCode;
use lockstep_proto::refresh::{Task, Work};
use lockstep_proto::{Oid, RefName, TxnId, Version};

use super::*;
use crate::base::tasks::Tasks;
use crate::seams::gerrit::GerritError;
use crate::seams::gerrit::recording::RecordingGerrit;
use crate::seams::volume::memory::MemoryStore;
use crate::seams::volume::{NodeStore, VolumeFacts};
use crate::state::durability::Durability;
use crate::state::version_map::VersionMap;

struct Still;

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        7_000
    }
}

/// One start of a node with its version map and its refresh stage, on a store that outlives it.
struct Life {
    refresh: Arc<Refresh>,
    versions: Arc<VersionMap>,
    durability: Durability,
    tasks: Tasks,
}

async fn live(store: &MemoryStore, bugs: InjectedBugs) -> Life {
    let starts = store.facts().unwrap().starts + 1;
    let facts = Some(VolumeFacts { starts, ..VolumeFacts::default() });
    store.commit(Changes { facts, ..Changes::default() }).await.unwrap();
    let (store, clock) = (Arc::new(store.clone()), Arc::new(Still));
    let context = NodeContext { store, clock, bugs, ..NodeContext::in_memory() };
    let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
    let refresh = Refresh::load(&context, &state, RefreshSettings::default()).unwrap();
    let NodeState { versions, durability, .. } = state;
    tokio::spawn(durability.clone().run());
    Life { refresh, versions, durability, tasks: context.tasks }
}

impl Life {
    fn moved(&self, key: &str, version: u64, byte: Option<u8>, mover: Mover) {
        self.moved_of("p#1", key, version, byte.map(|byte| Oid::Sha1([byte; 20])).into(), mover);
    }

    fn moved_of(&self, project: &str, key: &str, version: u64, value: RefValue, mover: Mover) {
        let txn: TxnId = "n.1.0.0.00000000000000aa".parse().unwrap();
        let record = RefRecord { version: Version(version), value, txn };
        let records: BTreeMap<RefKey, RefRecord> = [(key.parse().unwrap(), record)].into();
        self.versions.moved(&project.parse().unwrap(), records, mover).unwrap();
    }

    async fn ask(&self, session: &str, wait_ms: u64) -> Result<Vec<Task>, ApiError> {
        let request = TasksRequest { session: session.to_owned(), most: 256, wait_ms, commit_within_ms: None };
        Ok(self.refresh.tasks(request).await?.tasks)
    }

    fn report(&self, session: &str, tasks: &[Task]) -> Result<DoneResponse, ApiError> {
        let done = tasks.iter().map(|task| task.id).collect();
        self.refresh.done(&DoneRequest { session: session.to_owned(), done, failed: Vec::new() })
    }
}

fn number(task: &Task) -> u32 {
    match task.work {
        Work::Change { number, .. } => number,
        _ => panic!("{task:?}"),
    }
}

const META: &str = "refs/changes/01/1/meta";

#[tokio::test(start_paused = true)]
async fn a_gerrit_runs_while_it_asks_and_for_a_moment_after() {
    let life = live(&MemoryStore::default(), InjectedBugs::default()).await;
    assert!(!life.refresh.gerrit_runs(), "it may be at its `init`");
    let call = tokio::time::timeout(Duration::from_secs(10), life.ask("one", 60_000));
    let looks = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        life.refresh.gerrit_runs()
    };
    let (ended, runs) = tokio::join!(call, looks);
    assert!(runs && ended.is_err(), "the connection was cut");
    assert!(life.refresh.gerrit_runs());
    tokio::time::sleep(BETWEEN_CALLS).await;
    assert!(!life.refresh.gerrit_runs());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_caller_is_told_when_a_ref_moves() {
    let life = live(&MemoryStore::default(), InjectedBugs::default()).await;
    let (tasks, ()) = tokio::join!(life.ask("one", 30_000), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        life.moved(META, 1, Some(1), Mover::Other);
    });
    assert_eq!(tasks.unwrap().iter().map(number).collect::<Vec<_>>(), [1]);
    let begun = Instant::now();
    assert_eq!(life.ask("one", 10_000).await, Ok(vec![]));
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    life.moved("refs/changes/02/2/meta", 1, Some(1), Mover::Own);
    let begun = Instant::now();
    let own = life.ask("one", 30_000).await.unwrap();
    assert!(own[0].own && begun.elapsed() == Duration::from_secs(2), "{own:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_sends_away_who_waits() {
    let life = live(&MemoryStore::default(), InjectedBugs::default()).await;
    let (answer, ()) = tokio::join!(life.ask("one", 30_000), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        life.tasks.cancel();
    });
    assert!(answer.is_err_and(|error| error.retry && error.code == RefusalCode::NotServing));
}

#[tokio::test(start_paused = true)]
async fn a_durable_move_has_its_mark_and_a_late_acknowledgement_is_forgotten_by_a_restart() {
    let store = MemoryStore::default();
    let life = live(&store, InjectedBugs::default()).await;
    life.moved(META, 1, Some(1), Mover::Other);
    life.moved("refs/changes/02/2/meta", 1, Some(1), Mover::Other);
    life.moved("refs/tags/v1", 1, Some(1), Mover::Other);
    life.durability.wait_durable().await;
    assert_eq!(store.refresh_marks().unwrap().len(), 2);
    let tasks = life.ask("one", 0).await.unwrap();
    let _ = life.report("one", &tasks[..1]).unwrap();
    assert_eq!(life.refresh.status().due, 1);
    tokio::time::sleep(Duration::from_secs(300)).await;
    life.durability.wait_durable().await;
    // Acknowledged or not, Gerrit may still die and lose both.
    let next = live(&store, InjectedBugs::default()).await;
    let again = next.ask("one", 0).await.unwrap();
    let mut numbers: Vec<u32> = again.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    next.moved("refs/changes/03/3/meta", 1, Some(1), Mover::Other);
    let new = next.ask("one", 0).await.unwrap();
    assert!(new[0].id > again[0].id && new[0].id >> 40 == 2, "two starts of the node share no ids: {new:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_a_living_gerrit_acknowledged_long_ago_does_not_come_again_after_a_restart() {
    let store = MemoryStore::default();
    let life = live(&store, InjectedBugs::default()).await;
    life.moved(META, 1, Some(1), Mover::Other);
    life.moved("refs/changes/02/2/meta", 1, Some(1), Mover::Other);
    let tasks = life.ask("one", 0).await.unwrap();
    let _ = life.report("one", &tasks[..1]).unwrap();
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(life.ask("one", 0).await.unwrap().len(), 1, "the acknowledgement of the other task was lost");
    life.durability.wait_durable().await;
    assert_eq!(store.refresh_marks().unwrap().len(), 1, "only the mark that is not acknowledged is left");
    let again = live(&store, InjectedBugs::default()).await.ask("one", 0).await.unwrap();
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [2]);
}

/// A step with the ref and without its mark would lose the mark in a crash before the next step.
#[tokio::test(start_paused = true)]
async fn a_ref_and_its_mark_are_durable_in_the_same_step() {
    let (project, refs) =
        ("p".parse().unwrap(), [META, "refs/changes/02/2/meta", "refs/heads/main", "refs/meta/config"]);
    let store = MemoryStore::default();
    let life = live(&store, InjectedBugs::default()).await;
    for (byte, key) in (1..).zip(refs) {
        life.moved(key, 1, Some(byte), Mover::Other);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    life.durability.wait_durable().await;
    let is_marked = |changes: &Changes, key: &RefKey| {
        let of = subject_of_ref::of(&project, key, &all_users());
        changes.refresh.iter().any(|(subject, _)| Some(subject) == of.as_ref())
    };
    let moves = |step: &Changes| step.refs.iter().map(|(_, key, _)| (key.to_string(), is_marked(step, key))).collect();
    let moves: Vec<Vec<(String, bool)>> = store.steps().iter().map(moves).collect();
    assert_eq!(moves.concat(), refs.map(|key| (key.to_owned(), true)));
}

#[tokio::test(start_paused = true)]
async fn values_are_those_of_the_version_map_before() {
    let life = live(&MemoryStore::default(), InjectedBugs::default()).await;
    let oid = |byte: u8| Oid::Sha1([byte; 20]);
    for (version, byte) in [(1, Some(1)), (2, Some(2)), (3, None)] {
        life.moved("refs/meta/config", version, byte, Mover::Other);
        let tasks = life.ask("one", 0).await.unwrap();
        let Work::ProjectConfig { old, new, .. } = tasks[0].work else { panic!("{tasks:?}") };
        assert_eq!((old, new), ((version > 1).then(|| oid(u8::try_from(version - 1).unwrap())), byte.map(oid)));
        let _ = life.report("one", &tasks).unwrap();
    }
    let name: RefName = "refs/meta/config".parse().unwrap();
    life.moved("refs/meta/config", 4, Some(4), Mover::Other);
    let tasks = life.ask("one", 0).await.unwrap();
    let _ = life.report("one", &tasks).unwrap();
    life.versions.restored(&"p#1".parse().unwrap(), &RefKey::Ref(name), Some(oid(9))).unwrap();
    let tasks = life.ask("one", 0).await.unwrap();
    let Work::ProjectConfig { old, new, .. } = tasks[0].work else { panic!("{tasks:?}") };
    assert_eq!((old, new), (Some(oid(9)), Some(oid(4))), "the old value is the one written behind the sidecar's back");
}

#[tokio::test(start_paused = true)]
async fn a_project_that_comes_goes_and_comes_again() {
    let life = live(&MemoryStore::default(), InjectedBugs::default()).await;
    let steps = [
        ("state:active#1", Some((false, true))),
        ("state:closing#1", None),
        ("state:read-only#1", None),
        ("state:deleted#1", Some((true, false))),
        ("state:deleted#2", None),
        ("state:active#3", Some((false, true))),
        ("state:active#4", Some((true, true))),
    ];
    for (version, (text, expected)) in (1..).zip(steps) {
        life.moved_of("p#1", "@state", version, text.parse().unwrap(), Mover::Other);
        let tasks = life.ask("one", 0).await.unwrap();
        let found = tasks.first().map(|task| match task.work {
            Work::Project { deleted, exists, .. } => (deleted, exists),
            _ => panic!("{task:?}"),
        });
        assert_eq!(found, expected, "{text}");
        let _ = life.report("one", &tasks).unwrap();
        // The acknowledged mark must leave the queue first, because the next mark would be merged with it.
        tokio::time::sleep(Duration::from_secs(400)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gerrit_that_does_not_ask_is_told_until_it_takes_it() {
    let life = live(&MemoryStore::default(), InjectedBugs::default()).await;
    let gerrit = Arc::new(RecordingGerrit::default());
    gerrit.will_fail([GerritError::Denied("a wrong password".into()), GerritError::Failed("ill".into())]);
    tokio::spawn(Arc::clone(&life.refresh).drive(Arc::clone(&gerrit) as Arc<dyn crate::seams::gerrit::Gerrit>));
    life.moved(META, 1, Some(1), Mover::Other);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(gerrit.take().len(), 1);
    let status = life.refresh.status();
    assert_eq!((status.due, status.failed, status.done), (1, 1, 0));
    assert_eq!(status.last_error.as_deref(), Some("change p~1: a wrong password; Lockstep retries"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let tries = gerrit.take();
    assert_eq!(tries.len(), 2, "one more failure, then success: {tries:?}");
    assert_eq!(life.refresh.status().due, 0);
}

/// The sidecar never sees this Gerrit down: it restarts between two calls.
#[tokio::test(start_paused = true)]
async fn a_gerrit_that_restarts_between_two_calls_is_told_again_what_it_may_have_lost() {
    let life = live(&MemoryStore::default(), InjectedBugs::default()).await;
    let gerrit = Arc::new(RecordingGerrit::default());
    tokio::spawn(Arc::clone(&life.refresh).drive(Arc::clone(&gerrit) as Arc<dyn crate::seams::gerrit::Gerrit>));
    let told = async |after: u64| {
        tokio::time::sleep(Duration::from_secs(after)).await;
        gerrit.take().iter().map(number).collect::<Vec<_>>()
    };
    life.moved(META, 1, Some(1), Mover::Other);
    assert_eq!(told(1).await, [1]);
    assert_eq!(told(60).await, [0; 0]);
    gerrit.restart();
    assert_eq!(told(60).await, [1], "the restart alone makes it due again");
    // Acknowledgements of a new process prove nothing about the disk of the process before it.
    tokio::time::sleep(Duration::from_secs(250)).await;
    gerrit.restart();
    life.moved("refs/changes/02/2/meta", 1, Some(1), Mover::Other);
    let mut both = told(60).await;
    both.sort_unstable();
    both.dedup();
    assert_eq!(both, [1, 2]);
    tokio::time::sleep(Duration::from_secs(400)).await;
    life.moved("refs/changes/03/3/meta", 1, Some(1), Mover::Other);
    assert_eq!(told(60).await, [3]);
    gerrit.restart();
    assert_eq!(told(60).await, [3], "the other two are on Gerrit's disk");
}

#[tokio::test(start_paused = true)]
async fn the_time_that_gerrit_needs_to_write_its_index_counts_from_its_first_call() {
    let life = live(&MemoryStore::default(), InjectedBugs::default()).await;
    let within = Duration::from_secs(3_600);
    let ask = async |session: &str| {
        let commit_within_ms = Some(within.as_millis() as u64);
        let request = TasksRequest { session: session.to_owned(), most: 256, wait_ms: 0, commit_within_ms };
        life.refresh.tasks(request).await.unwrap().tasks
    };
    life.moved(META, 1, Some(1), Mover::Other);
    let tasks = ask("one").await;
    life.report("one", &tasks).unwrap();
    tokio::time::sleep(within).await;
    assert_eq!(ask("one").await, []);
    let again = ask("two").await;
    assert_eq!(again.iter().map(number).collect::<Vec<_>>(), [1], "the index may have lost it");
    life.report("two", &again).unwrap();
    tokio::time::sleep(within + COMMIT_SLACK).await;
    assert_eq!(ask("two").await, []);
    assert_eq!(ask("three").await, []);
}
