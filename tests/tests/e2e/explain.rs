//! `lockstep explain` of a ref that is everywhere, of one that is parked at a site, of one that died on its way, and of
//! none. A ref whose transaction is quarantined is explained in `damaged`. The page docs/operations.md shows an output
//! of this shape.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use lockstep_proto::explain::{Explanation, RefAtNode, RefVerdictKind, SetAsideKind};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok, refuses, text};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::converged;
use lockstep_tests::e2e::{behind, until};

use crate::lockstep;
use lockstep_tests::e2e::documented::documented_in;

/// The explanation of a ref of project p, and the exit code.
async fn explain(node: &Node, name: &str) -> (Explanation, Option<i32>) {
    let output = node.cli(&["explain", "p", name, "--json"]).await;
    let explained = serde_json::from_slice(&output.stdout);
    (explained.unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", node.log_tail())), output.status.code())
}

/// Waits until a condition holds for the explanation that a node gives.
async fn explains(node: &Node, name: &str, is_so: impl Fn(&Explanation) -> bool) -> Explanation {
    let came = until(async || Some(explain(node, name).await.0).filter(&is_so)).await;
    match came {
        Some(explained) => explained,
        None => panic!("it is not so: {:?}\n{}", explain(node, name).await, node.log_tail()),
    }
}

/// The parts of the nodes that were reached.
fn parts(explained: &Explanation) -> impl Iterator<Item = &RefAtNode> {
    explained.sites.iter().flat_map(|site| &site.nodes).filter_map(|node| node.here.as_ref())
}

fn is_everywhere(explained: &Explanation) -> bool {
    explained.verdict.kind == RefVerdictKind::Everywhere
}

/// Leaves a lock of a program that died an hour ago.
fn leave(lock: &Path) {
    let file = File::create(lock).expect("the folder is there");
    let made = file.metadata().and_then(|meta| meta.modified()).expect("it was just made");
    file.set_modified(made - Duration::from_secs(3_600)).expect("its owner may");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_ref_is_explained_at_every_site_until_it_is_everywhere() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let value = clone.commit(None, "one");
    is_everywhere_at_once(&cluster, &clone, &value).await;
    is_held_at_b(&cluster, &clone, &value).await;
    dies_on_its_way(&mut cluster, &clone).await;
    // A ref that nobody has committed.
    let a = &cluster.nodes[0];
    behind::set(&a.repository("p"), "refs/heads/wild", Some(&value));
    refuses(a.cli(&["explain", "p", "refs/heads/wild"]).await, &format!("the disk of this node shows {value}"));
}

async fn push(cluster: &Cluster, clone: &Clone, value: &str, name: &str) {
    let refspec = format!("{value}:{name}");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&refspec]).await);
}

async fn is_everywhere_at_once(cluster: &Cluster, clone: &Clone, value: &str) {
    const MAIN: &str = "refs/heads/main";
    push(cluster, clone, value, MAIN).await;
    for node in &cluster.nodes {
        let explained = explains(node, MAIN, |it| is_everywhere(it) && it.slot.published).await;
        assert_eq!((explained.refdb.version, explained.refdb.value.as_str()), (1, value));
        assert_eq!((explained.slot.node.as_str(), explained.by.as_str()), ("a-0", node.name.as_str()));
        let parts: Vec<&RefAtNode> = parts(&explained).collect();
        assert!(parts.iter().all(|here| here.refresh.is_some()), "Gerrit keeps each branch: {explained:?}");
        assert_eq!(parts.len(), 2, "{explained:?}");
        assert_eq!(explain(node, MAIN).await.1, Some(0));
    }
    let a = &cluster.nodes[0];
    documented_in("operations.md", "lockstep explain p refs/heads/main", &a.cli(&["explain", "p", MAIN]).await);
    refuses(a.cli(&["explain", "p", "refs/heads/none"]).await, "the refdb has no ref refs/heads/none in project p");
    refuses(a.cli(&["explain", "q", MAIN]).await, "the refdb has no project q");
}

/// A lock of another program holds the ref up at b alone.
async fn is_held_at_b(cluster: &Cluster, clone: &Clone, value: &str) {
    const HELD: &str = "refs/heads/held";
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    let lock = b.repository("p").join(format!("{HELD}.lock"));
    leave(&lock);
    push(cluster, clone, value, HELD).await;
    let is_parked = |it: &Explanation| {
        let mut of_b = parts(it).filter(|here| here.node.as_str() == "b-0").flat_map(|here| &here.set_aside);
        of_b.any(|one| one.kind == SetAsideKind::Parked)
    };
    let explained = explains(a, HELD, is_parked).await;
    assert!(explained.verdict.sentence.starts_with("site b lacks version 1: b-0 has parked a-0."), "{explained:?}");
    let entry = explained.refdb.txn.to_string();
    let next = format!("at b-0: wait, or `lockstep quarantine retry {entry}`");
    assert_eq!(explained.verdict.next, Some(next));
    assert_eq!(explain(b, HELD).await.1, Some(2));
    let listed = ok(b.cli(&["quarantine", "list"]).await);
    assert!(listed.contains("parked") && listed.contains(&entry), "{listed}");
    let retried = b.cli(&["quarantine", "retry", &entry]).await;
    assert_eq!(retried.status.code(), Some(1), "{retried:?}");
    refuses(retried, "stays parked: ");
    let discarded = b.cli(&["quarantine", "discard", &entry, "--yes"]).await;
    assert_eq!(discarded.status.code(), Some(3), "{discarded:?}");
    refuses(discarded, "is parked, and not in quarantine");
    std::fs::remove_file(&lock).expect("nobody else removes it");
    // It may have been tried by itself before.
    let said = text(&b.cli(&["quarantine", "retry", &entry]).await);
    assert!(said.contains("and it is parked no more") || said.contains("has no entry"), "{said}");
    explains(b, HELD, is_everywhere).await;
}

/// b dies before it has applied the ref.
async fn dies_on_its_way(cluster: &mut Cluster, clone: &Clone) {
    const LATE: &str = "refs/heads/late";
    cluster.nodes[1].kill().await;
    cluster.nodes[1].start(Some("apply.before_objects"));
    cluster.ready().await;
    push(cluster, clone, &clone.commit(None, "two"), LATE).await;
    let _ = cluster.nodes[1].end().await;
    let (explained, code) = explain(&cluster.nodes[0], LATE).await;
    assert_eq!((explained.verdict.kind, code), (RefVerdictKind::NotReached, Some(2)), "{explained:?}");
    let silent = "not reached: b-0 of site b (its record does not say that it has applied the slot)";
    assert!(explained.verdict.sentence.ends_with(silent), "{explained:?}");
    cluster.nodes[1].start(None);
    cluster.ready().await;
    explains(&cluster.nodes[0], LATE, is_everywhere).await;
    converged(cluster, "p").await;
}
