//! `lockstep resync` and `lockstep replay` of real sidecars: a damaged repository is whole again, and a version that a
//! node's version map lacks comes back from the stream.

use std::path::{Path, PathBuf};

use lockstep::seams::volume::disk::DiskStore;
use lockstep::seams::volume::{Changes, NodeStore, RefRecord};
use lockstep_proto::replay::Replay;
use lockstep_proto::resync::Resync;
use lockstep_proto::{ProjectKey, RefKey, RefValue, Version};
use lockstep_tests::e2e::behind;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, git, ok, refuses, text};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::{converged, sound};

use crate::lockstep;

const MAIN: &str = "refs/heads/main";

/// Runs a command of an operator with a reason.
async fn operate(node: &Node, command: &str) -> std::process::Output {
    let words: Vec<&str> = command.split(' ').chain(["--reason", "a test"]).collect();
    node.cli(&words).await
}

/// The file of a loose object.
async fn loose(repository: &Path, object: &str) -> PathBuf {
    let oid = ok(git(repository, &["rev-parse", object]).await);
    repository.join("objects").join(&oid[..2]).join(&oid[2..])
}

async fn is_whole(repository: &Path) -> bool {
    git(repository, &["rev-list", "--objects", "--all", "--quiet"]).await.status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_project_is_whole_after_a_resync_and_its_stray_is_kept() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0", "b-1"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    for value in [&first, &second] {
        let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{value}:{MAIN}")]).await);
    }
    cluster.show("p", MAIN, Some(&second)).await;
    let b = &cluster.nodes[1];
    let repository = b.repository("p");

    // Objects are lost and garbled, and the refs look right.
    let (lost, garbled) = (loose(&repository, &format!("{second}:file")).await, loose(&repository, &first).await);
    std::fs::remove_file(lost).expect("a loose object");
    std::fs::remove_file(&garbled).expect("a loose object");
    std::fs::write(&garbled, b"\0\0\0\0").expect("a garbled object");
    assert!(!is_whole(&repository).await);
    let ended: Resync = serde_json::from_str(&ok(operate(b, "resync p --json").await)).expect("JSON");
    assert_eq!((ended.done, ended.failures, ended.refetched, ended.garbled, ended.refs_set), (1, 0, 1, 1, 0));
    assert!(ended.by.starts_with("uid ") && ended.request.reason == "a test", "{ended:?}");
    sound(&repository).await;

    // All objects are gone.
    std::fs::remove_dir_all(repository.join("objects")).expect("the objects");
    std::fs::create_dir_all(repository.join("objects/pack")).expect("a folder");
    let said = ok(operate(b, "resync --site").await);
    assert!(said.contains("objects of 1 came from peers") && said.contains("b-1: `lockstep resync --all`"), "{said}");
    sound(&repository).await;

    // A ref that something else has moved gives way, and its value is kept.
    let stray = behind::commit(&repository, Some(&first), "stray");
    behind::set(&repository, MAIN, Some(&stray));
    let said = ok(operate(b, &format!("resync p {MAIN} --from a")).await);
    assert!(said.contains("1 refs were set on the disk, 1 values are kept as strays"), "{said}");
    b.shows("p", MAIN, Some(&second)).await;
    assert!(ok(b.cli(&["stray", "list", "p"]).await).contains(&stray));

    let said = ok(operate(b, "resync --all").await);
    assert!(said.contains("objects of 0 came from peers, 0 garbled files were taken away, 0 refs"), "{said}");
    let _ = converged(&cluster, "p").await;

    let unknown = operate(b, "resync nowhere").await;
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");
    refuses(unknown, "the refdb has no project nowhere");
    refuses(operate(b, "resync p refs/cache-automerge/00/1").await, "is not replicated");
    refuses(operate(b, "resync p --from nobody").await, "no peer has this name");
    let usage = operate(b, "resync").await;
    assert_eq!(usage.status.code(), Some(64), "{usage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_changes_nothing_where_all_is_well_and_brings_back_what_the_version_map_lacks() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    let (project, key) =
        (ProjectKey::new(&"p".parse().expect("a name"), 1), RefKey::Ref(MAIN.parse().expect("a name")));
    let push =
        async |value: &str| ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{value}:{MAIN}")]).await);
    let _ = push(&first).await;
    let item = cluster.refdb.refs.read(&project, std::slice::from_ref(&key)).await.expect("the refdb answers");
    let item = item.into_iter().flatten().next().expect("the ref");
    let _ = push(&second).await;
    cluster.show("p", MAIN, Some(&second)).await;

    let b = &mut cluster.nodes[1];
    let well = operate(b, "replay --from 1h").await;
    assert!(ok(well).contains(" records were read: 0 transactions were not applied, 0 of them are now"));
    let noted = ok(operate(b, "replay --from 30d --dry-run").await);
    assert!(noted.contains("the stream of site a keeps records for 24 hours"), "{noted}");

    // The version map and the disk go back by one version, as if a write had been lost.
    let _ = b.stop().await;
    let value: RefValue = RefValue::Oid(first.parse().expect("an id"));
    let record = RefRecord { version: Version(1), value, txn: item.txn.expect("a transaction") };
    let refs = vec![(project, key, record)];
    let store = DiskStore::open(&b.root.join(".lockstep/node.redb")).expect("the store of a node that is down");
    store.commit(Changes { refs, ..Changes::default() }).await.expect("committed");
    drop(store);
    std::fs::write(b.repository("p").join(MAIN), format!("{first}\n")).expect("a write");
    b.start(None);
    b.ready().await;
    let dry = operate(b, "replay --from 1h --dry-run").await;
    assert_eq!(dry.status.code(), Some(2), "{dry:?}");
    assert!(text(&dry).contains(": 1 transactions would change something"), "{}", text(&dry));
    b.shows("p", MAIN, Some(&first)).await;
    let ended: Replay = serde_json::from_str(&ok(operate(b, "replay --from 1h --json").await)).expect("JSON");
    assert_eq!((ended.total(|one| one.changing), ended.total(|one| one.brought)), (1, 1), "{ended:?}");
    b.shows("p", MAIN, Some(&second)).await;
    let _ = converged(&cluster, "p").await;

    let b = &cluster.nodes[1];
    let alone = operate(b, "replay --from 4959033827").await;
    assert_eq!(alone.status.code(), Some(64), "{alone:?}");
    refuses(operate(b, "replay --from oldest --stream nowhere").await, "the list of sites has no such site");
}
