//! The API's bound on concurrent requests: excess requests are rejected with a reason, and have no effect.

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lockstep::base::clock::SystemClock;
use lockstep::stages::api::server::BoundApi;
use lockstep::stages::api::turns::{TurnLimits, Turns};
use lockstep::stages::ports::Arrivals;
use lockstep::telemetry::metrics::Metrics;
use lockstep_proto::arrival::AwaitResponse;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::{SiteId, TxnId};
use lockstep_tests::e2e::documented::documented_text;
use lockstep_tests::e2e::until;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, MAIN, Site, fails, git, ok, quiet, value};

/// A fake sidecar that takes two requests at most, and finishes none before the gate lets it.
struct Jam {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    fake: Arc<Fake>,
    gate: Arc<Notify>,
}

impl Jam {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/api.sock");
        let (fake, gate) = (Arc::new(Fake::default()), Arc::new(Notify::new()));
        fake.refuse.lock().insert(MAIN.to_owned(), "no".to_owned());
        *fake.gate.lock() = Some(gate.clone());
        let bound = BoundApi::bind(&socket, None).await.unwrap().taking(NonZeroUsize::new(2).unwrap());
        let _ = bound.spawn(fake.clone(), fake.clone(), &CancellationToken::new());
        Self { _folder: folder, socket, fake, gate }
    }

    /// Sends a batch and does not wait for its answer.
    fn submit(&self, id: &str) -> UnixStream {
        let body = format!(r#"{{"request_id":"{id}","commands":[{{"ref":"{MAIN}","new":null}}]}}"#);
        send(&self.socket, "POST /v1/projects/p/ref-transactions", &body)
    }

    async fn under_way(&self, count: usize) {
        let there = async || (self.fake.requests.lock().len() == count).then_some(());
        until(there).await.expect("the batches arrive");
    }
}

fn send(socket: &Path, line: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n");
    // Sent in one piece, because an excess request is rejected before its body is read.
    stream.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).unwrap();
    stream
}

fn answer(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_above_the_bound_is_told_to_try_again() {
    let jam = Jam::new().await;
    let first = [jam.submit("a"), jam.submit("b")];
    jam.under_way(2).await;
    let refused = answer(jam.submit("c"));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    for part in ["works on 2 requests", "api.most_requests", "nothing was changed", "\"retry\":true"] {
        assert!(refused.contains(part), "no {part:?} in {refused}");
    }
    documented_text("bridge-api.md", refused.split_once("\r\n\r\n").map_or(refused.as_str(), |(_, body)| body));
    // A caller that never sends its body is rejected too.
    let mut silent = UnixStream::connect(&jam.socket).unwrap();
    write!(silent, "PUT /v1/projects/p HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\nconnection: close\r\n\r\n")
        .unwrap();
    assert!(answer(silent).starts_with("HTTP/1.1 503"));
    assert!(answer(send(&jam.socket, "GET /v1/status", "")).starts_with("HTTP/1.1 200"), "status is still read");
    jam.gate.notify_one();
    jam.gate.notify_one();
    for stream in first {
        assert!(answer(stream).starts_with("HTTP/1.1 200"));
    }
    // The place of a request is free a moment after its answer.
    jam.gate.notify_one();
    let taken = async || answer(jam.submit("c")).starts_with("HTTP/1.1 200").then_some(());
    until(taken).await.expect("the same request must be accepted later");
    assert_eq!(jam.fake.requests.lock().len(), 3, "a rejected request must not arrive");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_counts_until_it_has_ended_though_its_caller_hung_up() {
    let jam = Jam::new().await;
    let callers = [jam.submit("a"), jam.submit("b")];
    jam.under_way(2).await;
    let callers_gone = callers.map(drop);
    assert!(answer(jam.submit("c")).starts_with("HTTP/1.1 503"));
    for _ in callers_gone {
        jam.gate.notify_one();
    }
    let taken = async || {
        jam.gate.notify_one();
        answer(jam.submit("c")).starts_with("HTTP/1.1 200").then_some(())
    };
    until(taken).await.expect("a request must be accepted once the work has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_names_no_deadline_waits_as_long_as_the_configuration_says() {
    let mut jam = Jam::new().await;
    jam.socket.set_file_name("other.sock");
    let bound = BoundApi::bind(&jam.socket, None).await.unwrap().waiting(Duration::from_millis(50));
    let _ = bound.spawn(jam.fake.clone(), jam.fake.clone(), &CancellationToken::new());
    let unknown = answer(jam.submit("a"));
    assert!(unknown.contains("unknown") && unknown.contains("no answer within the deadline"), "{unknown}");
    assert_eq!(jam.fake.requests.lock()[0].deadline_ms, Some(45), "the rest is for the answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_a_moment_for_a_sidecar_that_has_no_time() {
    let mut site = Site::unserved();
    let gate = Arc::new(Notify::new());
    *site.fake.gate.lock() = Some(gate.clone());
    let bound = BoundApi::bind(&site.socket(), None).await.unwrap().taking(NonZeroUsize::MIN);
    site.tasks = Some(bound.spawn(site.fake.clone(), site.fake.clone(), &site.shutdown));
    let old = format!(r#"{{"request_id":"x","commands":[{{"ref":"{MAIN}","old":"absent","new":null}}]}}"#);
    let batch = "POST /v1/projects/tools%2Fbuild/ref-transactions";
    let holder = send(&site.socket(), batch, &old);
    until(async || (!site.fake.requests.lock().is_empty()).then_some(())).await.expect("it arrives");
    let new = site.commit();
    let text = fails(site.push(&["main"]));
    assert!(text.contains("nothing was changed") && text.contains("try again later"), "{text}");
    let work = site.work();
    let push = std::thread::spawn(move || git(&work, &["push", "origin", "main"]));
    gate.notify_one();
    assert!(answer(holder).starts_with("HTTP/1.1 200"));
    gate.notify_one();
    ok(push.join().unwrap());
    assert_eq!(value(&site.bare(), MAIN), Some(new));
}

/// One batch at a time, and one of a user waits.
fn turns() -> Arc<Turns> {
    let limits = TurnLimits {
        running: NonZeroUsize::MIN,
        per_project: NonZeroUsize::MIN,
        agents_running: NonZeroUsize::MIN,
        waiting_per_user: 1,
        waiting_per_class: 8,
        patience: Duration::from_secs(600),
        people_weight: 4,
        agents: vec!["ci-*".parse().unwrap()],
    };
    Turns::new(limits, Arc::new(SystemClock), Metrics::noop().turns)
}

/// A push by a user whom the variable `WHO` names.
fn push_as(site: &Site, who: &str) -> std::process::Output {
    quiet(Command::new("git"), &site.work()).env("WHO", who).args(["push", "origin", "main"]).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_too_many_batches_is_told_once_when_to_come_again_and_others_have_their_turn() {
    let mut site = Site::unserved();
    let (gate, turns) = (Arc::new(Notify::new()), turns());
    *site.fake.gate.lock() = Some(gate.clone());
    let bound = BoundApi::bind(&site.socket(), None).await.unwrap().turning(turns.clone());
    site.tasks = Some(bound.spawn(site.fake.clone(), site.fake.clone(), &site.shutdown));
    ok(git(&site.bare(), &["config", "lockstep.userVariable", "WHO"]));
    let batch = |id: &str| {
        let command = format!(r#"{{"ref":"refs/heads/{id}","old":"absent","new":null}}"#);
        let actor = "ci-7 <ci-7|account-9@unknown>";
        let body = format!(r#"{{"request_id":"{id}","deadline_ms":600000,"actor":"{actor}","commands":[{command}]}}"#);
        send(&site.socket(), "POST /v1/projects/tools%2Fbuild/ref-transactions", &body)
    };
    let first = batch("first");
    until(async || (!site.fake.requests.lock().is_empty()).then_some(())).await.expect("it arrives");
    let second = batch("second");
    until(async || (turns.status().classes[1].waiting == 1).then_some(())).await.expect("it waits");
    let third = answer(batch("third"));
    assert!(third.starts_with("HTTP/1.1 429") && third.contains("retry-after: 1\r\n"), "{third}");
    for part in ["1 changes of ci-7 wait here already", "\"retry\":true", "\"retry_after_seconds\":1"] {
        assert!(third.contains(part), "no {part:?} in {third}");
    }
    let new = site.commit();
    let refused = fails(push_as(&site, "ci-7"));
    assert!(refused.contains("nothing was changed; try again in 1 seconds"), "{refused}");
    let shed = turns.status().shed;
    assert_eq!(shed[0].user, "ci-7");
    assert!((3..=7).contains(&shed[0].count), "git's push asked once a second, for six seconds at most: {shed:?}");

    // A person comes last, and is next.
    let (work, bare) = (site.work(), site.bare());
    let push = std::thread::spawn(move || {
        quiet(Command::new("git"), &work).env("WHO", "alice").args(["push", "origin", "main"]).output().unwrap()
    });
    until(async || (turns.status().classes[0].waiting == 1).then_some(())).await.expect("alice waits");
    gate.notify_one();
    assert!(answer(first).starts_with("HTTP/1.1 200"));
    until(async || (site.fake.requests.lock().len() == 2).then_some(())).await.expect("the next one");
    assert_eq!(site.fake.requests.lock()[1].actor.as_deref(), Some("alice"));
    gate.notify_one();
    ok(push.join().unwrap());
    assert_eq!(value(&bare, MAIN), Some(new));
    gate.notify_one();
    assert!(answer(second).starts_with("HTTP/1.1 200"));
}

/// An arrival stage in which nothing ever arrives. It counts the waits.
#[derive(Default)]
struct Never(AtomicUsize);

#[async_trait]
impl Arrivals for Never {
    async fn arrival(&self, _: TxnId, _: Option<SiteId>, _: Duration) -> Result<AwaitResponse, ApiError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_for_transactions_have_a_bound_and_leave_room_for_others() {
    const MOST: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/api.sock");
    let (fake, never) = (Arc::new(Fake::default()), Arc::new(Never::default()));
    let bound = BoundApi::bind(&socket, None).await.unwrap().awaiting(never.clone());
    let _ = bound.spawn(fake.clone(), fake, &CancellationToken::new());
    let wait = || send(&socket, "GET /v1/await?txn=n.1.0.0.00c0ffee00c0ffee", "");
    let waiting: Vec<UnixStream> = (0..MOST).map(|_| wait()).collect();
    until(async || (never.0.load(Ordering::SeqCst) == MOST).then_some(())).await.expect("all of them wait");
    let refused = answer(wait());
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("64 calls already wait for transactions"), "{refused}");
    assert!(answer(send(&socket, "GET /v1/status", "")).starts_with("HTTP/1.1 200"));
    drop(waiting);
    let again = until(async || {
        let _waits = wait();
        tokio::time::sleep(Duration::from_millis(20)).await;
        (never.0.load(Ordering::SeqCst) > MOST).then_some(())
    });
    again.await.expect("the places of callers that hung up are free again");
}
