//! Stream events over two real sidecars: posted at one, and delivered at the other after their refs, even if both are
//! killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use lockstep::clients::api_client::{Call, Client, ClientError};
use lockstep_proto::EventBody;
use lockstep_proto::announcement::{
    AnnounceRequest, Done, EventsDoneRequest, ForwardedEvent, NextEventsRequest, NextEventsResponse, StreamEvent,
};
use lockstep_proto::bridge::RefusalCode;
use lockstep_proto::refresh::{DoneRequest, DoneResponse, Task, TasksRequest, TasksResponse};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok, refs};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::page_calls::documented_answer;
use lockstep_tests::e2e::{PATIENCE, until};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::lockstep;

/// The bridge of one node.
struct Bridge {
    client: Client,
    session: String,
}

impl Bridge {
    fn at(node: &Node, session: &str) -> Self {
        Self { client: Client::new(&node.socket()), session: session.to_owned() }
    }

    async fn call<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let call = Call::new(Method::POST, path, body).expect("JSON");
        self.client.send(&call, Instant::now() + PATIENCE).await
    }

    async fn post(&self, events: &[StreamEvent]) {
        let request = AnnounceRequest { events: events.to_vec() };
        let posted = async || self.call::<Done>("/v1/events", &request).await.ok();
        documented_answer("/v1/events", &until(posted).await.expect("the events are taken"));
    }

    async fn next(&self, wait_ms: u64) -> Result<Vec<ForwardedEvent>, ClientError> {
        let request = NextEventsRequest { session: self.session.clone(), most: 256, wait_ms };
        Ok(self.call::<NextEventsResponse>("/v1/events/next", &request).await?.events)
    }

    async fn done(&self, ids: &[String]) -> Result<Done, ClientError> {
        let request = EventsDoneRequest { session: self.session.clone(), done: ids.to_vec() };
        self.call("/v1/events/done", &request).await
    }

    async fn tasks(&self, wait_ms: u64) -> Result<Vec<Task>, ClientError> {
        let request = TasksRequest { session: self.session.clone(), most: 64, wait_ms, commit_within_ms: None };
        Ok(self.call::<TasksResponse>("/v1/refresh/tasks", &request).await?.tasks)
    }

    async fn looked(&self, tasks: &[Task]) {
        let done = tasks.iter().map(|task| task.id).collect();
        let request = DoneRequest { session: self.session.clone(), done, failed: Vec::new() };
        let _: Result<DoneResponse, _> = self.call("/v1/refresh/done", &request).await;
    }

    /// Does every refresh task, until it is aborted.
    async fn indexes(self) {
        loop {
            match self.tasks(5_000).await {
                Ok(tasks) => self.looked(&tasks).await,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Waits for `count` events. Confirms them as they arrive, if `confirms` says so. Otherwise the node may hand out
    /// one of them again meanwhile, which does not count.
    async fn hears(&self, count: usize, confirms: bool) -> Vec<ForwardedEvent> {
        let mut heard: Vec<ForwardedEvent> = Vec::new();
        let end = Instant::now() + PATIENCE;
        while heard.len() < count {
            let more = self.next(500).await.unwrap_or_default();
            if confirms && !more.is_empty() {
                let ids: Vec<String> = more.iter().map(|event| event.id.clone()).collect();
                self.done(&ids).await.expect("it is confirmed");
            }
            let is_new = |event: &ForwardedEvent| confirms || heard.iter().all(|known| known.id != event.id);
            heard.extend(more.into_iter().filter(is_new).collect::<Vec<_>>());
            assert!(Instant::now() < end, "{} received only {heard:?} of {count}", self.session);
        }
        heard
    }
}

fn event(id: &str, change: u64, names: &[String]) -> StreamEvent {
    StreamEvent {
        id: id.to_owned(),
        kind: "patchset-created".to_owned(),
        project: Some("p".parse().expect("a name")),
        change: Some(change),
        refs: names.iter().map(|name| name.parse().expect("a ref")).collect(),
        body: EventBody::new(&format!(r#"{{"type":"patchset-created","change":{change}}}"#)).expect("JSON"),
    }
}

/// The refs of a patch set.
fn names(change: u64, patch_set: u64) -> Vec<String> {
    vec![format!("refs/changes/{change:02}/{change}/{patch_set}"), format!("refs/changes/{change:02}/{change}/meta")]
}

fn ids(events: &[ForwardedEvent]) -> BTreeSet<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

/// A running indexer. It ends when this is dropped.
struct Indexer(tokio::task::JoinHandle<()>);

impl Drop for Indexer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A Gerrit that does every refresh task at once.
fn indexer(node: &Node) -> Indexer {
    Indexer(tokio::spawn(Bridge::at(node, "indexer").indexes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_waits_until_its_change_is_indexed() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (commit, at) = (clone.commit(None, "one"), names(4, 1));
    let specs: Vec<String> = at.iter().map(|name| format!("{commit}:{name}")).collect();
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &["--atomic"], &specs).await);
    Bridge::at(&cluster.nodes[0], "gerrit-a").post(&[event("e", 4, &at)]).await;
    let other = Bridge::at(&cluster.nodes[1], "gerrit-b");
    cluster.nodes[1].shows("p", &at[1], Some(&commit)).await;
    cluster.nodes[1].reports(|status| status.events.waiting == 1).await;
    assert_eq!(other.next(1_000).await.expect("an answer"), [], "its refs are here, but its change is not indexed");
    let heard = until(async || {
        let tasks = other.tasks(0).await.ok()?;
        other.looked(&tasks).await;
        other.next(0).await.ok().filter(|events| !events.is_empty())
    });
    let events = heard.await.expect("the event");
    assert_eq!(ids(&events), BTreeSet::from(["e"]));
    documented_answer("/v1/events/next", &NextEventsResponse { events });
    documented_answer("/v1/events/done", &other.done(&["e".to_owned()]).await.expect("it is confirmed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refs_of_an_event_can_be_fetched_each_time_it_is_heard() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let (origin, other) = (Bridge::at(a, "gerrit-a"), Bridge::at(b, "gerrit-b"));
    let _index = [indexer(a), indexer(b)];
    let (clone, mut tips) = (Clone::new(&cluster.scratch("clone")), BTreeMap::<String, String>::new());
    let (mut posted, mut heard) = (Vec::new(), Vec::new());
    for round in 0..24_u64 {
        let change = 1 + round % 3;
        let at = names(change, 1 + round / 3);
        let commit = clone.commit(tips.get(&at[1]).map(String::as_str), &format!("round {round}"));
        let specs: Vec<String> = at.iter().map(|name| format!("{commit}:{name}")).collect();
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        let _ = ok(clone.push(&a.repository("p"), &["--atomic"], &specs).await);
        tips.insert(at[1].clone(), commit.clone());
        origin.post(&[event(&format!("e{round}"), change, &at)]).await;
        posted.push(format!("e{round}"));
        // In some rounds, several events are in transit at the same time.
        if round % 4 < 3 {
            continue;
        }
        let missing = posted.len() - heard.len();
        let events = other.hears(missing, true).await;
        let shown = refs(&b.repository("p")).await.expect("refs");
        for event in &events {
            let round: u64 = event.id[1..].parse().expect("a number");
            let at = names(1 + round % 3, 1 + round / 3);
            assert!(shown.contains_key(&at[0]), "{} was delivered before {}", event.id, at[0]);
            assert_eq!(event.origin.as_str(), "a-0");
        }
        heard.extend(events.iter().map(|event| event.id.clone()));
    }
    for change in 0..3 {
        let of = |all: &[String]| {
            all.iter().filter(|id| id[1..].parse::<u64>().unwrap() % 3 == change).cloned().collect::<Vec<String>>()
        };
        let (heard, posted): (Vec<String>, Vec<String>) = (of(&heard), of(&posted));
        assert_eq!(heard, posted, "the events of change {change} must be in order");
    }
    assert_eq!(other.next(0).await.expect("an answer"), []);
    assert_eq!(origin.next(300).await.expect("an answer"), [], "no event is delivered at its origin");
    // The other site may receive an event before its origin knows that the event log has it.
    a.reports(|status| (status.events.unsent, status.events.waiting, status.events.dropped) == (0, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_either_sidecar_loses_no_event_and_repeats_none_that_was_confirmed() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (mut posted, mut confirmed) = (BTreeSet::new(), BTreeSet::new());
    let _index = [indexer(&cluster.nodes[0]), indexer(&cluster.nodes[1])];
    for round in 0..6_u64 {
        let at = names(7, 1 + round);
        let commit = clone.commit(None, &format!("round {round}"));
        let specs: Vec<String> = at.iter().map(|name| format!("+{commit}:{name}")).collect();
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &["--atomic"], &specs).await);
        // Each event is about a change of its own, because an unconfirmed event holds back later ones of its change.
        let some: Vec<StreamEvent> = (0..5).map(|one| event(&format!("e{round}-{one}"), 7 + one, &at)).collect();
        let origin = Bridge::at(&cluster.nodes[0], "gerrit-a");
        origin.post(&some).await;
        // The events are accepted, so from here on a kill loses none. Posting them again changes nothing.
        cluster.nodes[0].kill().await;
        cluster.nodes[0].start(None);
        origin.post(&some).await;
        posted.extend(some.iter().map(|event| event.id.clone()));

        let session = format!("gerrit-b-{round}");
        let other = Bridge::at(&cluster.nodes[1], &session);
        let heard = other.hears(5, false).await;
        assert_eq!(ids(&heard), some.iter().map(|event| event.id.as_str()).collect::<BTreeSet<_>>());
        let first: Vec<String> = heard[..2].iter().map(|event| event.id.clone()).collect();
        other.done(&first).await.expect("it is confirmed");
        cluster.nodes[1].kill().await;
        cluster.nodes[1].start(None);
        cluster.nodes[1].ready().await;
        // In even rounds Gerrit keeps its session. In odd ones it is restarted too.
        let again = if round % 2 == 0 { other } else { Bridge::at(&cluster.nodes[1], &format!("{session}-again")) };
        let rest = again.hears(3, false).await;
        assert_eq!(ids(&rest), ids(&heard[2..]), "exactly the unconfirmed events");
        let rest: Vec<String> = rest.iter().map(|event| event.id.clone()).collect();
        again.done(&rest).await.expect("it is confirmed");
        confirmed.extend(first.into_iter().chain(rest));
        cluster.nodes[0].ready().await;
    }
    assert_eq!(confirmed, posted);
    let late = Bridge::at(&cluster.nodes[1], "late").next(1_000).await.expect("an answer");
    assert_eq!(late, [], "confirmed events are not delivered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_name_the_field_and_the_way_out() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    cluster.create("p").await;
    let bridge = Bridge::at(&cluster.nodes[0], "gerrit");
    let refused = async |path: &str, body: serde_json::Value| match bridge.call::<serde_json::Value>(path, &body).await
    {
        Err(ClientError::Answered(error)) => error,
        other => panic!("{other:?}"),
    };
    let post = |field: &str, value: serde_json::Value| {
        let mut event = serde_json::to_value(event("e", 1, &[])).expect("JSON");
        event[field] = value;
        serde_json::json!({ "events": [event] })
    };
    let error = refused("/v1/events", post("body", serde_json::json!([]))).await;
    assert!(error.message.contains("events[0].body is not a JSON object") && !error.retry, "{error:?}");
    let error = refused("/v1/events", post("project", serde_json::json!("unheard"))).await;
    assert!(error.message.contains("field project is unheard") && error.code == RefusalCode::Invalid, "{error:?}");
    let error = refused("/v1/events", post("refs", serde_json::json!(["main"]))).await;
    assert!(error.message.contains("ref name") && !error.retry, "{error:?}");
    let error = refused("/v1/events", serde_json::json!({ "events": [] })).await;
    assert!(error.message.contains("field events has 0 entries"), "{error:?}");
    let next = |most: u64, wait_ms: u64| serde_json::json!({ "session": "s", "most": most, "wait_ms": wait_ms });
    assert!(refused("/v1/events/next", next(0, 0)).await.message.contains("field most is 0"));
    assert!(refused("/v1/events/next", next(1, 30_001)).await.message.contains("field wait_ms is 30001"));
    let many: Vec<String> = (0..257).map(|id| id.to_string()).collect();
    let error = refused("/v1/events/done", serde_json::json!({ "session": "s", "done": many })).await;
    assert!(error.message.contains("field done has 257 entries"), "{error:?}");
    bridge.next(0).await.expect("a session");
    Bridge::at(&cluster.nodes[0], "newer").next(0).await.expect("another session");
    let ClientError::Answered(error) = bridge.next(0).await.expect_err("it is superseded") else { panic!("no answer") };
    assert!(error.message.contains("another Gerrit process") && error.code == RefusalCode::Invalid, "{error:?}");
}
