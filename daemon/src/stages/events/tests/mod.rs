//! Tests from one node's bridge to another node's bridge, over an event log in memory.

mod bounds;
mod many;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::announcement::StreamEvent;
use lockstep_proto::{EventBody, ProjectKey, Record, RefValue, Version, limits};

use super::*;
use crate::base::clock::SeededEntropy;
use crate::seams::eventlog::memory::MemoryEventLog;
use crate::seams::eventlog::{EventLog, Position};
use crate::seams::volume::memory::MemoryStore;
use crate::seams::volume::{Mailbox, RefRecord};
use crate::state::version_map::Mover;

struct At(u64);

impl Clock for At {
    fn now_ms(&self) -> u64 {
        self.0
    }
}

/// Collects the dropped events with their reasons.
#[derive(Default)]
struct Alarms(Mutex<Vec<String>>);

impl Observer for Alarms {
    fn event_dropped(&self, what: &str, reason: &str) {
        self.0.lock().push(format!("{what}: {reason}"));
    }
}

/// The changes that Gerrit has not indexed yet.
#[derive(Default)]
struct Index(Mutex<BTreeSet<Option<u64>>>);

impl Refreshed for Index {
    fn is_refreshed(&self, _: &ProjectName, change: Option<u64>) -> bool {
        !self.0.lock().contains(&change)
    }
}

/// One start of a node, whose store outlives it.
struct Life {
    events: Arc<Events>,
    versions: Arc<VersionMap>,
    alarms: Arc<Alarms>,
    index: Arc<Index>,
    steps: tokio::task::JoinHandle<()>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.steps.abort();
    }
}

const META: &str = "refs/changes/12/12/meta";

impl Life {
    fn begin(node: &str, seed: u64, store: &MemoryStore, limits: EventLimits) -> Self {
        let (alarms, index) = (Arc::new(Alarms::default()), Arc::new(Index::default()));
        let context = NodeContext {
            node: node.parse().unwrap(),
            store: Arc::new(store.clone()),
            clock: Arc::new(At(1_000)),
            entropy: Arc::new(SeededEntropy::new(seed)),
            observer: Arc::clone(&alarms) as Arc<dyn Observer>,
            ..NodeContext::in_memory()
        };
        let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
        let refreshed = Arc::clone(&index) as Arc<dyn Refreshed>;
        let events = Events::load(&context, &state, Some(refreshed), Some(limits)).unwrap();
        let NodeState { versions, durability, .. } = state;
        let steps = tokio::spawn(durability.run());
        events.open();
        Self { events, versions, alarms, index, steps }
    }

    fn new(node: &str) -> Self {
        Self::begin(node, 1, &MemoryStore::default(), EventLimits::default())
    }

    /// Applies a version of a ref of `p#1` here.
    fn applies(&self, key: &str, version: u64) {
        let key: RefKey = key.parse().unwrap();
        let value = if key == RefKey::State { "state:active#1" } else { "1111111111111111111111111111111111111111" };
        let (value, txn) = (value.parse::<RefValue>().unwrap(), "n.1.0.1.00000000000000aa".parse().unwrap());
        let project: ProjectKey = "p#1".parse().unwrap();
        let record = RefRecord { version: Version(version), value, txn };
        self.versions.moved(&project, BTreeMap::from([(key, record)]), Mover::Other).unwrap();
    }

    async fn post(&self, events: &[StreamEvent]) {
        self.events.announce(AnnounceRequest { events: events.to_vec() }).await.unwrap();
    }

    /// The ids of the events that a bridge of this session is given.
    async fn gives(&self, session: &str) -> Vec<String> {
        // Events are handed out when they are durable.
        self.events.durability.wait_durable().await;
        let request = NextEventsRequest { session: session.into(), most: limits::POLLED, wait_ms: 0 };
        self.events.next(request).await.unwrap().events.into_iter().map(|event| event.id).collect()
    }

    async fn confirm(&self, session: &str, ids: &[&str]) -> Result<(), ApiError> {
        let done = ids.iter().map(|id| (*id).to_owned()).collect();
        self.events.done(EventsDoneRequest { session: session.into(), done }).await
    }

    /// Appends all durable events, one append after the other. Answers the number of events per append.
    async fn forwards(&self, log: &MemoryEventLog) -> Vec<usize> {
        log.ensure(&self.events.site).await.unwrap();
        let mut appends = Vec::new();
        loop {
            match self.events.forward_some(log).await.unwrap() {
                0 => return appends,
                count => appends.push(count),
            }
        }
    }

    /// Reads the whole event log from its start.
    async fn reads(&self, log: &MemoryEventLog) {
        for bytes in records(log).await {
            let Ok(Record::Announcement(announcement)) = Record::decode(&bytes) else { panic!("{bytes:?}") };
            self.events.take(&announcement, &bytes);
        }
    }
}

async fn records(log: &MemoryEventLog) -> Vec<Bytes> {
    let site: SiteId = "s".parse().unwrap();
    let mut found = Vec::new();
    for shard in log.describe(&site).await.unwrap().shards {
        let mut reader = log.open(&site, &shard.id, &Position::Start).await.unwrap();
        found.extend(reader.next(1_000).await.unwrap().records.into_iter().map(|(_, bytes)| bytes));
    }
    found
}

/// A node that has applied the first versions of the project and of the change, and has read the event log.
async fn receiver(node: &str, log: &MemoryEventLog) -> Life {
    let life = Life::new(node);
    life.applies("@state", 1);
    life.applies(META, 1);
    life.reads(log).await;
    life
}

fn event(id: &str, change: Option<u64>, refs: &[&str]) -> StreamEvent {
    StreamEvent {
        id: id.into(),
        kind: "comment-added".into(),
        project: Some("p".parse().unwrap()),
        change,
        refs: refs.iter().map(|name| name.parse().unwrap()).collect(),
        body: EventBody::new(r#"{"type":"comment-added"}"#).unwrap(),
    }
}

/// A node that has applied these versions of change 12, with an event per version in the event log.
async fn origin(node: &str, log: &MemoryEventLog, versions: &[u64]) -> Life {
    let life = Life::new(node);
    life.applies("@state", 1);
    for version in versions {
        life.applies(META, *version);
        life.post(&[event(&format!("{node}{version}"), Some(12), &[META])]).await;
    }
    life.forwards(log).await;
    life
}

#[tokio::test(start_paused = true)]
async fn an_event_is_given_after_its_refs_and_its_refresh_and_once_a_session() {
    let log = MemoryEventLog::new(1);
    let a = origin("a", &log, &[3]).await;
    let b = Life::new("b");
    b.reads(&log).await;
    assert_eq!(b.gives("g").await, [""; 0], "nothing is applied");
    b.applies("@state", 1);
    b.applies(META, 2);
    assert_eq!(b.gives("g").await, [""; 0], "an older version is applied");
    b.index.0.lock().insert(Some(12));
    b.applies(META, 3);
    assert_eq!(b.gives("g").await, [""; 0], "Gerrit has not indexed the change");
    b.index.0.lock().clear();
    // Events that wait for Gerrit's index are checked in turn.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(b.gives("g").await, ["a3"]);
    assert_eq!(b.gives("g").await, [""; 0], "the session has it");
    a.reads(&log).await;
    assert_eq!(a.gives("g").await, [""; 0], "an event is never delivered at its origin");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_commit_that_cannot_be_read_yet_waits_for_that_commit_elsewhere() {
    let log = MemoryEventLog::new(1);
    let (a, b, project) = (Life::new("a"), Life::new("b"), "p#1".parse().unwrap());
    for life in [&a, &b] {
        life.applies("@state", 1);
        life.applies(META, 1);
    }
    let meta = META.parse().unwrap();
    for (version, expected) in [(1, 1), (2, 2)] {
        a.versions.committed_ahead(&project, &meta, Version(version)).unwrap();
        assert_eq!(a.versions.committed_version(&project, &meta), Ok(Version(expected)));
    }
    a.post(&[event("2", Some(12), &[META])]).await;
    a.forwards(&log).await;
    b.reads(&log).await;
    assert_eq!(b.gives("g").await, [""; 0], "its commit is not applied here");
    b.applies(META, 2);
    assert_eq!(b.gives("g").await, ["2"]);
    for (version, expected) in [(2, 2), (3, 3)] {
        a.applies(META, version);
        assert_eq!(a.versions.committed_version(&project, &meta), Ok(Version(expected)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_session_gets_again_what_is_not_confirmed_and_supersedes_the_old_one() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1, 2]).await;
    let b = Life::new("b");
    b.applies("@state", 1);
    b.applies(META, 2);
    b.reads(&log).await;
    assert_eq!(b.gives("one").await, ["a1", "a2"]);
    b.confirm("one", &["a1", "never heard of"]).await.unwrap();
    assert_eq!(b.gives("two").await, ["a2"]);
    let refused = b.confirm("one", &["a2"]).await.unwrap_err();
    assert!(refused.message.contains("another Gerrit process") && !refused.retry, "{refused:?}");
    assert_eq!(b.events.status().waiting, 1);
    b.confirm("two", &["a2"]).await.unwrap();
    assert_eq!(b.events.status(), EventsStatus::default());
    b.confirm("two", &["a2"]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_is_given_again_after_a_while() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let b = receiver("b", &log).await;
    assert_eq!(b.gives("g").await, ["a1"]);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(b.gives("g").await, [""; 0]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(b.gives("g").await, ["a1"]);
}

/// Found by the simulator: the answer with the first event was lost, and the second event was delivered before it.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_change_follows_what_may_never_have_been_heard() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1, 2]).await;
    let b = receiver("b", &log).await;
    assert_eq!(b.gives("g").await, ["a1"]);
    b.applies(META, 2);
    assert_eq!(b.gives("g").await, [""; 0], "the first is not confirmed");
    b.confirm("g", &["a1"]).await.unwrap();
    assert_eq!(b.gives("g").await, ["a2"]);
}

#[tokio::test(start_paused = true)]
async fn a_confirmed_event_is_not_given_again_when_the_stream_is_read_again_or_after_a_restart() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1, 2]).await;
    let store = MemoryStore::default();
    let b = Life::begin("b", 1, &store, EventLimits::default());
    b.applies("@state", 1);
    b.applies(META, 2);
    b.reads(&log).await;
    b.reads(&log).await;
    assert_eq!(b.gives("g").await, ["a1", "a2"], "read twice, given once");
    b.confirm("g", &["a1"]).await.unwrap();
    drop(b);
    let b = Life::begin("b", 2, &store, EventLimits::default());
    b.reads(&log).await;
    b.applies("@state", 1);
    b.applies(META, 2);
    assert_eq!(b.gives("g").await, ["a2"], "the stream was read from its start again");
    b.confirm("g", &["a2"]).await.unwrap();
    assert!(store.mail(Mailbox::Inbox, None, 9).unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_may_confirm_to_a_new_sidecar_what_it_took_from_the_old_one() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let store = MemoryStore::default();
    let b = Life::begin("b", 1, &store, EventLimits::default());
    b.applies("@state", 1);
    b.applies(META, 1);
    b.reads(&log).await;
    assert_eq!(b.gives("g").await, ["a1"]);
    drop(b);
    let b = Life::begin("b", 2, &store, EventLimits::default());
    b.confirm("g", &["a1"]).await.unwrap();
    b.applies("@state", 1);
    b.applies(META, 1);
    assert_eq!(b.gives("g").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_is_answered_when_it_is_durable_the_second_time_too() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let b = receiver("b", &log).await;
    assert_eq!(b.gives("g").await, ["a1"]);
    b.steps.abort();
    for _ in 0..2 {
        let answered = tokio::time::timeout(Duration::from_secs(9), b.confirm("g", &["a1"])).await;
        assert!(answered.is_err(), "the confirmation is not durable: a crash would deliver the event again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_waits_holds_up_its_own_events_alone() {
    let log = MemoryEventLog::new(1);
    let a = Life::new("a");
    a.applies("@state", 1);
    a.applies(META, 5);
    a.applies("refs/heads/main", 1);
    a.post(&[event("stuck", Some(12), &[META]), event("behind", Some(12), &[]), event("other", Some(13), &[])]).await;
    a.post(&[event("branch", None, &["refs/heads/main"]), event("local", None, &["refs/cache-automerge/1/2"])]).await;
    a.forwards(&log).await;
    let b = Life::new("b");
    b.applies("@state", 1);
    b.applies("refs/heads/main", 1);
    b.reads(&log).await;
    assert_eq!(b.gives("g").await, ["other", "branch", "local"]);
    b.applies(META, 5);
    assert_eq!(b.gives("g").await, ["stuck", "behind"]);
}

#[tokio::test(start_paused = true)]
async fn events_of_one_change_are_appended_one_after_the_other_and_heard_so() {
    let log = MemoryEventLog::new(1);
    let a = Life::new("a");
    a.applies("@state", 1);
    a.applies(META, 1);
    let many: Vec<_> = ["1", "2", "3"].map(|id| event(id, Some(12), &[META])).into();
    a.post(&many).await;
    a.post(&[event("x", Some(13), &[]), event("y", Some(14), &[])]).await;
    assert_eq!(a.forwards(&log).await, [3, 1, 1]);
    let b = receiver("b", &log).await;
    let given = b.gives("g").await;
    assert_eq!(given.iter().filter(|id| id.len() == 1 && *id < &"9".to_owned()).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(given.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn between_origins_the_versions_of_the_change_tell_the_order() {
    let (first, second) = (MemoryEventLog::new(1), MemoryEventLog::new(1));
    let _a = origin("a", &first, &[2, 4]).await;
    let _c = origin("c", &second, &[1, 3]).await;
    let b = Life::new("b");
    b.reads(&first).await;
    b.reads(&second).await;
    b.applies("@state", 1);
    b.applies(META, 4);
    assert_eq!(b.gives("g").await, ["c1", "a2", "c3", "a4"]);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_event_outlives_the_sidecar_and_two_appends_of_it_are_heard_once() {
    let log = MemoryEventLog::new(1);
    let store = MemoryStore::default();
    let a = Life::begin("a", 1, &store, EventLimits::default());
    a.applies("@state", 1);
    a.applies(META, 1);
    a.post(&[event("1", Some(12), &[META]), event("2", Some(13), &[])]).await;
    assert_eq!(store.mail(Mailbox::Outbox, None, 9).unwrap().len(), 2, "both are durable when the call is answered");
    log.ensure(&"s".parse().unwrap()).await.unwrap();
    a.steps.abort();
    assert_eq!(a.events.forward_some(&log).await.unwrap(), 2);
    drop(a);
    let a = Life::begin("a", 2, &store, EventLimits::default());
    assert_eq!(a.events.status().unsent, 2, "the note of their append was not durable");
    assert_eq!(a.forwards(&log).await, [2]);
    assert_eq!(records(&log).await.len(), 4);
    let b = receiver("b", &log).await;
    assert_eq!(b.gives("g").await, ["1", "2"]);
    a.events.durability.wait_durable().await;
    assert!(store.mail(Mailbox::Outbox, None, 9).unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_same_id_twice_is_one_event_also_after_a_restart() {
    let log = MemoryEventLog::new(1);
    let store = MemoryStore::default();
    let a = Life::begin("a", 1, &store, EventLimits::default());
    a.applies("@state", 1);
    a.post(&[event("1", Some(1), &[]), event("1", Some(1), &[])]).await;
    a.post(&[event("1", Some(1), &[])]).await;
    assert_eq!(a.forwards(&log).await, [1]);
    a.events.durability.wait_durable().await;
    drop(a);
    let a = Life::begin("a", 2, &store, EventLimits { sent: 2, ..EventLimits::default() });
    a.applies("@state", 1);
    a.post(&[event("1", Some(1), &[])]).await;
    assert_eq!(a.forwards(&log).await, [0; 0]);
    a.post(&[event("2", Some(1), &[]), event("3", Some(2), &[])]).await;
    assert_eq!(a.forwards(&log).await, [2]);
    a.events.durability.wait_durable().await;
    assert_eq!(store.mail(Mailbox::Sent, None, 9).unwrap().len(), 2, "the oldest id is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_new_life_of_a_volume_that_was_restored_is_heard() {
    let log = MemoryEventLog::new(1);
    let a = Life::new("a");
    a.applies("@state", 1);
    a.post(&[event("1", Some(1), &[])]).await;
    a.forwards(&log).await;
    let restored = Life::begin("a", 2, &MemoryStore::default(), EventLimits::default());
    restored.applies("@state", 1);
    restored.post(&[event("2", Some(2), &[])]).await;
    restored.forwards(&log).await;
    let b = Life::new("b");
    b.applies("@state", 1);
    b.reads(&log).await;
    assert_eq!(b.gives("g").await, ["1", "2"], "the numbers begin anew, with another origin");
}
