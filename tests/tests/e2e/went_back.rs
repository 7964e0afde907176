//! A refdb that is restored from a backup: the sidecar refuses every push at once and says why, until a newer one is
//! back.

use std::path::Path;
use std::time::Duration;

use lockstep_proto::status::NodeStatus;
use lockstep_tests::e2e::git::{Clone, fails, ok};
use lockstep_tests::e2e::node::{Node, Place};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::wire::Wire;
use tokio::time::Instant;

use crate::life::get;
use crate::lockstep;

const MAIN: &str = "refs/heads/main";
/// The time after which a push is given up, if nothing tells its outcome before. No busy machine takes as long for one.
const DEADLINE: Duration = Duration::from_secs(120);

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).unwrap();
        }
    }
}

/// A single node with the emulators in `aws`, below `folder`.
async fn node(folder: &Path) -> Node {
    let nowhere = async || Wire::to("http://127.0.0.1:9").await;
    let blobs = folder.join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let (home, sites) = (folder.join("a-0"), ["a".to_owned()]);
    let root = home.join("git");
    let place = Place {
        site: "a",
        name: "a-0",
        sites: &sites,
        peers: &[],
        home,
        root,
        kinesis: "http://127.0.0.1:9",
        blobs: &blobs,
    };
    let node = Node::new(lockstep(), &place, nowhere().await, nowhere().await);
    node.set_embedded(&folder.join("aws"));
    node.set_commit_deadline(DEADLINE);
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_stops_every_push_at_once_until_a_newer_one_is_back() {
    let folder = tempfile::Builder::new().prefix("lockstep-e2e-").tempdir().unwrap();
    let (aws, old, new) = (folder.path().join("aws"), folder.path().join("old"), folder.path().join("new"));
    let mut node = node(folder.path()).await;
    node.start(None);
    node.ready().await;
    let _ = ok(node.cli(&["project", "create", "p"]).await);
    let (clone, repository) = (Clone::new(&folder.path().join("clone")), node.repository("p"));
    let one = clone.commit(None, "one");
    let _ = ok(clone.push(&repository, &[], &[&format!("{one}:{MAIN}")]).await);
    node.stop().await;
    copy(&aws, &old);
    node.start(None);
    node.ready().await;
    let two = clone.commit(Some(&one), "two");
    let _ = ok(clone.push(&repository, &[], &[&format!("{two}:{MAIN}")]).await);
    node.stop().await;
    std::fs::rename(&aws, &new).unwrap();
    copy(&old, &aws);

    node.start(None);
    let says = until(async || node.status().await?.refdb_went_back).await;
    assert!(says.as_ref().is_some_and(|why| why.contains("incarnation 2")), "{says:?}\n{}", node.log_tail());
    let is_told = |status: &NodeStatus| status.last_errors.iter().any(|error| error.stage == "refdb-went-back");
    node.reports(is_told).await;
    let status = node.status().await.unwrap();
    assert!(!status.ready && status.incarnation.is_none(), "{status:?}");
    let readyz = async || get(node.health, "/readyz").await;
    let names_it = |text: &str| text.starts_with("HTTP/1.1 503") && text.contains("waiting for: refdb-current");
    assert!(until(async || names_it(&readyz().await).then_some(())).await.is_some(), "{}", readyz().await);
    assert!(get(node.health, "/metrics").await.lines().any(|line| line.starts_with("lockstep_refdb_went_back 1")));
    assert!(ok(node.cli(&["status"]).await).contains("THE REFDB WENT BACK IN TIME"));
    let three = clone.commit(Some(&two), "three");
    let asked = Instant::now();
    let said = fails(clone.push(&repository, &[], &[&format!("{three}:{MAIN}")]).await);
    assert!(asked.elapsed() < DEADLINE, "a push waits {:?}", asked.elapsed());
    assert!(said.contains("went back in time") && said.contains("restored a newer backup"), "{said}");
    node.shows("p", MAIN, Some(&two)).await;

    node.stop().await;
    std::fs::remove_dir_all(&aws).unwrap();
    std::fs::rename(&new, &aws).unwrap();
    node.start(None);
    node.ready().await;
    let _ = ok(clone.push(&repository, &[], &[&format!("{three}:{MAIN}")]).await);
    node.shows("p", MAIN, Some(&three)).await;
}
