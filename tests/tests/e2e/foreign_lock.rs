//! A lock that another program left behind. The status and the metrics tell it before anybody meets it. A push is
//! committed, and its user and the status say that this server cannot show it yet, and why. Once the lock is gone, the
//! ref follows.

use std::path::Path;
use std::time::Duration;

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok, text};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use tokio::time::Instant;

use crate::life::get;
use crate::lockstep;

/// Leaves a lock of a program that died an hour ago.
fn leave(lock: &Path) {
    let file = std::fs::File::create(lock).expect("the folder is there");
    let made = file.metadata().and_then(|meta| meta.modified()).expect("it was just made");
    file.set_modified(made - Duration::from_secs(3_600)).expect("its owner may");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_lock_is_told_before_anybody_meets_it() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    cluster.create("p").await;
    cluster.create("q").await;
    let a = &cluster.nodes[0];
    let left = async || a.status().await.map(|status| status.left_locks).unwrap_or_default();
    let count = async || {
        let metrics = get(a.health, "/metrics").await;
        let line = metrics.lines().find(|line| line.starts_with("lockstep_left_locks")).map(str::to_owned);
        line.and_then(|line| line.rsplit_once(' ').map(|(_, value)| value.to_owned()))
    };
    assert_eq!((left().await, count().await), (Vec::new(), Some("0".to_owned())));
    let lock = a.repository("p").join("refs/heads/main.lock");
    leave(&lock);
    let young = a.repository("q").join("packed-refs.lock");
    let _ = std::fs::File::create(&young).expect("the folder is there");
    let told = until(async || left().await.first().cloned()).await.expect("it is told");
    assert_eq!((told.project, told.path), ("p".to_owned(), lock.display().to_string()));
    assert_eq!((left().await.len(), count().await), (1, Some("1".to_owned())), "a young lock is usual");
    let said = ok(a.cli(&["status"]).await);
    assert!(said.contains("a lock was left behind in p (60m ago)") && said.contains("remove /"), "{said}");
    std::fs::remove_file(&lock).expect("nobody else removes it");
    std::fs::remove_file(&young).expect("nobody else removes it");
    assert!(until(async || left().await.is_empty().then_some(())).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_behind_an_old_lock_is_told_as_it_is() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let commit = clone.commit(None, "one");
    let lock = cluster.nodes[0].repository("p").join("refs/heads/main.lock");
    leave(&lock);
    let push = async |name: &str| {
        let started = Instant::now();
        let pushed = clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{commit}:{name}")]).await;
        (pushed, started.elapsed())
    };
    let (plain, usual) = push("refs/heads/plain").await;
    let _ = ok(plain);
    let (pushed, took) = push("refs/heads/main").await;
    // A lock that may go away is waited for more than eight seconds.
    let most = (usual * 4).max(Duration::from_secs(6));
    assert!(took < most, "an old lock is not waited for, but the push took {took:?}, and one without it {usual:?}");
    let said = text(&pushed);
    for words in ["committed at every site", "a lock of another program", "since 36", "main.lock", "do not repeat"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let _ = ok(pushed);
    cluster.nodes[1].shows("p", "refs/heads/main", Some(&commit)).await;
    let told = until(async || {
        let status = serde_json::to_string(&cluster.nodes[0].status().await?).ok()?;
        (status.contains("not yet visible") && status.contains("a lock of another program")).then_some(())
    });
    assert!(told.await.is_some(), "the status says so");
    std::fs::remove_file(&lock).expect("nobody else removes it");
    converged(&cluster, "p").await;
}
