//! Symbolic refs below `refs/`: one of them gives way to a committed ref, at every apply, and blocks nothing.

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, git, ok};
use lockstep_tests::e2e::verify::converged;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";

#[tokio::test(flavor = "multi_thread")]
async fn a_symbolic_ref_gives_way_to_a_committed_ref_and_nobody_is_stuck() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let (a, b) = (cluster.nodes[0].repository("p"), cluster.nodes[1].repository("p"));
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    let apart = clone.commit(None, "apart");
    let _ = ok(clone.push(&a, &[], &[&format!("{first}:{MAIN}")]).await);
    cluster.show("p", MAIN, Some(&first)).await;
    for (alias, target) in [
        ("same", MAIN),
        ("newer", MAIN),
        ("other", MAIN),
        ("dangling", "refs/heads/nothing"),
        ("folder", MAIN),
        ("way/x", MAIN),
    ] {
        let alias = format!("refs/heads/{alias}");
        let _ = ok(git(&b, &["symbolic-ref", &alias, target]).await);
    }
    // Each is pushed on its own, so that one that is stuck shows itself.
    for (value, name) in [
        (&first, "same"),
        (&second, "newer"),
        (&apart, "other"),
        (&first, "dangling"),
        (&first, "folder/below"),
        (&first, "way"),
    ] {
        let name = format!("refs/heads/{name}");
        let _ = ok(clone.push(&a, &[], &[&format!("{value}:{name}")]).await);
        cluster.show("p", &name, Some(value)).await;
    }
    // An alias that had the committed value already must not follow its former target.
    let _ = ok(clone.push(&b, &[], &[&format!("{second}:{MAIN}")]).await);
    cluster.show("p", MAIN, Some(&second)).await;
    cluster.show("p", "refs/heads/same", Some(&first)).await;
    let third = clone.commit(Some(&second), "three");
    let _ = ok(clone.push(&b, &[], &[&format!("{third}:refs/heads/newer")]).await);
    cluster.show("p", "refs/heads/newer", Some(&third)).await;
    let truth = converged(&cluster, "p").await;
    assert_eq!(truth.refs.len(), 7, "{:?}", truth.refs);
    assert!(ok(cluster.nodes[1].cli(&["stray", "list", "p"]).await).contains(&first), "the alias's value is a stray");
    cluster.nodes[1].reports(|status| status.parked == 0).await;
    assert_eq!(ok(cluster.nodes[1].cli(&["parked"]).await), "nothing");
}
