//! Requests whose answer was lost, and later look-ups of their outcome.

use std::fmt::Debug;
use std::str::FromStr;

use lockstep::seams::refdb::SlotState;
use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefTransactionRequest};
use lockstep_proto::{Oid, Seq, TxnId};
use lockstep_tests::sim::story::{Story, p0, tell};

const AT: &str = "muc-1-0";
const BRANCH: &str = "refs/heads/b0";

fn name<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

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
        assert_eq!(story.look_up(AT, "one", &p0(), first).await, Outcome::Committed, "it is remembered durably");
        story.bar(AT, None);
    });
}

fn force(branch: &str, new: Oid) -> RefTransactionRequest {
    RefTransactionRequest {
        request_id: "any".into(),
        deadline_ms: Some(5_000),
        atomic: true,
        commands: vec![RefCommand { name: name(branch), old: Expected::Any, new: Some(new), force: true }],
        actor: None,
        traceparent: None,
    }
}

#[test]
fn a_repeated_request_is_committed_once_after_a_crash_and_after_collection() {
    tell(async |story| {
        let (one, two) = (story.object(AT, &p0()), story.object(AT, &p0()));
        let ask = async || {
            story.world.watch.asked(&p0(), &force(BRANCH, one));
            let answer = story.life(AT).node.transactions().submit(&p0(), force(BRANCH, one)).await.unwrap();
            story.world.watch.answered(&name(AT), "any", &answer);
            answer
        };
        let first = ask().await;
        assert_eq!(first.outcome, Outcome::Committed);
        // Nothing of it is durable here yet.
        assert!(story.world.crash(&name(AT)), "the node must be up");
        story.start(AT).await;
        story.push(AT, "two", &p0(), (BRANCH, Some(one), Some(two))).await.unwrap();
        assert_eq!(ask().await.txn, first.txn, "the ref moved on; a second commit would take it back");
        story.converge().await;
        let (txn, refdb) = (first.txn.clone().unwrap(), story.world.backend.refdb());
        let collected = async || refdb.journal.slot(&txn.slot).await == Ok(SlotState::Empty);
        story.until("the first try is collected", collected).await;
        assert!(story.world.crash(&name(AT)), "the node must be up");
        story.start(AT).await;
        assert_eq!(ask().await.txn, first.txn);
        let shown = story.world.volume(&name(AT)).unwrap().refs(&p0());
        assert_eq!(shown[&name(BRANCH)], two);
    });
}

#[test]
fn a_repeated_push_is_never_told_that_nothing_was_changed() {
    tell(async |story| {
        let (one, two) = (story.object(AT, &p0()), story.object(AT, &p0()));
        let first = (BRANCH, None, Some(one));
        let txn = story.push(AT, "one", &p0(), first).await.unwrap().txn.unwrap();
        story.push(AT, "two", &p0(), (BRANCH, Some(one), Some(two))).await.unwrap();
        story.converge().await;
        let refdb = story.world.backend.refdb();
        story.until("collected", async || refdb.journal.slot(&txn.slot).await == Ok(SlotState::Empty)).await;
        assert!(story.world.crash(&name(AT)), "the node must be up");
        story.start(AT).await;
        let again = story.push(AT, "one", &p0(), first).await.unwrap();
        assert_eq!((again.outcome, again.txn), (Outcome::Committed, Some(txn)));
        // Another id with the same old value was never committed.
        let other = story.push(AT, "other", &p0(), first).await.unwrap();
        assert_eq!(other.outcome, Outcome::Refused);
    });
}

#[test]
fn late_poison_never_says_that_a_committed_transaction_did_not_happen() {
    tell(async |story| {
        let object = story.object(AT, &p0());
        let txn = story.push(AT, "a", &p0(), (BRANCH, None, Some(object))).await.unwrap().txn.unwrap();
        story.converge().await;
        let refdb = story.world.refdb();
        story.until("collected", async || refdb.journal.slot(&txn.slot).await == Ok(SlotState::Empty)).await;
        assert_eq!(refdb.journal.poison(&txn.slot).await, Ok(SlotState::Poisoned));
        let outcome = async |txn: &TxnId| story.life(AT).node.transactions().outcome(txn).await.unwrap();
        assert_eq!(outcome(&txn).await.outcome, Outcome::Unknown);
        // Poison in the window still proves that nothing was committed.
        let slot = txn.slot.lane.slot(Seq(txn.slot.seq.0 + 3));
        assert_eq!(refdb.journal.poison(&slot).await, Ok(SlotState::Poisoned));
        assert_eq!(outcome(&slot.txn(7)).await.outcome, Outcome::Refused);
    });
}

/// A node that comes back finds poison where a transaction was collected that it lacks.
async fn comes_back(story: &Story, poisons: bool) {
    let away = "blr-1-0";
    let object = story.object(AT, &p0());
    story.push(AT, "x", &p0(), ("refs/heads/b1", None, Some(object))).await.unwrap();
    story.converge().await;
    assert!(story.world.crash(&name(away)), "the node must be up");
    let object = story.object(AT, &p0());
    let txn = story.push(AT, "a", &p0(), (BRANCH, None, Some(object))).await.unwrap().txn.unwrap();
    let refdb = story.world.refdb();
    story.until("collected", async || refdb.journal.slot(&txn.slot).await == Ok(SlotState::Empty)).await;
    if poisons {
        assert_eq!(refdb.journal.poison(&txn.slot).await, Ok(SlotState::Poisoned));
    }
    story.start(away).await;
    story.converge().await;
}

#[test]
fn late_poison_keeps_no_node_out() {
    tell(async |story| comes_back(story, true).await);
}

#[test]
fn a_node_comes_back_without_late_poison() {
    tell(async |story| comes_back(story, false).await);
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
