//! Requests whose answer was lost, and later look-ups of their outcome.

use lockstep_proto::bridge::Outcome;
use lockstep_tests::sim::story::{p0, tell};

const AT: &str = "muc-1-0";
const BRANCH: &str = "refs/heads/b0";

#[test]
fn a_look_up_finds_a_commit_after_a_restart_and_at_every_node() {
    tell(async |story| {
        let (one, two) = (story.object(AT, &p0()), story.object(AT, &p0()));
        let first = (BRANCH, None, Some(one));
        story.push(AT, "one", &p0(), first).await.unwrap();
        story.bar(AT, Some("slot"));
        assert_eq!(story.look_up(AT, "one", &p0(), first).await, Outcome::Committed, "the node must remember it");
        story.bar(AT, None);
        story.push(AT, "two", &p0(), (BRANCH, Some(one), Some(two))).await.unwrap();
        story.converge().await;
        story.restart(&[AT]).await;
        for node in [AT, "blr-1-0"] {
            assert_eq!(story.look_up(node, "one", &p0(), first).await, Outcome::Committed, "{node}");
        }
        story.bar(AT, Some("slot"));
        assert_eq!(story.look_up(AT, "one", &p0(), first).await, Outcome::Unknown, "the slot cannot be read");
        story.bar(AT, None);
    });
}

#[test]
fn a_look_up_tries_nothing() {
    tell(async |story| {
        let (one, two) = (story.object(AT, &p0()), story.object(AT, &p0()));
        let never = (BRANCH, None, Some(one));
        let shown = || story.volume(AT).refs(&p0());
        assert_eq!(story.look_up(AT, "never", &p0(), never).await, Outcome::Unknown);
        assert!(!shown().contains_key(&BRANCH.parse().unwrap()), "{:?}", shown());
        // Another request's commit of the very same step does not count for this one.
        story.push(AT, "other", &p0(), never).await.unwrap();
        assert_eq!(story.look_up(AT, "never", &p0(), never).await, Outcome::Unknown);
        story.push(AT, "next", &p0(), (BRANCH, Some(one), Some(two))).await.unwrap();
        assert_eq!(story.look_up(AT, "never", &p0(), never).await, Outcome::Unknown);
        assert_eq!(shown()[&BRANCH.parse().unwrap()], two);
        assert_eq!(story.look_up(AT, "other", &"nowhere".parse().unwrap(), never).await, Outcome::Unknown);
        let local = ("refs/cache-automerge/ab/cd", None, Some(one));
        assert_eq!(story.look_up(AT, "local", &p0(), local).await, Outcome::Unknown, "it is not in the refdb");
    });
}
