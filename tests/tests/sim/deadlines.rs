//! The deadline of a caller, from the API's part of it to the refdb, while the refdb gives no answer or takes no call.

use std::time::Duration;

use lockstep::seams::git::Judged;
use lockstep::stages::api::in_time::submit_within;
use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

const AT: &str = "muc-1-0";

/// Deadlines below and above the time in which a node waits for one answer of the refdb, and below its lease.
const DEADLINES_MS: [u64; 4] = [200, 700, 2_000, 3_000];

/// Creates a ref as the API does for a caller with this deadline. Returns the answer, and the time until it came.
async fn create(story: &Story, id: &str, deadline: Duration) -> (RefTransactionResponse, Duration) {
    let tip = story.object(AT, &p0());
    let name = format!("refs/heads/{id}").parse().unwrap();
    let request = RefTransactionRequest {
        request_id: id.to_owned(),
        deadline_ms: None,
        atomic: true,
        commands: vec![RefCommand { name, old: Expected::Absent, new: Some(tip), force: true }],
        actor: None,
        traceparent: None,
        message: None,
        lock: None,
    };
    story.world.watch.asked(&p0(), &request);
    let (transactions, began) = (story.life(AT).node.transactions(), Instant::now());
    let batch = (p0(), request, Judged::No);
    let answer = submit_within(deadline, &TaskTracker::new(), transactions, batch, ()).await.unwrap();
    let took = began.elapsed();
    story.world.watch.answered(&node(AT), id, &answer);
    (answer, took)
}

#[test]
fn a_caller_hears_unknown_inside_its_deadline_while_the_refdb_never_answers() {
    for cut in [Cut::Requests, Cut::Answers] {
        tell(async |story| {
            for (number, ms) in DEADLINES_MS.into_iter().enumerate() {
                story.cut(AT, Seam::RefDb, Some(cut));
                let deadline = Duration::from_millis(ms);
                let (answer, took) = create(story, &format!("x{number}"), deadline).await;
                assert_eq!(answer.outcome, Outcome::Unknown, "a write may have been sent: {answer:?}");
                assert!(took <= deadline, "{took:?} of {deadline:?}, {cut:?}");
                story.cut(AT, Seam::RefDb, None);
                story.pass(3_000).await;
            }
            story.converge().await;
        });
    }
}

#[test]
fn a_caller_hears_refused_inside_its_deadline_while_the_refdb_takes_no_commit() {
    tell(async |story| {
        // The calls of the refdb alone: the local store has commits, too.
        story.bar(AT, Some("commit muc-1-0."));
        for (number, ms) in DEADLINES_MS.into_iter().enumerate() {
            let deadline = Duration::from_millis(ms);
            let (answer, took) = create(story, &format!("x{number}"), deadline).await;
            assert_eq!(answer.outcome, Outcome::Refused, "nothing was sent: {answer:?}");
            assert!(took <= deadline, "{took:?} of {deadline:?}");
            let refusal = answer.results[0].refusal.as_ref().expect("a reason");
            assert!(refusal.retry, "a retry helps: {refusal:?}");
        }
        story.bar(AT, None);
        let (answer, _) = create(story, "last", Duration::from_secs(5)).await;
        assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
        story.converge().await;
    });
}
