//! Stories of projects that one node, or every node, cannot bring up to date: the others go on.

use bytes::Bytes;
use lockstep::seams::refdb::{MOST_NEEDS, NodeRecord, SlotState};
use lockstep_proto::debt::{DebtKind, Repair};
use lockstep_proto::{NodeId, Oid, ProjectKey, ProjectName, Seq, TxnId};
use lockstep_tests::sim::dice::Dice;
use lockstep_tests::sim::story::{Story, tell};

fn p0() -> ProjectName {
    "p0".parse().unwrap()
}

/// An object that nobody has.
fn absent() -> Oid {
    "2".repeat(40).parse().unwrap()
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn lines(story: &Story, what: &[&str]) -> Vec<String> {
    let text = story.world.trace.text();
    text.lines().filter(|line| what.iter().all(|one| line.contains(one))).map(str::to_owned).collect()
}

fn ready(story: &Story, name: &str) -> bool {
    story.world.life(&node(name)).is_some_and(|life| life.node.is_ready())
}

/// Commits bad content, with steps to these values on top of it. Waits until every node has quarantined it.
async fn bad_content(story: &Story, successors: &[Oid]) -> TxnId {
    let (site, project) = ("blr-1".parse().unwrap(), ProjectKey { name: p0(), incarnation: 1 });
    let bad = story.world.commit_bad(&site, &project, 1, successors).await.unwrap();
    let held = async || story.world.nodes().iter().all(|one| holds(story, one, &bad));
    story.until("quarantined everywhere", held).await;
    bad
}

fn holds(story: &Story, one: &NodeId, txn: &TxnId) -> bool {
    story.world.volume(one).unwrap().store().quarantined().unwrap().contains_key(&txn.to_string())
}

/// The node's own other project and its other refs are up to date, and it takes commits.
async fn takes_and_shows(story: &Story, name: &str) {
    let object = story.object(name, &p0());
    story.push(name, "more", &p0(), ("refs/heads/more", None, Some(object))).await.unwrap();
    let shown = async || {
        story
            .world
            .nodes()
            .iter()
            .all(|one| story.world.volume(one).unwrap().refs(&p0()).values().any(|it| *it == object))
    };
    story.until("other refs of the project go on everywhere", shown).await;
}

#[test]
fn a_node_that_reconciles_beside_bad_content_becomes_ready() {
    tell(async |story| {
        let cut = "muc-1-0";
        bad_content(story, &[]).await;
        let object = story.object("blr-1-0", &p0());
        story.push("blr-1-0", "good", &p0(), ("refs/heads/b0", None, Some(object))).await.unwrap();
        story.pass(10_000).await;
        assert!(story.world.power_cut(&node(cut), &Dice::new(1, "power cut")), "the node must be up");
        story.world.start(&node(cut)).await;
        story.until("ready", async || ready(story, cut)).await;
        takes_and_shows(story, cut).await;
    });
}

#[test]
fn a_new_volume_beside_bad_content_becomes_ready() {
    tell(async |story| {
        let lost = "muc-1-0";
        let object = story.object("blr-1-0", &p0());
        let good = story.push("blr-1-0", "good", &p0(), ("refs/heads/b0", None, Some(object))).await.unwrap();
        bad_content(story, &[absent()]).await;
        let (refdb, slot) = (story.world.refdb(), good.txn.unwrap().slot);
        story.until("collected", async || refdb.journal.slot(&slot).await == Ok(SlotState::Empty)).await;
        assert!(story.world.lose_disk(&node(lost)), "the node must be up");
        story.world.start(&node(lost)).await;
        story.until("ready", async || ready(story, lost)).await;
        let shows = async || story.world.volume(&node(lost)).unwrap().refs(&p0()).values().any(|it| *it == object);
        story.until("the good ref is there", shows).await;
    });
}

#[test]
fn a_successor_of_bad_content_costs_little() {
    tell(async |story| {
        bad_content(story, &[absent()]).await;
        story.pass(10_000).await;
        let count = |what: &[&str]| lines(story, what).len();
        let counts = || {
            [&["muc-1-0", "scan p0#1"][..], &["muc-1-0", "caught up"], &["muc-1-0", "failed:"], &["muc-1-0", "parked "]]
                .map(count)
        };
        let before = counts();
        story.pass(60_000).await;
        let rose: Vec<usize> = counts().iter().zip(before).map(|(now, before)| now - before).collect();
        assert!(rose.iter().all(|rise| *rise <= 40), "scans, catch-ups, failures, parkings in a minute: {rose:?}");
    });
}

#[test]
fn a_slot_that_somebody_holds_as_bad_stays_in_the_journal() {
    tell(async |story| {
        let txn = bad_content(story, &[]).await;
        story.pass(30_000).await;
        let slot = story.world.refdb().journal.slot(&txn.slot).await.unwrap();
        assert!(matches!(slot, SlotState::Committed(..)), "{slot:?}");
    });
}

/// The low-water mark of the lane of a transaction, in the record of a node.
async fn mark(story: &Story, one: &NodeId, txn: &TxnId) -> Seq {
    record(story, one).await.mark(&txn.slot.lane)
}

/// Waits until the mark of the lane of bad content passes it and everything after it, at every node.
async fn marks_pass(story: &Story, bad: &TxnId, end: Seq) {
    for one in story.world.nodes() {
        story.until("the mark of the lane passes", async || mark(story, &one, bad).await >= end).await;
    }
}

fn parked(story: &Story, one: &NodeId) -> usize {
    parked_ids(story, one).len()
}

fn parked_ids(story: &Story, one: &NodeId) -> Vec<TxnId> {
    let parked = story.world.volume(one).unwrap().store().parked(None, 999).unwrap();
    parked.into_iter().map(|(id, _)| id.parse().unwrap()).collect()
}

/// The record of a node.
async fn record(story: &Story, one: &NodeId) -> NodeRecord {
    let nodes = story.world.backend.refdb().nodes.nodes().await.unwrap();
    nodes.into_iter().find(|record| record.node == *one).unwrap()
}

#[test]
fn the_low_water_mark_passes_a_successor_of_bad_content_and_its_slot_stays() {
    tell(async |story| {
        let bad = bad_content(story, &[absent()]).await;
        marks_pass(story, &bad, Seq(2)).await;
        let next = bad.slot.lane.slot(Seq(1));
        let stays = async || matches!(story.world.refdb().journal.slot(&next).await.unwrap(), SlotState::Committed(..));
        story.pass(20_000).await;
        assert!(stays().await);
        // Nodes that start again still need it, before they have tried it.
        for name in ["blr-1-0", "eu-aws-0", "eu-aws-1", "muc-1-0"] {
            let (one, waits) = (node(name), parked_ids(story, &node(name)).remove(0));
            let before = record(story, &one).await.starts;
            story.world.crash(&one);
            // Its chain cannot be read, so it is not tried again, and keeps its name from before.
            story.bar(name, Some("read "));
            story.world.start(&one).await;
            story.until("the first record", async || record(story, &one).await.starts > before).await;
            assert!(record(story, &one).await.needs.held.contains_key(&waits), "{name}");
            story.bar(name, None);
        }
        story.pass(20_000).await;
        assert!(stays().await && story.world.nodes().iter().all(|one| parked(story, one) == 1));
    });
}

#[test]
fn beyond_the_bound_successors_of_bad_content_are_left_to_their_project() {
    tell(async |story| {
        let absent = (0..MOST_NEEDS + 20).map(|number| format!("2{number:039x}").parse().unwrap());
        let successors: Vec<Oid> = absent.collect();
        let bad = bad_content(story, &successors).await;
        marks_pass(story, &bad, Seq(successors.len() as u64 + 1)).await;
        for one in story.world.nodes() {
            story.until("the rest is not parked", async || parked(story, &one) < MOST_NEEDS).await;
            assert!(story.world.volume(&one).unwrap().store().debts().unwrap().contains_key(&p0()));
        }
        story.pass(20_000).await;
        for seq in 0..=successors.len() as u64 {
            let slot = bad.slot.lane.slot(Seq(seq));
            let state = story.world.refdb().journal.slot(&slot).await.unwrap();
            assert!(matches!(state, SlotState::Committed(..)), "{slot} is {state:?}");
        }
        for one in story.world.nodes() {
            // The owed project keeps the slots. The record must name it, and each one that is still parked.
            let (needs, parked) = (record(story, &one).await.needs, parked_ids(story, &one));
            assert!(needs.owed.contains(&p0()), "{one}: {needs:?}");
            let unnamed: Vec<_> = parked.iter().filter(|txn| !needs.held.contains_key(txn)).collect();
            assert!(unnamed.is_empty(), "{one}: {unnamed:?}");
        }
    });
}

#[test]
fn an_owed_project_brings_the_transactions_that_were_left_to_it() {
    tell(async |story| {
        let successors: Vec<Oid> = (0..MOST_NEEDS + 20).map(|_| story.object("blr-1-0", &p0())).collect();
        let bad = bad_content(story, &successors).await;
        let (last, end) = (*successors.last().unwrap(), Seq(successors.len() as u64 + 1));
        for one in story.world.nodes() {
            let volume = story.world.volume(&one).unwrap();
            let shows = async || volume.refs(&p0()).values().any(|oid| *oid == last);
            story.until("the last value is here", shows).await;
            let is_clear = async || parked(story, &one) == 0 && volume.store().debts().unwrap().is_empty();
            story.until("nothing is parked or owed", is_clear).await;
        }
        marks_pass(story, &bad, end).await;
    });
}

#[test]
fn the_status_names_the_debt_here_and_at_other_nodes() {
    tell(async |story| {
        let bad = bad_content(story, &[absent()]).await;
        story.pass(10_000).await;
        let status = story.life("muc-1-0").node.inspection().unwrap().status().await;
        assert!(status.ready && status.degraded_projects == 1, "{status:?}");
        let held = status.degraded.iter().find(|debt| debt.txn.as_ref() == Some(&bad)).unwrap();
        assert_eq!((held.kind, &held.project[..]), (DebtKind::BadContent, "p0#1"));
        assert_eq!(held.refs, ["refs/heads/rotten1"]);
        let waits = status.degraded.iter().find(|debt| debt.txn.as_ref().is_some_and(|txn| *txn != bad)).unwrap();
        assert!(waits.tries >= 3 && waits.next_try_ms.is_some(), "{waits:?}");
        let elsewhere: Vec<&str> = status.held_elsewhere.iter().map(|one| one.node.as_str()).collect();
        for other in ["blr-1-0", "eu-aws-0", "eu-aws-1"] {
            assert!(elsewhere.contains(&other), "{elsewhere:?}");
        }
    });
}

#[test]
fn a_retry_says_that_the_content_is_still_bad_and_a_committed_entry_is_not_dropped() {
    tell(async |story| {
        let bad = bad_content(story, &[]).await;
        let inspection = story.life("muc-1-0").node.inspection().unwrap();
        let entry = bad.to_string();
        let retried = inspection.repair(Repair::Retry { entry: entry.clone() }).await.unwrap();
        assert!(!retried.done && retried.message.contains("still bad"), "{retried:?}");
        assert!(holds(story, &node("muc-1-0"), &bad));
        let dropped = inspection.repair(Repair::Drop { entry }).await;
        assert!(dropped.is_err_and(|error| error.message.contains("accept")));
        let absent = inspection.repair(Repair::Retry { entry: "s/0/17".into() }).await;
        assert!(absent.is_err_and(|error| error.message.contains("no entry")));
    });
}

#[test]
fn an_operator_tries_a_parked_transaction_again_and_cannot_discard_it() {
    tell(async |story| {
        let at = node("muc-1-0");
        let bad = bad_content(story, &[absent()]).await;
        story.until("its successor is parked", async || parked(story, &at) == 1).await;
        let entry = parked_ids(story, &at).remove(0).to_string();
        let inspection = story.life(at.as_str()).node.inspection().unwrap();
        let retried = inspection.repair(Repair::Retry { entry: entry.clone() }).await.unwrap();
        assert!(!retried.done && retried.message.contains("stays parked: "), "{retried:?}");
        let discarded = inspection.repair(Repair::Drop { entry: entry.clone() }).await;
        assert!(discarded.is_err_and(|error| error.message.contains(&format!("`lockstep quarantine retry {entry}`"))));
        assert_eq!((parked(story, &at), holds(story, &at, &bad)), (1, true));
    });
}

#[test]
fn a_record_that_was_never_committed_can_be_dropped() {
    tell(async |story| {
        let at = node("muc-1-0");
        story.world.append_raw(&"blr-1".parse().unwrap(), "p0", Bytes::from_static(b"\xffno record")).await;
        let entries = || story.world.volume(&at).unwrap().store().quarantined().unwrap();
        story.until("the record is in quarantine", async || !entries().is_empty()).await;
        let entry = entries().keys().next().unwrap().clone();
        let inspection = story.life(at.as_str()).node.inspection().unwrap();
        let dropped = inspection.repair(Repair::Drop { entry }).await.unwrap();
        assert!(dropped.done && entries().is_empty(), "{dropped:?}");
    });
}

#[test]
fn accepting_takes_the_refdbs_values_from_peers_and_ends_the_entry() {
    tell(async |story| {
        let (at, origin) = ("muc-1-0", "blr-1-0");
        let good = story.object(origin, &p0());
        let bad = bad_content(story, &[good]).await;
        let inspection = story.life(at).node.inspection().unwrap();
        let accepted = inspection.repair(Repair::Accept { entry: bad.to_string() }).await.unwrap();
        assert!(accepted.done, "{accepted:?}");
        assert!(!holds(story, &node(at), &bad));
        assert!(story.world.volume(&node(at)).unwrap().refs(&p0()).values().any(|oid| *oid == good));
        // The others take it too, when their patience ends. Then nobody needs the slot any more.
        let free = async || story.world.nodes().iter().all(|one| !holds(story, one, &bad));
        story.until("nobody holds it", free).await;
        let refdb = story.world.refdb();
        let collected = async || refdb.journal.slot(&bad.slot).await == Ok(SlotState::Empty);
        story.until("its slot is collected", collected).await;
    });
}

#[test]
fn the_record_of_a_node_does_not_grow_with_restarts() {
    tell(async |story| {
        let (away, restarts) = ("blr-1-0", "muc-1-0");
        assert!(story.world.crash(&node(away)), "the node must be up");
        for n in 0..8 {
            let object = story.object(restarts, &p0());
            let name = format!("refs/heads/r{n}");
            story.push(restarts, &format!("r{n}"), &p0(), (&name, None, Some(object))).await.unwrap();
            story.world.stop(&node(restarts)).await;
            story.start(restarts).await;
        }
        story.pass(6_000).await;
        let nodes = story.world.backend.refdb().nodes.nodes().await.unwrap();
        let record = nodes.iter().find(|one| one.node == node("eu-aws-0")).unwrap();
        let incarnations = story.world.backend.refdb().incarnations().await.unwrap();
        let of_it = incarnations.iter().filter(|one| one.id.node == node(restarts)).count();
        assert!(of_it >= 8, "{of_it} incarnations are kept while a node is away");
        let lanes = record.low_water.keys().filter(|lane| lane.incarnation.node == node(restarts)).count();
        assert!(lanes <= 4, "{lanes} lanes of {of_it} incarnations are listed");
    });
}
