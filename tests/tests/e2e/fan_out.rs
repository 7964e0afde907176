//! Sidecars that read the streams by enhanced fan-out.

use lockstep_proto::status::{NodeStatus, StreamWay};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok};
use lockstep_tests::e2e::node::Node;

use crate::lockstep;

/// Whether every stream is sent to the node.
fn is_pushed(status: &NodeStatus) -> bool {
    status.streams.len() == 2 && status.streams.iter().all(|one| one.way == StreamWay::FanOut && !one.is_fallback)
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_that_read_by_fan_out_are_in_step_and_so_is_a_node_that_was_killed() {
    let tune = |node: &Node| {
        node.set_gerrit("refresh = \"none\"");
        let poll = "poll_interval = \"100ms\"\n";
        node.replace_setting(poll, &format!("{poll}reading = \"fan-out\"\n"));
    };
    let mut cluster = Cluster::start_tuned(lockstep(), &["a-0", "a-1", "b-0"], &tune).await;
    cluster.create("p").await;
    for node in &cluster.nodes {
        node.reports(is_pushed).await;
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:refs/heads/main")]).await);
    cluster.show("p", "refs/heads/main", Some(&first)).await;

    cluster.nodes[2].kill().await;
    let second = clone.commit(Some(&first), "two");
    let _ = ok(clone.push(&cluster.nodes[1].repository("p"), &[], &[&format!("{second}:refs/heads/main")]).await);
    cluster.nodes[2].start(None);
    cluster.ready().await;
    cluster.show("p", "refs/heads/main", Some(&second)).await;
    let shown = ok(cluster.nodes[2].cli(&["status"]).await);
    assert!(shown.contains("read by") && shown.contains("fan-out"), "{shown}");
}
