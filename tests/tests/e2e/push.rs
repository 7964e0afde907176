//! Pushes, as their user sees them, at the user's own site and at the others.

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, git, ok, refuses};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::converged;
use lockstep_tests::e2e::{PATIENCE, until};
use tokio::time::{Duration, Instant, sleep};

use crate::lockstep;
use crate::seeing::no_promotion_helps;

const SITES: [&str; 3] = ["a-0", "b-0", "c-0"];
const MAIN: &str = "refs/heads/main";

/// The number of transactions that a node has committed.
async fn committed(cluster: &Cluster, node: usize) -> u64 {
    cluster.nodes[node].status().await.expect("it answers").counters.committed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_one_transaction_and_appears_everywhere() {
    let cluster = Cluster::start(lockstep(), &SITES).await;
    cluster.create("tools/build").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let here = cluster.nodes[0].repository("tools/build");
    let first = clone.commit(None, "one");
    let fifty: Vec<String> = (0..50).map(|n| format!("{first}:refs/heads/n{n:02}")).collect();
    let fifty: Vec<&str> = fifty.iter().map(String::as_str).collect();
    let (branch, tag) = (format!("{first}:{MAIN}"), format!("{first}:refs/tags/v1"));
    for (options, refs) in [(&[][..], &[branch.as_str()][..]), (&["--atomic"], &[tag.as_str(), "+HEAD:refs/heads/h"])] {
        let _ = ok(git(clone.folder(), &["update-ref", "HEAD", &first]).await);
        let before = committed(&cluster, 0).await;
        let _ = ok(clone.push(&here, options, refs).await);
        assert_eq!(committed(&cluster, 0).await, before + 1, "{refs:?}");
    }
    let before = committed(&cluster, 0).await;
    let _ = ok(clone.push(&here, &[], &fifty).await);
    assert_eq!(committed(&cluster, 0).await, before + 1);
    cluster.show("tools/build", "refs/heads/n49", Some(&first)).await;
    let truth = converged(&cluster, "tools/build").await;
    assert_eq!(truth.refs.len(), 53);
    assert_eq!(truth.head.as_deref(), Some(MAIN));
    let _ = ok(clone.push(&cluster.nodes[2].repository("tools/build"), &[], &[":refs/heads/n49"]).await);
    cluster.show("tools/build", "refs/heads/n49", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_push_is_refused_with_its_reason_and_the_site_has_caught_up() {
    let cluster = Cluster::start(lockstep(), &SITES[..2]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);
    b.shows("p", MAIN, Some(&first)).await;
    let theirs = clone.commit(Some(&first), "theirs");
    let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{theirs}:{MAIN}")]).await);
    b.shows("p", MAIN, Some(&theirs)).await;
    // A batch from a client that has not seen `theirs`.
    let ours = clone.commit(Some(&first), "ours");
    let _ = ok(clone.push(&b.repository("p"), &[], &[&format!("{ours}:refs/heads/ours")]).await);
    let stale = b.cli(&["update-ref", "--project", "p", "--old", &first, MAIN, &ours]).await;
    assert_eq!(stale.status.code(), Some(3));
    let reason = fails(stale);
    assert!(reason.contains(&theirs), "the reason must name the ref's value: {reason}");
    let refused = clone.push(&b.repository("p"), &[], &[&format!("{ours}:{MAIN}")]).await;
    refuses(refused, "rejected");
    converged(&cluster, "p").await;
}

/// The refusal itself makes the node catch up. It does not wait for the site's stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_user_fetches_what_refused_him() {
    let mut cluster = Cluster::start(lockstep(), &SITES[..2]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let mut values = vec![clone.commit(None, "0")];
    for n in 1..=5 {
        values.push(clone.commit(values.last().map(String::as_str), &n.to_string()));
    }
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{}:{MAIN}", values[0])]).await);
    cluster.show("p", MAIN, Some(&values[0])).await;
    let ours = clone.commit(Some(&values[0]), "ours");
    // B is down while A moves the branch. When B is back, it gets pushes at once, again and again, until it answers.
    let _ = cluster.nodes[1].stop().await;
    for value in &values[1..] {
        let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{value}:{MAIN}")]).await);
    }
    cluster.nodes[1].start(None);
    let b = cluster.nodes[1].repository("p");
    let push = async || {
        let output = clone.push(&b, &[], &[&format!("{ours}:{MAIN}")]).await;
        let text = fails(output);
        let has_no_answer = ["nothing was changed", "not known yet"].iter().any(|part| text.contains(part));
        (!has_no_answer).then_some(text)
    };
    let text = until(push).await.expect("an answer");
    assert!(text.contains("rejected"), "{text}");
    cluster.nodes[1].shows("p", MAIN, values.last().map(String::as_str)).await;
    converged(&cluster, "p").await;
}

/// A sidecar that starts while the refdb is away tells how old the state is that its site serves, and that no promotion
/// can help.
async fn starts_without_the_refdb(node: &mut Node) {
    node.reports(|status| status.ready && status.last_contact_ms.is_some()).await;
    let before = node.status().await.expect("a status").last_contact_ms;
    node.wire.cut();
    node.kill().await;
    node.start(None);
    node.reports(|status| !status.ready && status.last_contact_ms >= before).await;
    no_promotion_helps(node, &["plan"]).await;
    node.wire.mend();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_refdb_is_away_pushes_are_refused_and_reads_go_on() {
    let mut cluster = Cluster::start(lockstep(), &SITES[..2]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let push = format!("{first}:{MAIN}");
    let a = cluster.nodes[0].repository("p");
    let _ = ok(clone.push(&a, &[], &[&push]).await);
    cluster.nodes[0].wire.cut();
    let second = clone.commit(Some(&first), "two");
    let text = fails(clone.push(&a, &[], &[&format!("{second}:{MAIN}")]).await);
    assert!(text.contains("push again") || text.contains("try again"), "the message names no next step: {text}");
    assert!(!text.contains("DispatchFailure"), "the message shows an error type of the SDK: {text}");
    assert!(ok(git(clone.folder(), &["ls-remote", &a.display().to_string()]).await).contains(&first));
    starts_without_the_refdb(&mut cluster.nodes[1]).await;
    cluster.nodes[0].wire.mend();
    // The other site may have fenced this node meanwhile. Then it ends, and is started again as Kubernetes does.
    let end = Instant::now() + PATIENCE;
    while !clone.push(&a, &[], &[&format!("{second}:{MAIN}")]).await.status.success() {
        assert!(Instant::now() < end, "pushes must succeed again\n{}", cluster.nodes[0].log_tail());
        if cluster.nodes[0].ended().is_some() {
            let _ = cluster.nodes[0].end().await;
            cluster.nodes[0].start(None);
        }
        sleep(Duration::from_millis(100)).await;
    }
    cluster.ready().await;
    cluster.show("p", MAIN, Some(&second)).await;
    converged(&cluster, "p").await;
}
