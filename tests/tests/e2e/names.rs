//! Names that were folders of refs, as users meet them at real sidecars.

use lockstep_proto::bridge::{
    Expected, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse, RefusalCode,
};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, ok};
use lockstep_tests::e2e::verify::converged;
use lockstep_tests::e2e::{PATIENCE, until};

use crate::lockstep;

const SITES: [&str; 3] = ["a-0", "b-0", "c-0"];
const ABOVE: &str = "refs/heads/a";
const BELOW: &str = "refs/heads/a/b";

/// Creates a branch in the folder at the first node, and deletes it again.
async fn was_a_folder(cluster: &Cluster, clone: &Clone, commit: &str) {
    let a = cluster.nodes[0].repository("p");
    let _ = ok(clone.push(&a, &[], &[&format!("{commit}:{BELOW}")]).await);
    cluster.show("p", BELOW, Some(commit)).await;
    let _ = ok(clone.push(&a, &[], &[&format!(":{BELOW}")]).await);
    cluster.show("p", BELOW, None).await;
}

/// Pushes until the push is taken.
async fn taken(cluster: &Cluster, node: usize, clone: &Clone, commit: &str) {
    let repository = cluster.nodes[node].repository("p");
    let push = async || {
        let output = clone.push(&repository, &[], &[&format!("{commit}:{ABOVE}")]).await;
        output.status.success().then_some(())
    };
    assert!(until(push).await.is_some(), "not within {PATIENCE:?}\n{}", cluster.nodes[node].log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_takes_the_name_of_an_emptied_folder_at_another_site() {
    let cluster = Cluster::start(lockstep(), &SITES[..2]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    was_a_folder(&cluster, &clone, &first).await;
    let (a, b) = (cluster.nodes[0].repository("p"), cluster.nodes[1].repository("p"));
    let _ = ok(clone.push(&b, &[], &[&format!("{first}:{ABOVE}")]).await);
    cluster.show("p", ABOVE, Some(&first)).await;
    let text = fails(clone.push(&a, &[], &[&format!("{first}:{BELOW}")]).await);
    assert!(text.contains("is a ref itself"), "{text}");
    // And back: the branch goes, and the name is a folder again.
    let _ = ok(clone.push(&a, &[], &[&format!(":{ABOVE}")]).await);
    cluster.show("p", ABOVE, None).await;
    let _ = ok(clone.push(&b, &[], &[&format!("{first}:{BELOW}")]).await);
    cluster.show("p", BELOW, Some(&first)).await;
    converged(&cluster, "p").await;
}

/// A node that is cut off from the streams may still take the name for a folder: the user is told which one it is. A
/// killed node is waited for until another one has adopted it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_is_named_and_a_killed_one_holds_nobody_up_for_long() {
    let mut cluster = Cluster::start(lockstep(), &SITES).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    was_a_folder(&cluster, &clone, &first).await;
    cluster.nodes[2].streams.cut();
    let b = cluster.nodes[1].repository("p");
    let text = fails(clone.push(&b, &[], &[&format!("{first}:{ABOVE}")]).await);
    let text: String = text.replace("remote: ", "").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("c-0 of site c") && text.contains("try again"), "{text}");
    cluster.nodes[2].streams.mend();
    taken(&cluster, 1, &clone, &first).await;
    cluster.show("p", ABOVE, Some(&first)).await;
    let _ = ok(clone.push(&b, &[], &[&format!(":{ABOVE}")]).await);
    cluster.show("p", ABOVE, None).await;
    was_a_folder(&cluster, &clone, &first).await;
    cluster.nodes[2].kill().await;
    taken(&cluster, 1, &clone, &first).await;
    cluster.nodes[2].start(None);
    cluster.ready().await;
    cluster.show("p", ABOVE, Some(&first)).await;
    converged(&cluster, "p").await;
}

/// The node dies when it has loosened the name and not created the branch. The next try goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_between_the_two_steps_leaves_nothing_to_clean_up() {
    let mut cluster = Cluster::start(lockstep(), &SITES[..2]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    was_a_folder(&cluster, &clone, &first).await;
    let _ = cluster.nodes[1].stop().await;
    // The first attempt is refused by the mark, the second one loosens it.
    cluster.nodes[1].start(Some("commit.after_commit:2"));
    cluster.nodes[1].ready().await;
    let b = cluster.nodes[1].repository("p");
    let _ = fails(clone.push(&b, &[], &[&format!("{first}:{ABOVE}")]).await);
    let _ = cluster.nodes[1].end().await;
    cluster.nodes[1].start(None);
    cluster.ready().await;
    taken(&cluster, 0, &clone, &first).await;
    cluster.show("p", ABOVE, Some(&first)).await;
    converged(&cluster, "p").await;
}

/// Gerrit's REST API answers a refusal with this code by 409 and the message (`SidecarExceptionHookTest`).
#[tokio::test(flavor = "multi_thread")]
async fn the_api_gives_the_reason_of_a_name_that_is_not_free() {
    let cluster = Cluster::start(lockstep(), &SITES[..1]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (first, a) = (clone.commit(None, "one"), cluster.nodes[0].repository("p"));
    let _ = ok(clone.push(&a, &[], &[&format!("{first}:{BELOW}")]).await);
    let request = |id: &str| RefTransactionRequest {
        request_id: id.to_owned(),
        deadline_ms: None,
        atomic: true,
        commands: vec![RefCommand {
            name: ABOVE.parse().unwrap(),
            old: Expected::Absent,
            new: Some(first.parse().unwrap()),
            force: false,
        }],
        actor: None,
        traceparent: None,
        message: None,
        lock: None,
    };
    let path = "/v1/projects/p/ref-transactions";
    let answer: RefTransactionResponse = cluster.nodes[0].call(path, &request("early")).await.expect("an answer");
    let refusal = answer.results[0].refusal.as_ref().expect("a refusal");
    assert_eq!((answer.outcome, refusal.code), (Outcome::Refused, RefusalCode::NameConflict));
    assert!(refusal.message.contains(BELOW) && !refusal.retry, "{refusal:?}");
    let _ = ok(clone.push(&a, &[], &[&format!(":{BELOW}")]).await);
    let answer: RefTransactionResponse = cluster.nodes[0].call(path, &request("free")).await.expect("an answer");
    assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
}
