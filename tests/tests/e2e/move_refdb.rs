//! A running refdb moves to other tables while users push: every node follows, and no acknowledged push is missing.

use std::os::unix::process::ExitStatusExt;
use std::process::Output;

use lockstep_proto::rebuild::RefdbState;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok};
use lockstep_tests::e2e::load::{Answer, Load};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::{converged, truth};
use lockstep_tests::e2e::{PATIENCE, until};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::crash::rounds;
use crate::lockstep;

const MAIN: &str = "refs/heads/main";

async fn push(node: &Node, clone: &Clone, commit: &str) {
    let _ = ok(clone.push(&node.repository("p"), &[], &[&format!("{commit}:{MAIN}")]).await);
}

async fn moves(node: &Node, into: &str, more: &[&str]) -> Output {
    node.cli(&[&["refdb", "rebuild", "--into", into, "--move", "--yes"], more].concat()).await
}

/// Starts nodes that have ended again, as a supervisor does, until every node is ready in the tables with this prefix.
async fn follow(cluster: &mut Cluster, into: &str) {
    cluster.read_from(into).await;
    let end = Instant::now() + PATIENCE;
    loop {
        let mut left = Vec::new();
        let there = cluster.refdb.nodes.nodes().await.unwrap_or_default();
        for node in &mut cluster.nodes {
            if node.ended().is_some() {
                node.end().await;
                node.start(None);
            }
            let is_there = there.iter().any(|one| one.node.as_str() == node.name);
            if !is_there || !node.status().await.is_some_and(|status| status.ready) {
                left.push(node.log_tail());
            }
        }
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "some nodes did not follow:\n{}", left.join("\n"));
        sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estate_moves_under_load_and_every_acknowledged_push_is_in_the_new_tables_and_at_all_sites() {
    const NEXT: &str = "moved";
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let one = clone.commit(None, "one");
    push(&cluster.nodes[2], &clone, &one).await;
    cluster.show("p", MAIN, Some(&one)).await;
    // c is down during the move.
    cluster.nodes[2].stop().await;

    let load = Load::start(&cluster, "p", &[0, 1], 3, 54);
    let pushed = until(async || (truth(&cluster, "p").await.refs.len() >= 8).then_some(())).await;
    assert!(pushed.is_some(), "nobody pushes");
    let dry = moves(&cluster.nodes[0], NEXT, &["--dry-run"]).await;
    assert!(ok(dry).contains("possible now"));
    assert!(!cluster.tables().await.iter().any(|table| table.starts_with(NEXT)), "a dry run writes nothing");
    let done = moves(&cluster.nodes[0], NEXT, &[]).await;
    assert!(ok(done).contains("every node follows by itself"));
    let old = cluster.raw.clone();
    let at_the_fence = truth(&cluster, "p").await;

    cluster.nodes[2].start(None);
    follow(&mut cluster, NEXT).await;
    let before = truth(&cluster, "p").await;
    assert!(at_the_fence.refs.keys().all(|name| before.refs.contains_key(name) || name.contains("/topic/")));
    let went_on = until(async || (truth(&cluster, "p").await != before).then_some(())).await;
    assert!(went_on.is_some(), "nobody pushes after the move");
    let ledger = load.stop().await;
    let now = converged(&cluster, "p").await;
    for node in &cluster.nodes {
        ledger.check(&now, &node.repository("p"));
    }
    let (committed, _, _) = ledger.tally();
    assert!(committed > 8 && ledger.0.iter().any(|entry| matches!(entry.answer, Answer::Refused(_))), "{ledger:?}");

    // The old tables took nothing after the fence, and every node commits in the new ones.
    let mut last = one;
    for node in &cluster.nodes {
        let next = clone.commit(Some(&last), &format!("at {}", node.name));
        node.shows("p", MAIN, Some(&last)).await;
        push(node, &clone, &next).await;
        last = next;
    }
    cluster.show("p", MAIN, Some(&last)).await;
    let old = lockstep::seams::refdb::RefDb::of(&old);
    let (_, identity) = lockstep::state::bound_refdb::read(&old).await.unwrap().unwrap();
    assert_eq!(identity.state, RefdbState::Moved);
    assert!(old.incarnations().await.unwrap().iter().all(|one| !one.may_commit()));
    cluster.read_from("e2e").await;
    assert_eq!(truth(&cluster, "p").await, at_the_fence, "the old tables are as they were at the fence");
}

/// The way in which a move goes on whose mover was killed.
#[derive(Clone, Copy)]
enum Way {
    /// Another node aborts it.
    Abort,
    /// Another node repeats the command.
    Repeat,
    /// The nodes follow by themselves: the point of no return was behind the mover.
    Follow,
}

/// The steps at which the mover is killed. `make test` takes those whose third element is set, and `make crash` all.
const STEPS: [(&str, Way, bool); 8] = [
    ("move.closed", Way::Abort, false),
    ("move.closed", Way::Repeat, false),
    ("move.fenced", Way::Repeat, true),
    ("move.drained", Way::Abort, true),
    ("move.drained", Way::Repeat, false),
    ("move.copied", Way::Abort, false),
    ("move.copied", Way::Repeat, false),
    ("move.moved", Way::Follow, true),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_is_killed_at_any_step_is_repeated_or_aborted_by_another_node() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let mut last = clone.commit(None, "first");
    push(&cluster.nodes[0], &clone, &last).await;
    cluster.show("p", MAIN, Some(&last)).await;
    let steps = STEPS.iter().filter(|(_, _, is_usual)| *is_usual || rounds() > 0);
    for (number, (point, way, _)) in steps.enumerate() {
        let into = format!("moved-{number}");
        cluster.nodes[0].stop().await;
        cluster.nodes[0].start(Some(point));
        cluster.ready().await;
        let next = clone.commit(Some(&last), &format!("{point} {number}"));
        push(&cluster.nodes[2], &clone, &next).await;
        last = next;
        let killed = moves(&cluster.nodes[0], &into, &[]).await;
        assert!(!killed.status.success(), "{point}: {killed:?}");
        let ended = cluster.nodes[0].end().await;
        assert_eq!(ended.signal(), Some(Signal::KILL.as_raw()), "{point}\n{}", cluster.nodes[0].log_tail());
        cluster.nodes[0].start(None);
        match way {
            Way::Abort => assert!(ok(moves(&cluster.nodes[1], &into, &["--abort"]).await).contains("aborted")),
            Way::Repeat => assert!(ok(moves(&cluster.nodes[1], &into, &[]).await).contains("complete")),
            Way::Follow => {}
        }
        match way {
            Way::Abort => cluster.ready().await,
            Way::Repeat | Way::Follow => follow(&mut cluster, &into).await,
        }
        cluster.show("p", MAIN, Some(&last)).await;
        let next = clone.commit(Some(&last), &format!("after {point} {number}"));
        push(&cluster.nodes[number % 3], &clone, &next).await;
        last = next;
        cluster.show("p", MAIN, Some(&last)).await;
    }
}
