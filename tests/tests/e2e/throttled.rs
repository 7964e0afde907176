//! Streams behind limits, and sites that are down: publishing makes progress, and nobody waits for another one's
//! journal.

use std::time::Duration;

use lockstep::seams::embedded::write_limits::WriteLimits;
use lockstep::seams::refdb::IncarnationState;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use rand::{RngExt, SeedableRng};

use crate::lockstep;

/// The number of commits that wait.
const COMMITS: u64 = 30;
/// The size of each one's file, which does not compress.
const BYTES: usize = 20_000;

/// Commits files of random bytes, each on a branch of its own, at the first node.
async fn push_all(cluster: &Cluster, clone: &Clone) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for number in 0..COMMITS {
        let project = format!("p{}", number % 3);
        let bytes: Vec<u8> = (0..BYTES).map(|_| random.random()).collect();
        let commit = clone.commit_files(None, &[("f".to_owned(), bytes)].into());
        let repository = cluster.nodes[0].repository(&project);
        let _ = ok(clone.push(&repository, &[], &[&format!("{commit}:refs/heads/b{number}")]).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_behind_a_limit_is_published_nearly_once_and_a_killed_node_is_ready_before() {
    let limits = WriteLimits { shards: 1, bytes: 24_000, records: 1_000, lose_every: None };
    let mut cluster = Cluster::start_behind(lockstep(), &["a-0", "b-0"], limits).await;
    for project in ["p0", "p1", "p2"] {
        cluster.create(project).await;
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    let (before, _) = cluster.kinesis.appended();
    push_all(&cluster, &clone).await;
    cluster.nodes[0].kill().await;
    cluster.nodes[0].start(None);
    cluster.nodes[0].ready().await;
    let site = cluster.nodes[0].site.parse().expect("a site");
    let left = cluster.refdb.registry.incarnations(&site).await.expect("a list");
    assert!(
        left.iter().any(|one| one.state == IncarnationState::Poisoned),
        "the node serves before its predecessor is published: {left:?}"
    );
    for project in ["p0", "p1", "p2"] {
        let _ = converged(&cluster, project).await;
    }
    let drained = async || {
        let left = cluster.refdb.registry.incarnations(&site).await.ok()?;
        let states: Vec<_> = left.iter().map(|one| one.state).collect();
        states.iter().all(|state| matches!(state, IncarnationState::Open | IncarnationState::Drained)).then_some(())
    };
    assert!(until(drained).await.is_some(), "what was left is published in the end");
    let (after, refused) = cluster.kinesis.appended();
    assert!(refused > 0, "the limit was met");
    // Records since the last stored mark, at most a second before the kill, are appended again.
    let most = COMMITS + 8;
    assert!(after - before <= most, "{} records for {COMMITS} transactions, {refused} refusals", after - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_deleted_at_once_after_another_site_stopped_in_order() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    cluster.nodes[2].stop().await;
    let started = tokio::time::Instant::now();
    let _ = ok(cluster.nodes[0].cli(&["project", "delete", "p", "--yes"]).await);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let _ = ok(cluster.nodes[1].cli(&["project", "create", "p"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_deleted_after_another_site_was_killed_and_adopted() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    cluster.nodes[2].kill().await;
    let deleted = async || {
        let output = cluster.nodes[0].cli(&["project", "delete", "p", "--yes"]).await;
        output.status.success().then_some(())
    };
    assert!(until(deleted).await.is_some(), "{}", cluster.nodes[0].log_tail());
}
