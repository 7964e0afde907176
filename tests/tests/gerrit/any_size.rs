//! Batches of a size that plain Gerrit takes, and the reasons that users read when one is refused.

use std::process::Output;

use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse};
use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::git::{git, ok, text};
use lockstep_tests::e2e::verify::{converged, truth};
use serde_json::json;
use tokio::time::Instant;

use crate::lockstep;

/// The arguments of a push of new branches below a folder, all of one commit.
fn branches(commit: &str, folder: &str, count: usize, options: &[&str]) -> Vec<String> {
    let options = ["push", "-q"].iter().chain(options).chain(&["origin"]).map(|word| (*word).to_owned());
    options.chain((0..count).map(|n| format!("{commit}:refs/heads/{folder}/{n}"))).collect()
}

async fn run(user: &User, args: &[String]) -> Output {
    user.git(&args.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// The number of branches below a folder, in the refdb and as a Gerrit lists them.
async fn counted(sites: &Sites, server: &Server, folder: &str) -> (usize, usize) {
    let truth = truth(&sites.cluster, "p").await;
    let below = format!("refs/heads/{folder}/");
    let listed = server.read(&format!("/projects/p/branches/?r={folder}/.*")).await;
    (truth.refs.keys().filter(|name| name.starts_with(&below)).count(), listed.as_array().map_or(0, Vec::len))
}

/// The number of changes that a search finds, page by page: a page has 500 at most.
async fn found(server: &Server) -> usize {
    let mut found = 0;
    loop {
        let page = server.read(&format!("/changes/?q=project:p&n=500&S={found}")).await;
        match page.as_array().map_or(0, Vec::len) {
            0 => return found,
            more => found += more,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn ten_thousand_branches_and_a_chain_of_a_thousand_and_one_changes() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    a.create("p").await;
    in_lockstep(&sites, "p").await;
    let user = sites.user(0, "p").await;
    let head = ok(user.git(&["rev-parse", "HEAD"]).await);
    for (folder, options) in [("x", &[][..]), ("y", &["--atomic"][..])] {
        let started = Instant::now();
        let _ = ok(run(&user, &branches(&head, folder, 10_000, options)).await);
        println!("10,000 branches {options:?}: {:?}", started.elapsed());
        converged(&sites.cluster, "p").await;
        println!("at both sites: {:?}", started.elapsed());
        for server in [a, b] {
            assert_eq!(counted(&sites, server, folder).await, (10_000, 10_000));
        }
    }

    // Gerrit refuses the Change-Id of zeros.
    for n in 1..=1_001 {
        let message = format!("change {n}\n\nChange-Id: I{n:040}");
        let _ = ok(user.git(&["commit", "-q", "--allow-empty", "-m", &message]).await);
    }
    let started = Instant::now();
    let output = user.push("refs/for/master").await;
    println!("1,001 changes: {:?}", started.elapsed());
    assert!(output.status.success(), "{}", text(&output));
    let truth = converged(&sites.cluster, "p").await;
    assert_eq!(truth.refs.keys().filter(|name| name.ends_with("/meta") && name.contains("/changes/")).count(), 1_001);
    for server in [a, b] {
        server.shows("all changes", async || found(server).await == 1_001).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn an_offline_program_deletes_in_batches_of_three_thousand() {
    let mut sites = Sites::start(lockstep(), &["a-0"]).await;
    let node = &sites.cluster.nodes[0];
    let repository = node.repository("All-Users");
    let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let _ = ok(git(&repository, &["hash-object", "-t", "tree", "-w", "/dev/null"]).await);
    let empty = ok(git(&repository, &["commit-tree", tree, "-m", "no drafts"]).await);
    let command = |n: u32| RefCommand {
        name: format!("refs/draft-comments/{:02}/{n}/1000000", n % 100).parse().expect("a name"),
        old: Expected::Absent,
        new: Some(empty.parse().expect("an object id")),
        force: false,
    };
    let request = RefTransactionRequest {
        request_id: "zombies".into(),
        deadline_ms: None,
        atomic: true,
        commands: (1..=3_500).map(command).collect(),
        actor: None,
        traceparent: None,
        message: None,
        lock: None,
    };
    let made: RefTransactionResponse =
        node.call("/v1/projects/All-Users/ref-transactions", &request).await.expect("it answers");
    assert_eq!(made.outcome, Outcome::Committed);
    sites.servers[0].stop().await;
    let said = text(&sites.servers[0].program("DeleteZombieDrafts", &[]).await);
    let left = truth(&sites.cluster, "All-Users").await;
    assert_eq!(left.refs.keys().filter(|name| name.contains("draft-comments")).count(), 0, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_name_above_a_branch_is_a_conflict_with_its_reason_until_nothing_is_below() {
    let sites = Sites::start(lockstep(), &["a-0"]).await;
    let gerrit = &sites.servers[0];
    gerrit.create("p").await;
    let path = |name: &str| format!("/projects/p/branches/{}", name.replace('/', "%2F"));
    let _ = gerrit.rest("PUT", &path("old/one"), &json!({"revision": "master"})).await.json();
    let refused = gerrit.rest("PUT", &path("old"), &json!({"revision": "master"})).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.text.contains("refs/heads/old/one"), "{refused:?}");
    assert_eq!(gerrit.rest("DELETE", &path("old/one"), &json!({})).await.status, 204);
    let made = gerrit.rest("PUT", &path("old"), &json!({"revision": "master"})).await.json();
    assert_eq!(made["ref"], "refs/heads/old");
}
