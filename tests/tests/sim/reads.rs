//! A story of reads of the refdb, which must show every commit that ended before them.

use lockstep::base::faults::injected_bug::InjectedBug;
use lockstep_proto::bridge::Outcome;
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, p0, tell, tell_injected};

const BRANCH: &str = "refs/heads/b0";

/// A node whose streams are cut knows of no push at another site. It reads the refdb before it refuses a stale push,
/// and tells the value that was in the way.
async fn stale_pushes_are_refused(story: &Story) {
    let (moves, behind) = ("blr-1-0", "muc-1-0");
    story.cut(behind, Seam::EventLog, Some(Cut::Requests));
    let mut value = None;
    for number in 0..8 {
        let next = story.object(moves, &p0());
        let moved = story.push(moves, &format!("move{number}"), &p0(), (BRANCH, value, Some(next))).await.unwrap();
        assert_eq!(moved.outcome, Outcome::Committed);
        let (old, new) = (story.object(behind, &p0()), story.object(behind, &p0()));
        let stale = story.push(behind, &format!("stale{number}"), &p0(), (BRANCH, Some(old), Some(new))).await.unwrap();
        assert_eq!(stale.outcome, Outcome::Refused);
        story.pass(100).await;
        value = Some(next);
    }
}

#[test]
fn a_refusal_names_the_last_committed_value() {
    tell(async |story| {
        stale_pushes_are_refused(story).await;
        story.cut("muc-1-0", Seam::EventLog, None);
        story.converge().await;
    });
}

#[test]
#[should_panic(expected = "answers: ")]
fn a_refusal_names_an_older_value_if_reads_are_eventually_consistent() {
    tell_injected(InjectedBug::EventualRead, async |story| stale_pushes_are_refused(story).await);
}
