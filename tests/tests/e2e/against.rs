//! `lockstep verify --against` of real sidecars: two sites compare their refs with each other. Every kind of difference
//! is planted once. The refdb is asked for the refs that differ alone.

use std::path::PathBuf;

use lockstep::seams::volume::disk::DiskStore;
use lockstep::seams::volume::{Changes, NodeStore, RefRecord};
use lockstep_proto::verify::{Mismatch, Right, Verification};
use lockstep_proto::{ProjectKey, RefKey, RefValue, Version};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, ok};
use lockstep_tests::e2e::load::Load;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";

/// The result of `verify` with these options, and the exit code.
async fn verify(node: &Node, options: &[&str]) -> (Verification, Option<i32>) {
    let output = node.cli(&[&["verify", "--json"], options].concat()).await;
    let found = serde_json::from_slice(&output.stdout);
    (found.unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", node.log_tail())), output.status.code())
}

/// Two sites with two projects, each with a branch that both sites show.
async fn two_sites() -> (Cluster, Clone, [String; 2]) {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    for project in ["p", "q"] {
        cluster.create(project).await;
        for value in [&first, &second] {
            let pushed = clone.push(&cluster.nodes[0].repository(project), &[], &[&format!("{value}:{MAIN}")]).await;
            let _ = ok(pushed);
        }
        cluster.show(project, MAIN, Some(&second)).await;
    }
    (cluster, clone, [first, second])
}

/// The store of a node that is down.
fn store(node: &Node) -> DiskStore {
    let path: PathBuf = node.root.join(".lockstep/node.redb");
    DiskStore::open(&path).expect("the store of a node that is down")
}

fn sides(found: &Verification) -> Vec<(&str, &str, Right)> {
    let mut sides: Vec<_> =
        found.found.iter().map(|one| (one.project.as_str(), one.name.as_str(), one.right)).collect();
    sides.sort_by_key(|(project, name, _)| (*project, *name));
    sides
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_sites_are_compared_by_digests_and_a_disk_that_differs_is_found_from_both_sides() {
    let (mut cluster, _, [first, second]) = two_sites().await;
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    for (node, against) in [(a, "b-0"), (a, "b"), (b, "all")] {
        let (found, code) = verify(node, &["--against", against]).await;
        let [peer] = &found.peers[..] else { panic!("{found:?}") };
        assert_eq!((peer.projects, peer.by_digest, found.mismatches, code), (2, 2, 0, Some(0)), "{found:?}");
        assert!(found.refs >= 2 && found.estimate.read_units == 0, "{found:?}");
    }
    // The refdb is not needed while nothing differs.
    a.wire.cut();
    assert_eq!(verify(a, &["--against", "b"]).await.1, Some(0));
    a.wire.mend();

    let path = b.repository("p").join(MAIN);
    std::fs::write(&path, format!("{first}\n")).expect("a write");
    for (node, against, right) in [(a, "b", Right::ThisNode), (b, "a", Right::Peer)] {
        let (found, code) = verify(node, &["--against", against]).await;
        assert_eq!((sides(&found), code), (vec![("p#1", MAIN, right)], Some(2)), "{found:?}");
        let Mismatch { disk, disk_there, why, .. } = &found.found[0];
        let (wrong, good) = if right == Right::Peer { (disk, disk_there) } else { (disk_there, disk) };
        assert_eq!((wrong.as_deref(), good.as_deref()), (Some(first.as_str()), Some(second.as_str())));
        assert!(why.contains("shows another value"), "{why}");
        assert_eq!(verify(node, &["--against", against, "--maps-only"]).await.1, Some(0), "the maps are equal");
    }
    let text = String::from_utf8(a.cli(&["verify", "--against", "b", "p"]).await.stdout).expect("text");
    assert!(text.contains("  b-0 (site b): 1 project, 0 by digest alone: 1 DIFFER\nDIFFERENT\n"), "{text}");
    std::fs::write(&path, format!("{second}\n")).expect("a write");

    // A restart forgets neither the result of the peer nor that of the refdb.
    let _ = ok(a.cli(&["verify"]).await);
    let _ = ok(a.cli(&["verify", "--against", "b"]).await);
    let node = &mut cluster.nodes[0];
    let _ = node.stop().await;
    node.start(None);
    node.ready().await;
    let status = ok(node.cli(&["status"]).await);
    for against in ["refdb", "b-0"] {
        assert!(status.contains(&format!("verified against {against}: all projects, equal (")), "{status}");
    }
    let (again, _) = verify(node, &["--against", "b"]).await;
    assert!(again.number > 3, "numbers go on: {}", again.number);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_changed_or_added_are_found_and_lost_ones_are_brought_back() {
    let (mut cluster, _, [_, second]) = two_sites().await;
    let _ = cluster.nodes[1].stop().await;
    let (p, q): (ProjectKey, ProjectKey) = ("p#1".parse().expect("a key"), "q#1".parse().expect("a key"));
    let key = |name: &str| RefKey::Ref(name.parse().expect("a name"));
    {
        let store = store(&cluster.nodes[1]);
        let known = store.reference(&p, &key(MAIN)).expect("a read").expect("a record");
        let other = RefRecord { txn: "x-0.9.0.1.00000000000000aa".parse().expect("an id"), ..known };
        let value = RefValue::Oid(second.parse().expect("an id"));
        let extra = RefRecord { version: Version(1), value, txn: other.txn.clone() };
        let refs = vec![(p.clone(), key(MAIN), other), (p.clone(), key("refs/heads/extra"), extra)];
        // All refs of q are lost from the version map. They come back from the refdb, at the latest when the sites are
        // compared.
        store.commit(Changes { refs, forget_projects: vec![q], ..Changes::default() }).await.expect("a write");
    }
    let node = &mut cluster.nodes[1];
    node.start(None);
    node.ready().await;
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    let (found, code) = verify(a, &["--against", "b"]).await;
    assert_eq!(code, Some(2), "{found:?}");
    let expected = vec![("p#1", "refs/heads/extra", Right::Peer), ("p#1", MAIN, Right::ThisNode)];
    assert_eq!(sides(&found), expected, "{found:?}");
    let changed = found.found.iter().find(|one| one.name == MAIN).expect("the changed one");
    assert!(changed.why.contains("b-0 has another transaction for version"), "{changed:?}");
    let (found, code) = verify(b, &["--against", "a", "q"]).await;
    assert_eq!((found.mismatches, code), (0, Some(0)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_gone_is_named_until_it_is_restored() {
    let (cluster, _, _) = two_sites().await;
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    std::fs::remove_dir_all(b.repository("q")).expect("a repository");
    let (found, code) = verify(a, &["--against", "b", "q"]).await;
    assert!(code != Some(0) || b.repository("q").exists(), "{found:?}");
    let equal = until(async || (verify(a, &["--against", "b", "q"]).await.1 == Some(0)).then_some(())).await;
    assert!(equal.is_some(), "{}", b.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_that_are_on_their_way_between_sites_are_no_mismatches() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    let load = Load::start(&cluster, "p", &[0, 1, 2], 3, 5);
    for _ in 0..3 {
        for node in &cluster.nodes {
            let (found, code) = verify(node, &["--against", "all"]).await;
            assert_eq!((found.mismatches, code), (0, Some(0)), "{found:?}");
        }
    }
    // A site that reads no stream catches up when it is asked to.
    cluster.nodes[1].streams.cut();
    let (found, code) = verify(&cluster.nodes[0], &["--against", "b"]).await;
    assert_eq!((found.mismatches, code), (0, Some(0)), "{found:?}");
    cluster.nodes[1].streams.mend();
    let _ = load.stop().await;
}

/// A sidecar of a release that has no digests: it says who it is, and knows no other route.
async fn earlier_release(socket: PathBuf) {
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("the socket of a node that is down");
    loop {
        let (mut stream, _) = listener.accept().await.expect("a caller");
        let mut head = [0; 4096];
        let length = stream.read(&mut head).await.unwrap_or(0);
        let is_introduction = head[..length].starts_with(b"GET /v1/peer ");
        let (status, body) = if is_introduction {
            ("200 OK", r#"{"site":"b","node":"b-0","version":"0.0.9","role":"active","epoch":1,"ready":true}"#)
        } else {
            ("404 Not Found", r#"{"code":"invalid","retry":false,"message":"there is no route POST /v1/peer/digests"}"#)
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_away_or_of_an_earlier_release_or_unknown_is_named_and_never_equal() {
    let (mut cluster, _, _) = two_sites().await;
    let _ = cluster.nodes[1].stop().await;
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    for against in ["b-0", "b", "all"] {
        let (found, code) = verify(a, &["--against", against]).await;
        assert_eq!((found.failures, found.peers.len(), code), (1, 0, Some(1)), "{found:?}");
        assert_eq!(found.failed[0].project, "peer b-0");
    }
    let earlier = tokio::spawn(earlier_release(b.socket()));
    let named = until(async || {
        let (found, code) = verify(a, &["--against", "b"]).await;
        let why = &found.failed.first()?.why;
        (code == Some(1) && why.contains("no route POST /v1/peer/digests") && why.contains("upgrade it")).then_some(())
    });
    assert!(named.await.is_some(), "{:?}", a.cli(&["verify", "--against", "b"]).await);
    earlier.abort();
    let unknown = fails(a.cli(&["verify", "--against", "nowhere"]).await);
    assert!(unknown.contains("could not be compared"), "{unknown}");
    assert!(fails(a.cli(&["verify", "--maps-only"]).await).contains("--against"));
}
