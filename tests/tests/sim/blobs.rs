//! Stories of the blobs of attempts: packs, and the long forms of transactions.

use std::collections::BTreeSet;

use lockstep::seams::blob::Payload;
use lockstep::seams::refdb::SlotState;
use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::{NodeId, Pack, RefName};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell, tell_of_locks};

/// The keys of the blobs for which the trace has a call like this.
fn keys(story: &Story, call: &str) -> BTreeSet<String> {
    let text = story.world.trace.text();
    let calls = text.lines().filter_map(|line| line.split_once(call));
    calls.filter_map(|(_, rest)| rest.split_whitespace().next()).map(str::to_owned).collect()
}

/// Creates two refs through a node, with a pack that does not fit into the transaction.
async fn create(story: &Story, name: &str) -> Outcome {
    create_within(story, name, 10_000).await.outcome
}

/// The same, with a deadline in milliseconds.
async fn create_within(story: &Story, name: &str, deadline_ms: u64) -> RefTransactionResponse {
    let mut tip = story.object(name, &p0());
    for nonce in 0..8 {
        tip = story.volume(name).add_object(&p0(), &[tip], 1_000 + nonce);
    }
    let command =
        |name: &str| RefCommand { name: name.parse().unwrap(), old: Expected::Absent, new: Some(tip), force: true };
    let request = RefTransactionRequest {
        request_id: name.to_owned(),
        deadline_ms: Some(deadline_ms),
        atomic: true,
        commands: ["refs/heads/a", "refs/heads/b"].into_iter().map(command).collect(),
        actor: None,
        traceparent: None,
        message: None,
        lock: None,
    };
    story.world.watch.asked(&p0(), &request);
    let answer = story.life(name).node.transactions().submit(&p0(), request).await.unwrap();
    story.world.watch.answered(&node(name), name, &answer);
    answer
}

/// Creates two refs through `blr-1-0`, whose link to the refdb is cut until the outcome is unknown.
async fn create_in_doubt(story: &Story, cut: Cut) -> RefTransactionResponse {
    story.cut("blr-1-0", Seam::RefDb, Some(cut));
    let answer = create_within(story, "blr-1-0", 3_000).await;
    story.cut("blr-1-0", Seam::RefDb, None);
    assert_eq!(answer.outcome, Outcome::Unknown, "{answer:?}");
    answer
}

/// A committed slot keeps its blob until `muc-1-0` is back, and the slot is collected.
async fn stays_until_its_slot_goes(story: &Story) {
    story.pass(5_000).await;
    let put = keys(story, " put ");
    assert!(!put.is_empty(), "its pack is in the blob store");
    assert!(put.is_disjoint(&keys(story, " delete ")), "a committed slot names it");
    story.start("muc-1-0").await;
    story.until("it is deleted", async || put.is_subset(&keys(story, " delete "))).await;
}

#[test]
fn no_pack_and_no_long_form_outlives_its_attempt() {
    tell_of_locks(async |story| {
        let outcomes = tokio::join!(create(story, "blr-1-0"), create(story, "muc-1-0"));
        let refused = [outcomes.0, outcomes.1].into_iter().filter(|one| *one == Outcome::Refused).count();
        assert_eq!(refused, 1, "one of two nodes that create the same refs is refused: {outcomes:?}");
        for kind in ["packs/", "transactions/"] {
            let put = keys(story, " put ").into_iter().filter(|key| key.starts_with(kind)).count();
            assert!(put >= 2, "both nodes put {kind} into the blob store");
        }
        let all_are_deleted = async || keys(story, " put ").is_subset(&keys(story, " delete "));
        story.until("the blobs of both attempts are deleted, one with its slot", all_are_deleted).await;
    });
}

#[test]
fn no_blob_outlives_a_put_without_an_answer() {
    tell_of_locks(async |story| {
        story.cut("blr-1-0", Seam::Blobs, Some(Cut::Answers));
        assert_eq!(create(story, "blr-1-0").await, Outcome::Refused);
        story.cut("blr-1-0", Seam::Blobs, None);
        let put = keys(story, " put ");
        assert!(!put.is_empty(), "the store has taken a blob, and its answer was lost");
        story.until("the blob is deleted", async || put.is_subset(&keys(story, " delete "))).await;
        let deletions = || story.world.trace.text().lines().filter(|line| line.contains(" delete packs/")).count();
        let before = deletions();
        story.pass(130_000).await;
        assert!(deletions() > before, "a put without an answer may take effect after the first deletion");
    });
}

#[test]
fn the_blobs_of_an_attempt_in_doubt_go_once_its_slot_is_poisoned() {
    for cut in [Cut::Requests, Cut::Answers] {
        tell_of_locks(async |story| {
            let slot = create_in_doubt(story, cut).await.txn.unwrap().slot;
            let put = keys(story, " put ");
            assert!(put.len() >= 2, "its pack and its long form are in the blob store: {put:?}");
            story.until("both are deleted", async || put.is_subset(&keys(story, " delete "))).await;
            let state = story.world.refdb().journal.slot(&slot).await;
            assert_eq!(state, Ok(SlotState::Poisoned), "its locks were taken at most");
        });
    }
}

#[test]
fn the_blob_of_an_attempt_in_doubt_that_was_committed_goes_with_its_slot() {
    tell(async |story| {
        // The slot stays while this node is away.
        story.crash("muc-1-0");
        create_in_doubt(story, Cut::Answers).await;
        let branch: RefName = "refs/heads/a".parse().unwrap();
        let shows = |name: &str| story.volume(name).refs(&p0()).contains_key(&branch);
        story.until("the others have applied it", async || shows("blr-1-0") && shows("eu-aws-0")).await;
        stays_until_its_slot_goes(story).await;
    });
}

#[test]
fn the_blobs_of_an_attempt_whose_node_dies_go_at_its_next_start() {
    tell_of_locks(async |story| {
        story.cut("blr-1-0", Seam::RefDb, Some(Cut::Requests));
        let answer = create_within(story, "blr-1-0", 3_000).await;
        assert_eq!(answer.outcome, Outcome::Unknown, "{answer:?}");
        let put = keys(story, " put ");
        assert!(put.len() >= 2, "its pack and its long form are in the blob store: {put:?}");
        story.crash("blr-1-0");
        story.cut("blr-1-0", Seam::RefDb, None);
        assert!(put.is_disjoint(&keys(story, " delete ")), "the node died before it knew what became of them");
        story.start("blr-1-0").await;
        story.until("both are deleted", async || put.is_subset(&keys(story, " delete "))).await;
    });
}

#[test]
fn a_start_keeps_the_blobs_of_a_committed_attempt() {
    tell(async |story| {
        // The slot stays while this node is away.
        story.crash("muc-1-0");
        story.cut("blr-1-0", Seam::RefDb, Some(Cut::Answers));
        let answer = create_within(story, "blr-1-0", 3_000).await;
        assert_eq!(answer.outcome, Outcome::Unknown, "{answer:?}");
        story.crash("blr-1-0");
        story.cut("blr-1-0", Seam::RefDb, None);
        story.start("blr-1-0").await;
        stays_until_its_slot_goes(story).await;
    });
}

/// Somebody who can write to the blob store replaces a pack by as many other bytes.
#[test]
fn a_pack_that_was_replaced_in_the_store_is_applied_nowhere() {
    tell(async |story| {
        let others: Vec<NodeId> = story.world.nodes().into_iter().filter(|one| one.as_str() != "blr-1-0").collect();
        others.iter().for_each(|one| story.cut(one.as_str(), Seam::Blobs, Some(Cut::Requests)));
        assert_eq!(create(story, "blr-1-0").await, Outcome::Committed);
        let (txn, key, bytes) = {
            let known = story.world.watch.known();
            let made = known.facts.transactions.values().find(|one| one.request_id == "blr-1-0").unwrap();
            let Pack::Blob { key, bytes, .. } = &made.pack else { panic!("{made:?}") };
            (made.id.clone(), key.clone(), *bytes)
        };
        story.world.watch.known().facts.bad.insert(txn.clone());
        let other = Payload::Memory(vec![0_u8; usize::try_from(bytes).unwrap()].into());
        story.world.backend.blobs().put(&key, &other).await.unwrap();
        others.iter().for_each(|one| story.cut(one.as_str(), Seam::Blobs, None));
        let is_held = |one: &NodeId| {
            let store = story.world.volume(one).unwrap().store();
            store.quarantined().unwrap().contains_key(&txn.to_string())
        };
        story.until("every other node holds it in quarantine", async || others.iter().all(is_held)).await;
        let branch: RefName = "refs/heads/a".parse().unwrap();
        for one in &others {
            assert!(!story.volume(one.as_str()).refs(&p0()).contains_key(&branch), "{one} has applied it");
        }
    });
}
