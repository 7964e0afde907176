//! Locks of operators and maintenance, by the command line, with real git.

use std::path::Path;

use lockstep_proto::locks::{Acquired, LockList};
use lockstep_proto::overview::Overview;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, git, ok, refuses};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;

use crate::lockstep;

const SITES: [&str; 3] = ["a-0", "b-0", "c-0"];
const MAIN: &str = "refs/heads/main";

async fn list(node: &Node) -> LockList {
    read(node, &["lock", "list", "--json"]).await
}

/// The list that a command prints as JSON.
async fn read(node: &Node, command: &[&str]) -> LockList {
    serde_json::from_str(&ok(node.cli(command).await)).expect("JSON")
}

/// Pushes until nothing refuses it any more.
async fn pushed(clone: &Clone, to: &Path, refspec: &str) {
    let done = async || clone.push(to, &[], &[refspec]).await.status.success().then_some(());
    until(done).await.expect("it is pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_lets_its_holder_in_and_keeps_everybody_else_out_at_every_site() {
    let cluster = Cluster::start(lockstep(), &SITES).await;
    cluster.create("tools/build").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let (here, there) = (a.repository("tools/build"), b.repository("tools/build"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&here, &[], &[&format!("{first}:{MAIN}")]).await);
    b.shows("tools/build", MAIN, Some(&first)).await;
    let acquire = ["lock", "acquire", "tools/build", "--owner", "alice", "--reason", "repack", "--json"];
    let lock: Acquired = serde_json::from_str(&ok(a.cli(&acquire).await)).expect("JSON");
    assert!(lock.held && lock.waits_for.is_empty(), "{lock:?}");

    let next = clone.commit(Some(&first), "two");
    let refspec = format!("{next}:{MAIN}");
    let told = "project tools/build is locked by alice until released (reason: repack)";
    for repository in [&here, &there, &cluster.nodes[2].repository("tools/build")] {
        refuses(clone.push(repository, &[], &[&refspec]).await, told);
    }
    refuses(b.cli(&["project", "delete", "tools/build", "--yes"]).await, told);
    let second = b.cli(&["lock", "acquire", "tools/build", "--owner", "bob", "--reason", "move"]).await;
    assert_eq!(second.status.code(), Some(3));
    refuses(second, "project tools/build is locked by alice");
    // The holder pushes at another site, by a push option, and moves a ref with the command.
    let _ = ok(git(&there, &["config", "receive.advertisePushOptions", "true"]).await);
    let option = format!("lockstep-lock={}", lock.token);
    let _ = ok(clone.push(&there, &["-o", &option], &[&refspec]).await);
    a.shows("tools/build", MAIN, Some(&next)).await;
    let update = ["update-ref", "--project", "tools/build", "refs/heads/copy", &next, "--lock", &lock.token];
    let _ = ok(a.cli(&update).await);
    refuses(a.cli(&update[..5]).await, told);

    let shown = list(b).await;
    assert!(shown.locks.len() == 1 && shown.locks[0].owner == "alice" && shown.locks[0].held, "{shown:?}");
    assert!(!ok(b.cli(&["lock", "list"]).await).contains(&lock.token), "tokens are shown to nobody");
    let status = b.status().await.expect("it answers");
    assert_eq!(status.locks, shown.locks);
    let overview: Overview = serde_json::from_str(&ok(b.cli(&["status", "--all", "--json"]).await)).expect("JSON");
    assert_eq!(overview.locks, shown.locks);
    let renew = ["lock", "renew", "tools/build", "--token", &lock.token, "--ttl", "600", "--json"];
    assert_eq!(read(b, &renew).await.locks[0].ttl_ms, Some(600_000));
    assert_eq!(list(a).await.locks[0].ttl_ms, Some(600_000));

    // The lock is broken, and somebody else acquires one: the first holder is out.
    let broken = read(b, &["lock", "break", "tools/build", "--reason", "alice is away", "--json"]).await;
    assert!(broken.locks.is_empty(), "{broken:?}");
    let acquire = ["lock", "acquire", "tools/build", "--owner", "bob", "--reason", "move", "--json"];
    let other: Acquired = serde_json::from_str(&ok(b.cli(&acquire).await)).expect("JSON");
    assert!(other.held && other.lock.id > lock.lock.id);
    let third = clone.commit(Some(&next), "three");
    let refspec = format!("{third}:{MAIN}");
    refuses(clone.push(&there, &["-o", &option], &[&refspec]).await, "is not held any more");
    let _ = fails(a.cli(&["lock", "renew", "tools/build", "--token", &lock.token]).await);
    refuses(a.cli(&["lock", "release", "tools/build", "--token", &lock.token]).await, "with another token");
    let option = format!("lockstep-lock={}", other.token);
    let _ = ok(clone.push(&there, &["-o", &option], &[&refspec]).await);
    let release = ["lock", "release", "tools/build", "--token", &other.token, "--json"];
    assert!(read(a, &release).await.locks.is_empty());
    assert!(list(a).await.locks.is_empty());
    pushed(&clone, &here, &format!("{third}:refs/heads/free")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_ref_is_out_of_a_push_and_the_other_refs_go_on() {
    let cluster = Cluster::start(lockstep(), &SITES[..2]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let _ = ok(a.cli(&["lock", "acquire", "p", MAIN, "--owner", "ci", "--reason", "release"]).await);
    let first = clone.commit(None, "one");
    let both = [format!("{first}:{MAIN}"), format!("{first}:refs/heads/other")];
    let both: Vec<&str> = both.iter().map(String::as_str).collect();
    let told = "refs/heads/main of project p is locked by ci until released (reason: release)";
    refuses(clone.push(&b.repository("p"), &["--atomic"], &both).await, told);
    b.shows("p", "refs/heads/other", None).await;
    refuses(clone.push(&b.repository("p"), &[], &both).await, told);
    cluster.show("p", "refs/heads/other", Some(&first)).await;
    cluster.show("p", MAIN, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_refuses_writes_with_its_reason_and_survives_restarts() {
    let mut cluster = Cluster::start(lockstep(), &SITES).await;
    cluster.create("p").await;
    cluster.create("q").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let branch = |name: &str| format!("{first}:refs/heads/{name}");
    for project in ["p", "q"] {
        let _ = ok(clone.push(&cluster.nodes[0].repository(project), &[], &[&branch("main")]).await);
        cluster.show(project, MAIN, Some(&first)).await;
    }
    let on = ["maintenance", "on", "--project", "p", "--reason", "new disks", "--json"];
    let begun: Acquired = serde_json::from_str(&ok(cluster.nodes[0].cli(&on).await)).expect("JSON");
    assert!(begun.held, "{begun:?}");
    let on = ["maintenance", "on", "--site", "b", "--reason", "new switches", "--until", "2100-01-01T00:00:00Z"];
    refuses(cluster.nodes[0].cli(&on).await, "milliseconds, or leave it out");
    let until_soon = ["maintenance", "on", "--site", "b", "--reason", "new switches"];
    let _ = ok(cluster.nodes[0].cli(&until_soon).await);
    cluster.nodes[1].kill().await;
    cluster.nodes[1].start(None);
    cluster.nodes[1].ready().await;
    let (a, b, c) = (&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]);
    let of_project = "project p is in maintenance (by ";
    for node in [a, c] {
        refuses(clone.push(&node.repository("p"), &[], &[&branch("x")]).await, of_project);
    }
    let refused = fails(clone.push(&b.repository("q"), &[], &[&branch("x")]).await);
    assert!(refused.contains("site b is in maintenance (by ") && refused.contains("reason: new switches"), "{refused}");
    // Reads go on, and so do writes of other projects at other sites; the site in maintenance follows.
    let fetch = Clone::new(&cluster.scratch("fetch"));
    let _ = ok(fetch.fetch(&b.repository("q")).await);
    let _ = ok(clone.push(&a.repository("q"), &[], &[&branch("y")]).await);
    b.shows("q", "refs/heads/y", Some(&first)).await;
    let text = ok(c.cli(&["maintenance", "list"]).await);
    assert!(text.contains("project p") && text.contains("site b") && text.contains("new switches"), "{text}");
    let wrong = c.cli(&["lock", "break", "p", "--reason", "no lock"]).await;
    refuses(wrong, "project p has no lock of the kind lock");
    assert_eq!(read(c, &["maintenance", "list", "--json"]).await.locks.len(), 2);
    let left = read(c, &["maintenance", "off", "--project", "p", "--reason", "done", "--json"]).await;
    assert!(left.locks.len() == 1 && left.locks[0].reason == "new switches", "{left:?}");
    let _ = ok(c.cli(&["maintenance", "off", "--site", "b", "--reason", "done"]).await);
    assert_eq!(ok(a.cli(&["maintenance", "list"]).await), "none");
    pushed(&clone, &b.repository("p"), &branch("x")).await;
    cluster.show("p", "refs/heads/x", Some(&first)).await;
}
