//! Requests whose answer was lost, and later look-ups of their outcome.

use std::fmt::Debug;
use std::str::FromStr;

use lockstep::seams::refdb::SlotState;
use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::{Oid, Seq, TxnId};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::scenario::Writes;
use lockstep_tests::sim::story::{Story, p0, tell, tell_with};

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
        message: None,
        lock: None,
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

/// Found by the load test on a busy machine: the first try was committed and its answer lost, and the repeated request
/// was refused for a reason of its own, with "nothing was changed".
#[test]
fn a_repeated_request_in_doubt_waits_for_its_first_try_and_is_never_refused_for_a_reason_of_its_own() {
    tell(async |story| {
        let one = story.object(AT, &p0());
        let first = (BRANCH, None, Some(one));
        story.cut(AT, Seam::RefDb, Some(Cut::Answers));
        assert_eq!(story.push(AT, "one", &p0(), first).await.unwrap().outcome, Outcome::Unknown);
        story.cut(AT, Seam::RefDb, None);
        // The node cannot catch up, so it would refuse a new request.
        story.bar(AT, Some("slot"));
        let again = story.push(AT, "one", &p0(), first).await.unwrap();
        assert_eq!(again.outcome, Outcome::CommittedNotYetVisible, "{again:?}");
        story.bar(AT, None);
        story.converge().await;
        assert_eq!(story.volume(AT).refs(&p0())[&name(BRANCH)], one);
    });
}

/// Waits until the durable low-water mark of `AT` has passed a transaction.
async fn passed(story: &Story, txn: &TxnId) {
    let is_passed = async || {
        let marks = story.volume(AT).store().low_water().unwrap();
        marks.get(&txn.slot.lane).is_some_and(|mark| *mark > txn.slot.seq)
    };
    story.until("the low-water mark passes the transaction", is_passed).await;
}

/// A node commits a request and dies, as `ends` says, before a durable step. The next start brings the ref up, and dies
/// before it serves. The start after that is asked again, while the ref has the value that the request expects.
async fn a_start_in_between_ends_early(story: &Story, ends: impl AsyncFn(&Story)) {
    let (one, two) = (story.object(AT, &p0()), story.object(AT, &p0()));
    story.push(AT, "zero", &p0(), (BRANCH, None, Some(two))).await.unwrap();
    story.push(AT, "gone", &p0(), (BRANCH, Some(two), None)).await.unwrap();
    story.converge().await;
    let first = (BRANCH, None, Some(one));
    story.bar(AT, Some("sync"));
    let txn = story.push(AT, "one", &p0(), first).await.unwrap().txn.unwrap();
    story.bar(AT, Some("open_incarnation"));
    ends(story).await;
    story.world.start(&name(AT)).await;
    passed(story, &txn).await;
    story.crash(AT);
    story.bar(AT, None);
    story.start(AT).await;
    story.push("blr-1-0", "back", &p0(), (BRANCH, Some(one), None)).await.unwrap();
    let again = story.push(AT, "one", &p0(), first).await.unwrap();
    assert_eq!((again.outcome, again.txn), (Outcome::Committed, Some(txn)));
}

/// Found by the scenario of the injected bug `TombstoneForgotten`, seed 1: the start in between took the ref from the
/// disk into the version map, and skipped the transaction when the stream brought it. The next one began to recover
/// above the mark.
#[test]
fn a_request_is_recovered_after_a_crash_and_a_start_that_ended_early() {
    tell(async |story| a_start_in_between_ends_early(story, async |story| story.crash(AT)).await);
}

#[test]
fn a_request_is_recovered_after_a_snapshot_and_a_reconciliation_whose_node_died() {
    tell(async |story| {
        let put_back = async |story: &Story| {
            let snapshot = story.world.watch.snapshot(&name(AT)).expect("a volume in memory");
            // Its heartbeats tell the snapshot from a crash. No collection comes in this time: a request whose slot is
            // collected, and whose note went with the volume, is known to nobody.
            story.pass(2_500).await;
            assert!(story.world.put_back(&name(AT), &snapshot), "the node must be up");
        };
        a_start_in_between_ends_early(story, put_back).await;
    });
}

/// Pushes `BRANCH` and another branch together, so that the transaction has a long form.
async fn push_two(story: &Story, id: &str, old: Expected, new: Oid) -> RefTransactionResponse {
    let mut request = RefTransactionRequest { request_id: id.into(), ..force(BRANCH, new) };
    request.commands.extend(force("refs/heads/b1", new).commands);
    request.commands.iter_mut().for_each(|command| command.old = old);
    story.world.watch.asked(&p0(), &request);
    let response = story.life(AT).node.transactions().submit(&p0(), request).await.unwrap();
    story.world.watch.answered(&name(AT), id, &response);
    response
}

#[test]
fn a_request_whose_long_form_could_not_be_recovered_is_noted_when_the_stream_brings_it() {
    tell_with(Writes::Staged, async |story| {
        let (one, two) = (story.object(AT, &p0()), story.object(AT, &p0()));
        story.bar(AT, Some("sync"));
        let txn = push_two(story, "any", Expected::Any, one).await.txn.unwrap();
        story.crash(AT);
        story.bar(AT, None);
        story.cut(AT, Seam::Blobs, Some(Cut::Requests));
        story.start(AT).await;
        story.cut(AT, Seam::Blobs, None);
        passed(story, &txn).await;
        story.crash(AT);
        story.start(AT).await;
        story.push(AT, "two", &p0(), (BRANCH, Some(one), Some(two))).await.unwrap();
        assert_eq!(push_two(story, "any", Expected::Any, one).await.txn, Some(txn));
        assert_eq!(story.volume(AT).refs(&p0())[&name(BRANCH)], two);
    });
}

/// Found by seed 14 of the general faults: the blob store was away while the node recovered its requests.
#[test]
fn a_memory_with_gaps_refuses_nothing_that_a_deleted_project_may_have_had() {
    tell_with(Writes::Staged, async |story| {
        let (one, two) = (story.object(AT, &p0()), story.object(AT, &p0()));
        push_two(story, "zero", Expected::Any, one).await;
        story.converge().await;
        story.bar(AT, Some("sync"));
        let end = push_two(story, "first", Expected::Oid(one), two).await;
        assert_eq!(end.outcome, Outcome::Committed);
        story.crash(AT);
        story.bar(AT, None);
        story.cut(AT, Seam::Blobs, Some(Cut::Requests));
        story.start(AT).await;
        assert_eq!(story.delete("blr-1-0", "gone", &p0()).await.outcome, Outcome::Committed);
        assert_eq!(story.create("blr-1-0", "again", &p0(), BRANCH).await.outcome, Outcome::Committed);
        let is_new = async || story.state(&p0()).ends_with("#2") && story.volume(AT).has(&p0());
        story.until("the new project is here", is_new).await;
        story.cut(AT, Seam::Blobs, None);
        story.converge().await;
        let two = story.object(AT, &p0());
        assert_eq!(push_two(story, "first", Expected::Oid(one), two).await.outcome, Outcome::Unknown);
    });
}

/// Moves `BRANCH` so often that no search of its chain reaches the beginning, until the first step is collected.
/// Returns the first value.
async fn moves_often(story: &Story) -> Oid {
    let first = story.object(AT, &p0());
    let begun = story.push(AT, "s0", &p0(), (BRANCH, None, Some(first))).await.unwrap();
    let mut value = first;
    for step in 1..20 {
        let next = story.object(AT, &p0());
        let end = story.push(AT, &format!("s{step}"), &p0(), (BRANCH, Some(value), Some(next))).await.unwrap();
        assert_eq!(end.outcome, Outcome::Committed);
        value = next;
    }
    story.converge().await;
    let (refdb, slot) = (story.world.refdb(), begun.txn.unwrap().slot);
    story.until("collected", async || refdb.journal.slot(&slot).await == Ok(SlotState::Empty)).await;
    first
}

/// Found by a load test: each stale push of a busy branch was `unknown` for the whole life of a new node.
#[test]
fn a_new_node_refuses_a_stale_push_without_a_search_and_one_that_lost_its_volume_does_not_know() {
    tell(async |story| {
        let old = moves_often(story).await;
        let late = story.object(AT, &p0());
        story.bar(AT, Some("slot"));
        let end = story.push(AT, "late", &p0(), (BRANCH, Some(old), Some(late))).await.unwrap();
        assert_eq!(end.outcome, Outcome::Refused, "{end:?}");
        story.bar(AT, None);
        assert!(story.world.lose_disk(&name(AT)), "the node must be up");
        story.start(AT).await;
        story.converge().await;
        let later = story.object(AT, &p0());
        let end = story.push(AT, "later", &p0(), (BRANCH, Some(old), Some(later))).await.unwrap();
        assert_eq!(end.outcome, Outcome::Unknown, "{end:?}");
        // The gap is on the volume, so the next life knows of it too.
        story.restart(&[AT]).await;
        story.converge().await;
        let again = story.push(AT, "s0", &p0(), (BRANCH, None, Some(old))).await.unwrap();
        assert_eq!(again.outcome, Outcome::Unknown, "it was committed before the loss: {again:?}");
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

/// The volume of a node that is away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Stays,
    IsLost,
}

/// A node that comes back finds poison where a transaction was collected that it lacks.
async fn comes_back(story: &Story, poisons: bool, disk: Disk) {
    let away = "blr-1-0";
    let object = story.object(AT, &p0());
    story.push(AT, "x", &p0(), ("refs/heads/b1", None, Some(object))).await.unwrap();
    story.converge().await;
    let was_up = match disk {
        Disk::Stays => story.world.crash(&name(away)),
        Disk::IsLost => story.world.lose_disk(&name(away)),
    };
    assert!(was_up, "the node must be up");
    let object = story.object(AT, &p0());
    let txn = story.push(AT, "a", &p0(), (BRANCH, None, Some(object))).await.unwrap().txn.unwrap();
    let refdb = story.world.refdb();
    story.until("collected", async || refdb.journal.slot(&txn.slot).await == Ok(SlotState::Empty)).await;
    if poisons {
        assert_eq!(refdb.journal.poison(&txn.slot).await, Ok(SlotState::Poisoned));
    }
    story.start(away).await;
    story.converge().await;
    assert_eq!(story.volume(away).refs(&p0())[&name(BRANCH)], object);
}

#[test]
fn late_poison_keeps_no_node_out() {
    tell(async |story| comes_back(story, true, Disk::Stays).await);
}

#[test]
fn late_poison_keeps_no_node_out_that_has_lost_its_volume() {
    tell(async |story| comes_back(story, true, Disk::IsLost).await);
}

#[test]
fn a_node_comes_back_without_late_poison() {
    for disk in [Disk::Stays, Disk::IsLost] {
        tell(async |story| comes_back(story, false, disk).await);
    }
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
