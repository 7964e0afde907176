//! `lockstep verify` of real sidecars: equal refs, a ref that something else has moved, a refdb that does not answer.

use lockstep_proto::failover::FailoverPlan;
use lockstep_proto::overview::Overview;
use lockstep_proto::verify::{Right, Verification};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, ok};
use lockstep_tests::e2e::load::Load;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_something_else_has_moved_is_named_and_everything_else_is_equal() {
    let tune = |node: &Node| node.replace_setting("[refdb]\n", "[refdb]\nverify_share = 50\n");
    let cluster = Cluster::start_tuned(lockstep(), &["a-0", "b-0"], &tune).await;
    for project in ["p", "q"] {
        cluster.create(project).await;
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    for value in [&first, &second] {
        let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{value}:{MAIN}")]).await);
    }
    cluster.show("p", MAIN, Some(&second)).await;
    let equal = ok(b.cli(&["verify"]).await);
    assert!(equal.starts_with("2 projects, ") && equal.contains(" refs of 2 projects in "), "{equal}");
    assert!(equal.contains(": 0 differ, ") && equal.contains(" s at 50 % of a partition\n"), "{equal}");

    // Nothing else may move refs. Here something does, around git and its hooks.
    let path = b.repository("p").join(MAIN);
    std::fs::write(&path, format!("{first}\n")).expect("a write");
    let output = b.cli(&["verify", "--json"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let found: Verification = serde_json::from_slice(&output.stdout).expect("JSON");
    let [one] = &found.found[..] else { panic!("{found:?}") };
    assert_eq!((one.project.as_str(), one.name.as_str(), one.right), ("p#1", MAIN, Right::Refdb));
    assert_eq!((one.disk.as_deref(), found.mismatches, found.failures), (Some(first.as_str()), 1, 0));
    assert_eq!(one.refdb.as_ref().map(|side| side.value.as_str()), Some(second.as_str()));
    let text = String::from_utf8(b.cli(&["verify", "p"]).await.stdout).expect("text");
    assert!(text.contains("DIFFERENT\n") && text.contains("the disk shows another value"), "{text}");

    // Every site sees it, and it is not safe to fail over there.
    let shown = until(async || {
        let all: Overview = serde_json::from_slice(&a.cli(&["status", "--all", "--json"]).await.stdout).ok()?;
        let problem = "1 refs of b-0 differ from the refdb; see `lockstep verify`".to_owned();
        all.sites[1].problems.contains(&problem).then_some(())
    });
    assert!(shown.await.is_some(), "{:?}", a.cli(&["status", "--all"]).await);

    std::fs::write(&path, format!("{second}\n")).expect("a write");
    let equal = ok(b.cli(&["verify", "--share", "30"]).await);
    assert!(equal.contains(" s at 30 % of a partition\n"), "{equal}");
    let warned = async |from: &str, to: &str| {
        let plan = a.cli(&["failover", "plan", "--json", "--from", from, "--to", to]).await;
        let plan: FailoverPlan = serde_json::from_slice(&plan.stdout).expect("JSON");
        plan.warnings.iter().any(|warning| warning.contains("has verified its refs within the last day"))
    };
    assert!(warned("b", "a").await, "nothing was verified at a");
    assert!(until(async || (!warned("a", "b").await).then_some(())).await.is_some(), "b was verified");

    assert!(
        fails(b.cli(&["verify", "nowhere"]).await)
            .contains("project nowhere exists neither at this node nor in the refdb")
    );

    // An error is never read as equal. A node that is cut off for long is fenced, so this comes last.
    b.wire.cut();
    let output = b.cli(&["verify"]).await;
    b.wire.mend();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\n  p#1: "), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_that_are_on_their_way_are_no_mismatches() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    let load = Load::start(&cluster, "p", &[0, 1, 2], 3, 5);
    for _ in 0..4 {
        for node in &cluster.nodes {
            let text = ok(node.cli(&["verify", "p"]).await);
            assert!(text.contains(": 0 differ, "), "{text}");
        }
    }
    let _ = load.stop().await;
}
