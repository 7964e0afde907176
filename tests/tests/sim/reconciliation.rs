//! Stories of nodes that reconcile.

use lockstep::seams::refdb::SlotState;
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell};

/// Whether the refdb's record of a node names no volume, because the node reconciles.
async fn reconciles(story: &Story, name: &str) -> bool {
    let nodes = story.world.backend.refdb().nodes.nodes().await.unwrap();
    nodes.iter().any(|record| record.node == node(name) && record.volume.ends_with(" reconciles"))
}

/// Found by `sim --losses --seed 20`: two nodes that had lost their disks waited for each other's objects for ever.
/// Each of them published its earlier commits only after it had reconciled.
#[test]
fn a_node_publishes_what_it_committed_before_it_asks_its_peers() {
    tell(async |story| {
        let (lost, other) = ("muc-1-0", "blr-1-0");
        let first = story.object(other, &p0());
        let txn = story.push(other, "first", &p0(), ("refs/heads/b0", None, Some(first))).await.unwrap().txn.unwrap();
        story.converge().await;
        let refdb = story.world.backend.refdb();
        let collected = async || refdb.journal.slot(&txn.slot).await == Ok(SlotState::Empty);
        story.until("the journal is collected, so a node that reconciles needs its peers", collected).await;
        story.cut(lost, Seam::EventLog, Some(Cut::Requests));
        let own = story.object(lost, &p0());
        story.push(lost, "own", &p0(), ("refs/heads/b1", None, Some(own))).await.unwrap();
        assert!(story.world.lose_disk(&node(lost)), "the node must be up");
        story.cut(lost, Seam::EventLog, None);
        story.start(lost).await;
        story.converge().await;
    });
}

#[test]
fn a_reconciliation_that_a_crash_cut_short_begins_again() {
    tell(async |story| {
        let cut = "muc-1-0";
        let object = story.object(cut, &p0());
        story.push(cut, "a", &p0(), ("refs/heads/b0", None, Some(object))).await.unwrap();
        let dice = lockstep_tests::sim::dice::Dice::new(1, "power cut");
        assert!(story.world.power_cut(&node(cut), &dice), "the node must be up");
        // The node cannot even record that it reconciles, and dies meanwhile.
        story.cut(cut, Seam::RefDb, Some(Cut::Requests));
        story.world.start(&node(cut)).await;
        story.pass(3_000).await;
        story.crash(cut);
        story.cut(cut, Seam::RefDb, None);
        story.world.start(&node(cut)).await;
        story.until("the node reconciles", async || reconciles(story, cut).await).await;
        story.until("the node is ready", async || story.life(cut).node.is_ready()).await;
        assert!(!reconciles(story, cut).await);
        // A reconciliation that is done is not repeated.
        story.crash(cut);
        story.world.start(&node(cut)).await;
        while !story.life(cut).node.is_ready() {
            story.pass(1).await;
            assert!(!reconciles(story, cut).await, "the node reconciles again without need");
        }
        story.converge().await;
    });
}

#[test]
fn a_snapshot_of_the_present_life_is_recognised_without_a_boot() {
    tell(async |story| {
        let at = "muc-1-0";
        let object = story.object(at, &p0());
        story.push(at, "a", &p0(), ("refs/heads/b0", None, Some(object))).await.unwrap();
        story.converge().await;
        let snapshot = story.world.watch.snapshot(&node(at)).expect("a volume in memory");
        let object = story.object(at, &p0());
        story.push(at, "b", &p0(), ("refs/heads/b1", None, Some(object))).await.unwrap();
        story.converge().await;
        story.pass(3_000).await;
        assert!(story.world.put_back(&node(at), &snapshot), "the node must be up");
        story.world.start(&node(at)).await;
        story.until("the node reconciles", async || reconciles(story, at).await).await;
        story.converge().await;
        // A crash alone is no snapshot.
        assert!(story.world.crash(&node(at)), "the node must be up");
        story.world.start(&node(at)).await;
        while !story.life(at).node.is_ready() {
            story.pass(1).await;
            assert!(!reconciles(story, at).await, "the node reconciles without need");
        }
    });
}
