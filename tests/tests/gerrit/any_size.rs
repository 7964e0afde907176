//! Batches of a size that plain Gerrit takes, and the reasons that users read when one is refused.

use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse};
use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::git::{git, ok, text};
use lockstep_tests::e2e::verify::truth;
use serde_json::json;
use tokio::time::Instant;

use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn ten_thousand_branches_and_a_chain_of_a_thousand_and_one_changes() {
    let sites = Sites::start(lockstep(), &["a-0"]).await;
    let gerrit = &sites.servers[0];
    gerrit.create("p").await;
    let user = sites.user(0, "p").await;
    let head = ok(user.git(&["rev-parse", "HEAD"]).await);
    let all: Vec<String> = (0..10_000).map(|n| format!("{head}:refs/heads/x/{n}")).collect();
    let mut args = vec!["push", "-q", "origin"];
    args.extend(all.iter().map(String::as_str));
    let started = Instant::now();
    let _ = ok(user.git(&args).await);
    println!("10,000 branches: {:?}", started.elapsed());
    assert_eq!(truth(&sites.cluster, "p").await.refs.keys().filter(|name| name.contains("/x/")).count(), 10_000);

    // Gerrit refuses the Change-Id of zeros.
    for n in 1..=1_001 {
        let message = format!("change {n}\n\nChange-Id: I{n:040}");
        let _ = ok(user.git(&["commit", "-q", "--allow-empty", "-m", &message]).await);
    }
    let started = Instant::now();
    let output = user.push("refs/for/master").await;
    println!("1,001 changes: {:?}", started.elapsed());
    assert!(output.status.success(), "{}", text(&output));
    let truth = truth(&sites.cluster, "p").await;
    assert_eq!(truth.refs.keys().filter(|name| name.ends_with("/meta") && name.contains("/changes/")).count(), 1_001);
    // A query shows 500 changes at most, so the first and the last stand for all.
    for number in [1, 1_001] {
        assert_eq!(gerrit.read(&format!("/changes/?q=change:{number}")).await[0]["status"], "NEW");
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
    assert!(refused.text.contains("refs/heads/old/one") && refused.text.contains("choose another name"), "{refused:?}");
    assert_eq!(gerrit.rest("DELETE", &path("old/one"), &json!({})).await.status, 204);
    let made = gerrit.rest("PUT", &path("old"), &json!({"revision": "master"})).await.json();
    assert_eq!(made["ref"], "refs/heads/old");
}
