//! Signed records: real sidecars whose records must be signed, somebody else who writes into their streams, and keys
//! that are replaced while users push.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use lockstep::seams::eventlog::kinesis::{KinesisEventLog, KinesisSettings, client};
use lockstep::seams::eventlog::{EventLog, Record};
use lockstep_proto::keys::SigningStatus;
use lockstep_proto::{Command, ProjectKey, RefKey, RefValue, SiteId, Transaction};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::documented_in;
use lockstep_tests::e2e::git::{Clone, fails, ok};
use lockstep_tests::e2e::load::Load;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";

/// Makes a key, and returns its file and its name.
async fn new_key(cluster: &Cluster, name: &str) -> (PathBuf, String) {
    let path = cluster.scratch(name);
    let text = path.to_str().unwrap().to_owned();
    let made = ok(cluster.nodes[0].cli(&["keys", "generate", "--out", &text]).await);
    let again = cluster.nodes[0].cli(&["keys", "generate", "--out", &text]).await;
    assert!(fails(again).contains("is not replaced"));
    (path, made.trim().strip_prefix("key ").unwrap().to_owned())
}

async fn restart(node: &mut Node) {
    assert!(node.stop().await.success());
    node.start(None);
    node.ready().await;
}

pub async fn signing(node: &Node) -> SigningStatus {
    serde_json::from_str(&ok(node.cli(&["signing", "status", "--json"]).await)).expect("JSON")
}

/// Waits until a change is taken. Digests of nodes, or a collection, may have to come first.
async fn changes(node: &Node, args: &[&str]) {
    let taken = async || node.cli(args).await.status.success().then_some(());
    assert!(until(taken).await.is_some(), "{}", fails(node.cli(args).await));
}

/// Somebody who can write to the streams.
pub async fn forger(cluster: &Cluster) -> KinesisEventLog {
    let settings = cluster.kinesis.client_settings();
    KinesisEventLog::new(client(&settings).await, "e2e", KinesisSettings::default())
}

pub async fn write(log: &KinesisEventLog, site: &SiteId, data: &Bytes) {
    let taken = async || {
        let record = Record { partition_key: "p".to_owned(), data: data.clone() };
        let answers = log.append(site, &[record]).await.ok()?;
        answers.into_iter().all(|answer| answer.is_ok()).then_some(())
    };
    assert!(until(taken).await.is_some(), "the forged record was not taken");
}

/// The next step of a branch, which fits in every detail. Nobody has committed it.
async fn next_step(cluster: &Cluster, site: &SiteId, to: &str) -> Transaction {
    let key = RefKey::Ref(MAIN.parse().unwrap());
    let project = ProjectKey::new(&"p".parse().unwrap(), 1);
    let items = cluster.refdb.refs.read(&project, std::slice::from_ref(&key)).await.unwrap();
    let item = items.into_iter().flatten().next().expect("the branch");
    let command = Command {
        key,
        old: item.value,
        new: RefValue::Oid(to.parse().unwrap()),
        version: item.version.next(),
        predecessor: item.txn,
    };
    let id = "nobody.1.0.7.00000000000000aa".parse().unwrap();
    Transaction { commands: vec![command], ..Transaction::empty(id, site.clone(), project) }
}

/// Gives each node the key of its site, and requires signatures once every node has told that it signs.
pub async fn requires(cluster: &mut Cluster) -> Vec<String> {
    let mut names = Vec::new();
    for at in 0..cluster.nodes.len() {
        let (file, name) = new_key(cluster, &format!("key-{at}")).await;
        cluster.nodes[at].add_settings(&format!("[signing]\nkey_file = {file:?}\n"));
        restart(&mut cluster.nodes[at]).await;
        names.push(name);
    }
    changes(&cluster.nodes[0], &["signing", "require", "--reason", "shared streams"]).await;
    for node in &cluster.nodes {
        node.reports(|status| status.signing.as_ref().is_some_and(|signing| signing.required)).await;
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_record_in_a_stream_is_applied_nowhere_and_keys_are_replaced_under_load() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let refused = cluster.nodes[0].cli(&["signing", "require", "--reason", "too early"]).await;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(fails(refused).contains("a-0, b-0"));
    let keys = requires(&mut cluster).await;
    let node = &cluster.nodes[0];
    documented_in("security.md", "lockstep signing status", &node.cli(&["signing", "status"]).await);
    documented_in("security.md", "lockstep keys list", &node.cli(&["keys", "list"]).await);
    let (clone, a) = (Clone::new(&cluster.scratch("clone")), cluster.nodes[0].repository("p"));
    let (one, two) = (clone.commit(None, "one"), clone.commit(None, "two"));
    for (commit, name) in [(&one, MAIN), (&two, "refs/heads/other")] {
        let taken = async || clone.push(&a, &[], &[&format!("{commit}:{name}")]).await.status.success().then_some(());
        assert!(until(taken).await.is_some(), "{}", cluster.nodes[0].log_tail());
        cluster.show("p", name, Some(commit)).await;
    }
    let (log, site) = (forger(&cluster).await, "a".parse::<SiteId>().unwrap());
    let forged = next_step(&cluster, &site, &two).await;
    write(&log, &site, &forged.encode()).await;
    for node in &cluster.nodes {
        let kept = async || {
            let quarantine = ok(node.cli(&["quarantine"]).await);
            (quarantine.contains("nobody.1.0.7") && quarantine.contains("not signed")).then_some(())
        };
        assert!(until(kept).await.is_some(), "{}", node.log_tail());
        let counted = |signing: &lockstep_proto::keys::NodeSigning| {
            signing.unsigned.get("forged").is_some_and(|count| *count == 1)
        };
        node.reports(|status| status.signing.as_ref().is_some_and(counted)).await;
    }
    cluster.show("p", MAIN, Some(&one)).await;

    // A new key for site a, while users push at both sites.
    let load = Load::start(&cluster, "p", &[0, 1], 2, 34);
    let (file, new) = new_key(&cluster, "key-new").await;
    std::fs::copy(&file, cluster.scratch("key-0")).unwrap();
    restart(&mut cluster.nodes[0]).await;
    changes(&cluster.nodes[1], &["keys", "retire", &keys[0], "--reason", "rotation"]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let ledger = load.stop().await;
    assert!(ledger.0.iter().any(|entry| entry.answer == lockstep_tests::e2e::load::Answer::Committed));
    for node in &cluster.nodes {
        let _ = ok(node.cli(&["quarantine", "drop", &forged.id.to_string()]).await);
    }
    // Nothing else is in quarantine at any node.
    let _ = converged(&cluster, "p").await;
    let status = signing(&cluster.nodes[1]).await;
    let state = |key: &str| status.keys.iter().find(|one| one.id.to_string() == key).map(|one| one.state.name());
    assert_eq!([state(&keys[0]), state(&keys[1]), state(&new)], [Some("retired"), Some("valid"), Some("valid")]);
    // Without its key a node commits nothing and says why. When nobody must sign, it does.
    std::fs::set_permissions(cluster.scratch("key-0"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(cluster.nodes[0].stop().await.success());
    cluster.nodes[0].start(None);
    assert!(!cluster.nodes[0].end().await.success());
    assert!(cluster.nodes[0].log_tail().contains("chmod 0600"), "{}", cluster.nodes[0].log_tail());
    std::fs::set_permissions(cluster.scratch("key-0"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    cluster.nodes[0].start(None);
    cluster.nodes[0].ready().await;
    changes(&cluster.nodes[1], &["signing", "release", "--reason", "test"]).await;
    let three = clone.commit(Some(&one), "three");
    let taken = async || clone.push(&a, &[], &[&format!("{three}:{MAIN}")]).await.status.success().then_some(());
    assert!(until(taken).await.is_some(), "{}", cluster.nodes[0].log_tail());
    cluster.show("p", MAIN, Some(&three)).await;
}
