//! A Gerrit or a sidecar dies at any moment, and repositories are collected. In the end each index matches the refs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::Answer;
use lockstep_tests::e2e::upkeep::Upkeep;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_committed_change_is_found_after_a_gerrit_or_a_sidecar_died() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    sites.servers[0].create("p").await;
    let user = sites.user(0, "p").await;
    for n in 0..6 {
        user.at("master").await;
        let _ = user.commit("file", &format!("{n}\n"), &format!("change {n}")).await;
        assert_eq!(user.review("master").await.len(), 1);
    }
    in_lockstep(&sites, "p").await;
    let upkeep = Upkeep::of(sites.cluster.nodes.iter().map(|node| node.repository("p")).collect());

    // The site that writes: its Gerrit dies while users vote, each time at another point between commit, index and
    // answer. The index entries of its last minutes die with it, because Lucene writes them later.
    for (round, pause) in [40, 350, 777].into_iter().enumerate() {
        let votes = async {
            for n in (1..=6).cycle() {
                let vote =
                    json!({"labels": {"Code-Review": 1 - i32::try_from(round % 3).expect("small")}, "message": "m"});
                let path = format!("/changes/p~{n}/revisions/current/review");
                let _: Answer = sites.servers[0].rest("POST", &path, &vote).await;
            }
        };
        assert!(timeout(Duration::from_millis(pause), votes).await.is_err(), "the votes must not end before the crash");
        sites.servers[0].kill().await;
        sites.servers[0].run().await;
        in_lockstep(&sites, "p").await;
    }

    // The other site: its Gerrit dies while it refreshes, and its sidecar too.
    let commented = async |sites: &Sites, text: &str| {
        for n in 1..=6 {
            let path = format!("/changes/p~{n}/revisions/current/review");
            let _ = sites.servers[0].rest("POST", &path, &json!({"message": text})).await.json();
        }
    };
    commented(&sites, "b dies").await;
    sites.servers[1].kill().await;
    commented(&sites, "b is dead").await;
    sites.servers[1].run().await;
    in_lockstep(&sites, "p").await;
    commented(&sites, "b's sidecar dies").await;
    sites.cluster.nodes[1].kill().await;
    commented(&sites, "b's sidecar is dead").await;
    sites.cluster.nodes[1].start(None);
    sites.cluster.ready().await;
    in_lockstep(&sites, "p").await;

    // The site is cut off for a while: its Gerrit refuses writes, and the other one continues. Then both become equal.
    sites.cluster.nodes[1].wire.cut();
    commented(&sites, "b is cut off").await;
    let path = "/changes/p~1/revisions/current/review";
    let refused = sites.servers[1].rest("POST", path, &json!({"message": "no"})).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    sites.cluster.nodes[1].wire.mend();
    sleep(Duration::from_secs(1)).await;
    drop(upkeep);
    for server in &sites.servers {
        let collected = server.rest("POST", "/projects/p/gc", &json!({})).await;
        assert_eq!(collected.status, 200, "{collected:?}");
    }
    in_lockstep(&sites, "p").await;
    let messages = sites.servers[1].read("/changes/p~1/messages").await;
    let said: Vec<&str> = messages.as_array().into_iter().flatten().filter_map(|one| one["message"].as_str()).collect();
    for text in ["b dies", "b is dead", "b's sidecar dies", "b's sidecar is dead", "b is cut off"] {
        let times = said.iter().filter(|message| message.ends_with(text)).count();
        assert_eq!(times, 1, "{text}: {said:?}");
    }
}

/// A Gerrit writes the parts of its index for open and for closed changes at different times. If it dies in between, a
/// change that was just closed has a document in both.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_change_that_a_crash_left_in_both_parts_of_the_index_is_found_once() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    sites.servers[0].create("p").await;
    let user = sites.user(0, "p").await;
    user.at("master").await;
    let _ = user.commit("file", "text\n", "a change").await;
    assert_eq!(user.review("master").await, [1]);
    in_lockstep(&sites, "p").await;

    let server = &mut sites.servers[0];
    server.stop().await;
    let (open, kept) = (server.index("changes").join("open"), sites.cluster.scratch("open"));
    copy(&open, &kept);
    server.run().await;
    let _ = server.rest("POST", "/changes/p~1/abandon", &json!({})).await.json();
    server.stop().await;
    std::fs::remove_dir_all(&open).expect("the part of the index");
    copy(&kept, &open);
    server.run().await;
    in_lockstep(&sites, "p").await;
    for server in &sites.servers {
        assert_eq!((server.find("is:open").await, server.find("is:abandoned").await), (vec![], vec![1]));
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp runs").success(), "{} is copied to {}", from.display(), to.display());
}
