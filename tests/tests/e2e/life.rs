//! The life of a sidecar, as its supervisor sees it: health, a second sidecar, an orderly stop, a restart.

use std::net::SocketAddr;

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok, refuses};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";

pub async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a listener");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_its_health_and_ends_in_order() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let a = cluster.nodes[0].repository("p");
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&a, &[], &[&format!("{first}:{MAIN}")]).await);
    let health = cluster.nodes[0].health;
    assert!(get(health, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(health, "/readyz").await.starts_with("HTTP/1.1 200"));
    let lines = ["lockstep_ready 1", "lockstep_epoch 1", "lockstep_quarantined 0", "lockstep_journal_unpublished "];
    let labelled = ["lockstep_commit_total{outcome=\"committed\"} 2", "lockstep_role{role=\"active\"} 1"];
    for line in lines.iter().chain(&labelled) {
        let has_it = async || get(health, "/metrics").await.lines().any(|one| one.starts_with(line)).then_some(());
        assert!(until(has_it).await.is_some(), "no {line} in:\n{}", get(health, "/metrics").await);
    }

    let second = clone.commit(Some(&first), "two");
    let _ = ok(clone.push(&a, &[], &[&format!("{second}:{MAIN}")]).await);
    let ended = cluster.nodes[0].stop().await;
    assert!(ended.success(), "{ended}\n{}", cluster.nodes[0].log_tail());
    // Acknowledged commits were published before the stop: B gets them while A is down.
    cluster.nodes[1].shows("p", MAIN, Some(&second)).await;
    refuses(clone.push(&a, &[], &[":refs/heads/none"]).await, "nothing was changed");
    cluster.nodes[0].start(None);
    cluster.ready().await;
    cluster.nodes[0].reports(|status| status.incarnation.is_some_and(|one| one.0 == 2)).await;
    let third = clone.commit(Some(&second), "three");
    let _ = ok(clone.push(&a, &[], &[&format!("{third}:{MAIN}")]).await);
    converged(&cluster, "p").await;
}

/// A node that does not know yet that the project closes holds up its deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_shown_as_read_only_while_it_is_being_deleted() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    b.streams.cut();
    let shows = async {
        let health = async || get(a.health, "/readyz?verbose").await;
        let is_shown = async || health().await.contains("project p is read-only").then_some(());
        assert!(until(is_shown).await.is_some(), "{}\n{}", health().await, a.log_tail());
        let answer = health().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let status = ok(a.cli(&["status"]).await);
        assert!(status.contains("  p        read-only  "), "{status}");
        b.streams.mend();
    };
    let delete = ["project", "delete", "p", "--yes"];
    let (deleted, ()) = tokio::join!(a.cli(&delete), shows);
    if !deleted.status.success() {
        refuses(deleted, "not every node knows it yet");
        let _ = ok(a.cli(&delete).await);
    }
    let answer = get(a.health, "/readyz?verbose").await;
    assert!(!answer.contains("project p is"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sidecar_on_the_same_volume_is_refused() {
    let mut cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let second = cluster.nodes[0].second().await;
    refuses(second, "another sidecar");
    assert!(cluster.nodes[0].ended().is_none(), "the first sidecar keeps running");
    cluster.create("p").await;
}
