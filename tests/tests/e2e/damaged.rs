//! A committed record whose content is bad: each node stays ready and says which project is degraded, until an operator
//! ends it.

use bytes::Bytes;
use lockstep::seams::refdb::{CommitAnswer, CommitRequest, Freed, IncarnationRecord, OpenAnswer};
use lockstep_proto::{Command, Pack, ProjectKey, RefKey, RefValue, Seq, SiteId, Transaction, TxnId};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok, refuses, text};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::converged;
use lockstep_tests::e2e::{behind, until};

use crate::life::get;
use crate::lockstep;
use crate::signing::{forger, write};

const MAIN: &str = "refs/heads/main";
const DAMAGED: &str = "refs/heads/damaged";

/// Commits and publishes what no node with our code would: a new branch with a pack that is none. The branch's value is
/// an object that every site has. It comes from a node of site a that is gone again.
async fn commit_damaged(cluster: &Cluster, value: &str) -> TxnId {
    let (refdb, site) = (&cluster.refdb, "a".parse::<SiteId>().unwrap());
    let sites = refdb.sites.sites().await.unwrap();
    let epoch = sites.iter().find(|one| one.site == site).expect("the site").epoch;
    let id: TxnId = "byzantine.1.0.0.00000000000000aa".parse().unwrap();
    let incarnation = id.slot.lane.incarnation.clone();
    let opened = IncarnationRecord::open(incarnation.clone(), site.clone(), epoch, 1, 1);
    assert_eq!(refdb.incarnations.open_incarnation(&opened).await.unwrap(), OpenAnswer::Opened);
    let command = Command::creation(RefKey::Ref(DAMAGED.parse().unwrap()), RefValue::Oid(value.parse().unwrap()));
    let project = ProjectKey::new(&"p".parse().unwrap(), 1);
    let transaction = Transaction {
        commands: vec![command],
        pack: Pack::Inline(Bytes::from_static(b"no pack")),
        request_id: "damaged".to_owned(),
        ..Transaction::empty(id.clone(), site.clone(), project)
    };
    let encoded = transaction.encode();
    let request = CommitRequest {
        transaction,
        encoded: encoded.clone(),
        directories: Vec::new(),
        freed: Freed::new(),
        lock_token: None,
    };
    assert_eq!(cluster.refdb.refs.commit(&request).await.unwrap(), CommitAnswer::Committed);
    write(&forger(cluster).await, &site, &encoded).await;
    refdb.incarnations.freeze(&site, &incarnation).await.unwrap();
    refdb.incarnations.drained(&site, &incarnation, &[Seq(1)]).await.unwrap();
    id
}

/// Waits until the metrics have exactly this line.
pub async fn measures(node: &Node, line: &str) {
    let has_it = async || get(node.health, "/metrics").await.lines().any(|one| one.trim_end() == line).then_some(());
    assert!(until(has_it).await.is_some(), "{}: no {line} in:\n{}", node.name, get(node.health, "/metrics").await);
}

/// The node is ready, and each place in which people look says that p is degraded, here and at the other node.
async fn is_ready_and_degraded(node: &Node) {
    node.reports(|status| status.ready && (status.degraded_projects, status.quarantined) == (1, 1)).await;
    let shown = ok(node.cli(&["status"]).await);
    assert!(shown.contains("\nready, but 1 projects are degraded here (see below)\n"), "{shown}");
    assert!(shown.contains("\nprojects that are not in order\n") && shown.contains("  p        degraded  "), "{shown}");
    let health = get(node.health, "/readyz?verbose").await;
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("project p is degraded: "), "{health}");
    measures(node, "lockstep_degraded_projects 1").await;
    measures(node, "lockstep_held_elsewhere 1").await;
    let shown = ok(node.cli(&["status"]).await);
    assert!(shown.contains("\ndegraded at other nodes\n"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_damaged_record_nodes_are_ready_and_show_what_is_behind_until_it_is_accepted() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{second}:{MAIN}")]).await);
    cluster.show("p", MAIN, Some(&second)).await;
    // A value that was never committed gives way at b, and is kept.
    let b = &cluster.nodes[1];
    let stray = behind::commit(&b.repository("p"), Some(&first), "stray");
    behind::set(&b.repository("p"), MAIN, Some(&stray));
    let _ = ok(b.cli(&["update-ref", "--project", "p", MAIN, &second]).await);
    b.shows("p", MAIN, Some(&second)).await;

    let damaged = commit_damaged(&cluster, &second).await.to_string();
    for (node, strays) in cluster.nodes.iter().zip([0, 1]) {
        is_ready_and_degraded(node).await;
        measures(node, &format!("lockstep_strays {strays}")).await;
    }
    cluster.nodes[1].kill().await;
    cluster.nodes[1].start(None);
    cluster.ready().await;
    is_ready_and_degraded(&cluster.nodes[1]).await;
    for node in &cluster.nodes {
        let branch = format!("refs/heads/of-{}", node.site);
        let _ = ok(clone.push(&node.repository("p"), &[], &[&format!("{second}:{branch}")]).await);
        cluster.show("p", &branch, Some(&second)).await;
    }

    for node in &cluster.nodes {
        assert!(ok(node.cli(&["quarantine"]).await).contains(&damaged));
        let explained = node.cli(&["explain", "p", DAMAGED]).await;
        assert_eq!(explained.status.code(), Some(2), "{explained:?}");
        let said = text(&explained);
        assert!(said.contains(&format!(" lacks version 1: {}-0 holds {damaged} in quarantine", node.site)), "{said}");
        let discarded = node.cli(&["quarantine", "discard", &damaged, "--yes"]).await;
        assert_eq!(discarded.status.code(), Some(3), "{discarded:?}");
        refuses(discarded, "was committed at every site");
        let _ = ok(node.cli(&["quarantine", "accept", &damaged]).await);
        node.reports(|status| status.ready && (status.degraded_projects, status.quarantined) == (0, 0)).await;
        measures(node, "lockstep_degraded_projects 0").await;
        let shown = ok(node.cli(&["status"]).await);
        assert!(!shown.contains("not in order") && !shown.contains("degraded here"), "{shown}");
    }
    for node in &cluster.nodes {
        measures(node, "lockstep_held_elsewhere 0").await;
    }
    cluster.show("p", DAMAGED, Some(&second)).await;
    converged(&cluster, "p").await;
}
