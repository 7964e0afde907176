//! Sites over tables with multi-Region strong consistency, each with a Region of its own: no transaction is sent, a
//! kill at each step of a commit loses nothing, and an isolated Region takes no commits.

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, ok};
use lockstep_tests::e2e::load::{Ledger, Load};
use lockstep_tests::e2e::verify::{converged, every_branch_moves};

use crate::crash::{Replay, audit, killed};
use crate::lockstep;

/// The steps of every commit here, one after the other.
const STEPS: [&str; 4] = ["commit.part_locked", "commit.locked", "commit.sealed", "commit.part_moved"];

/// The transactions that some node has sent, although the tables take none.
fn transactions(cluster: &Cluster) -> u64 {
    cluster.regions.iter().map(|region| region.transactions()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_work_without_transactions() {
    let mut cluster = Cluster::start_in_regions(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let mut commit = clone.commit(None, "one");
    for at in [0, 1, 2, 0] {
        let refspec = format!("{commit}:refs/heads/main");
        let _ = ok(clone.push(&cluster.nodes[at].repository("p"), &[], &[&refspec]).await);
        cluster.show("p", "refs/heads/main", Some(&commit)).await;
        commit = clone.commit(Some(&commit), "more");
    }
    let many: Vec<String> = (0..150).map(|n| format!("{commit}:refs/heads/x/v{n:03}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let _ = ok(clone.push(&cluster.nodes[1].repository("p"), &["--atomic"], &many).await);
    // The names below a ref, and a ref above them, exclude each other as everywhere.
    let above = fails(clone.push(&cluster.nodes[2].repository("p"), &[], &[&format!("{commit}:refs/heads/x")]).await);
    assert!(above.contains("refs/heads/x"), "{above}");
    // A node that stops in order, and one that does not, come back with new incarnations.
    let _ = cluster.nodes[0].stop().await;
    cluster.nodes[1].kill().await;
    cluster.nodes[0].start(None);
    cluster.nodes[1].start(None);
    cluster.ready().await;
    let _ = ok(clone.push(&cluster.nodes[1].repository("p"), &["-d"], &["refs/heads/x/v000"]).await);
    assert_eq!(converged(&cluster, "p").await.refs.len(), 150);
    assert_eq!(transactions(&cluster), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_each_step_of_a_commit_loses_nothing() {
    let replay = Replay::seed("steps");
    let mut cluster = Cluster::start_in_regions(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let mut ledger = Ledger::default();
    for (history, step) in STEPS.iter().enumerate() {
        let victim = history % 2;
        let load = Load::start(&cluster, "p", &[victim], 2, replay.0 * 1_000_000 + history as u64);
        cluster.nodes[victim].kill().await;
        cluster.nodes[victim].start(Some(&format!("{step}:{}", 1 + replay.0 % 3)));
        killed(&mut cluster, victim).await;
        cluster.nodes[victim].start(None);
        cluster.ready().await;
        audit(&cluster, load, &mut ledger).await;
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    every_branch_moves(&cluster, "p", &clone).await;
    assert_eq!(transactions(&cluster), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_region_takes_no_commits_and_the_others_go_on() {
    let mut cluster = Cluster::start_in_regions(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (kept, lost) = (clone.commit(None, "kept"), clone.commit(None, "lost"));
    cluster.regions[1].isolate(true);
    let _ = fails(clone.push(&cluster.nodes[1].repository("p"), &[], &[&format!("{lost}:refs/heads/lost")]).await);
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{kept}:refs/heads/main")]).await);
    cluster.regions[1].isolate(false);
    // Its lease may be over by now. Then it found itself fenced, and has ended.
    cluster.nodes[1].kill().await;
    cluster.nodes[1].start(None);
    cluster.ready().await;
    let truth = converged(&cluster, "p").await;
    assert_eq!(truth.refs.keys().collect::<Vec<_>>(), ["refs/heads/main"], "it was never sealed");
    let _ = ok(clone.push(&cluster.nodes[1].repository("p"), &[], &[&format!("{lost}:refs/heads/lost")]).await);
    cluster.show("p", "refs/heads/lost", Some(&lost)).await;
}
