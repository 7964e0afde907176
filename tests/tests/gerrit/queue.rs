//! The bridge's background tasks as an administrator sees them: listed by `show-queue`, and started again after a kill.

use std::collections::BTreeMap;

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::stream::Key;
use lockstep_tests::e2e::git::ok;

use crate::lockstep;

/// The loops of the bridge.
const LOOPS: [&str; 6] = [
    "complete project deletions",
    "fetch refresh tasks",
    "receive stream events",
    "report refresh tasks",
    "resolve updates in doubt",
    "send stream events",
];

/// The loops in `show-queue` at a site, with the ids of their tasks.
async fn shown(key: &Key, server: &Server) -> BTreeMap<String, String> {
    let shown = ok(key.run(server, &["gerrit", "show-queue", "-w"]).await);
    let mut loops = BTreeMap::new();
    for line in shown.lines() {
        let (Some((id, _)), Some((_, name))) = (line.split_once(' '), line.split_once("lockstep: ")) else { continue };
        if LOOPS.contains(&name) {
            assert_eq!(loops.insert(name.to_owned(), id.to_owned()), None, "one task per loop: {shown}");
        }
    }
    loops
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn background_tasks_are_shown_and_start_again_when_they_are_killed() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    let key = Key::give(a, &sites.cluster.scratch("key")).await;
    let listeners = sites.listeners(&key).await;
    a.create("p").await;
    let user = sites.user(0, "p").await;
    for server in [a, b] {
        let before = shown(&key, server).await;
        assert_eq!(before.keys().map(String::as_str).collect::<Vec<_>>(), LOOPS);
        for id in before.values() {
            let _ = ok(key.run(server, &["kill", id]).await);
        }
        let started_again = async || {
            let now = shown(&key, server).await;
            now.len() == LOOPS.len() && now.iter().all(|(name, id)| before[name] != *id)
        };
        server.shows("new tasks", started_again).await;
    }
    let _ = user.commit("file", "one\n", "First").await;
    assert_eq!(user.review("master").await, [1]);
    for (server, listener) in sites.servers.iter().zip(&listeners) {
        let _ = listener.hears("the change", |event| event["type"] == "patchset-created").await;
        server.finds("change:1", &[1]).await;
        listener.was_told_well();
    }
    let _ = in_lockstep(&sites, "p").await;
}
