//! A site that reaches neither the refdb nor the event log for a while: it still serves reads, and refuses writes.
//! Afterwards it gets everything.

use std::time::Duration;

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::Login;
use lockstep_tests::e2e::gerrit::stream::Key;
use lockstep_tests::e2e::git::{fails, ok};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::lockstep;

/// Users read whether their work is lost, and nothing of how Lockstep stores refs.
fn says_what_became_of_the_work(told: &str) {
    assert!(told.contains("Lockstep:"), "{told}");
    assert!(["nothing was changed", "Nothing is lost"].iter().any(|words| told.contains(words)), "{told}");
    assert!(["slot", "poison"].iter().all(|word| !told.contains(word)), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_site_that_was_cut_off_reads_on_and_has_everything_when_it_joins_again() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    let key = Key::give(a, &sites.cluster.scratch("key")).await;
    let listeners = sites.listeners(&key).await;
    a.create("p").await;
    in_lockstep(&sites, "p").await;
    let users = [sites.user(0, "p").await, sites.user(1, "p").await];
    let _ = users[1].commit("file", "b\n", "Before").await;
    assert_eq!(users[1].review("master").await, [1]);
    in_lockstep(&sites, "p").await;

    let _ = users[1].commit("file", "c\n", "Not now").await;
    let node = &sites.cluster.nodes[1];
    node.wire.cut();
    node.streams.cut();
    // Nothing that the other site does arrives: not a project, an account or a submission.
    a.create("q").await;
    let _ = a.rest("PUT", "/accounts/jo", &json!({"name": "Jo", "http_password": "s3"})).await.json();
    let vote = json!({"labels": {"Code-Review": 2}, "message": "while b is away"});
    let _ = a.rest("POST", "/changes/p~1/revisions/current/review", &vote).await.json();
    assert_eq!(a.rest("POST", "/changes/p~1/submit", &json!({})).await.json()["status"], "MERGED");
    let mut made = Vec::new();
    for n in 0..5 {
        users[0].at("master").await;
        let _ = users[0].commit("other", &format!("{n}\n"), &format!("while b is away {n}")).await;
        made.extend(users[0].review("master").await);
    }
    assert_eq!(made.len(), 5);
    // Meanwhile b serves reads, and says that it does not write. The cut is longer than b's lease.
    let _ = ok(users[1].git(&["fetch", "origin"]).await);
    assert_eq!(b.find("project:p is:open").await, [1]);
    let refused = b.rest("POST", "/changes/p~1/revisions/current/review", &json!({"message": "at b"})).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let pushed = fails(users[1].push("refs/for/master").await);
    for told in [&refused.text, &pushed] {
        says_what_became_of_the_work(told);
    }
    sleep(Duration::from_secs(5)).await;

    node.wire.mend();
    node.streams.mend();
    in_lockstep(&sites, "p").await;
    in_lockstep(&sites, "q").await;
    assert_eq!(b.find("project:p is:merged").await, [1]);
    assert_eq!(b.rest_as(Login("jo", "s3"), "GET", "/accounts/self", &Value::Null).await.status, 200);
    b.shows("pushes succeed", async || users[1].push("refs/for/master").await.status.success()).await;
    let vote = json!({"message": "b is back"});
    let path = format!("/changes/p~{}/revisions/current/review", made[0]);
    let _ = b.rest("POST", &path, &vote).await.json();
    in_lockstep(&sites, "p").await;
    for listener in &listeners {
        let is_back = |event: &Value| event["comment"].as_str().is_some_and(|text| text.ends_with("b is back"));
        let heard = listener.hears("the comment that b is back", is_back).await;
        let created = heard.iter().filter(|event| event["type"] == "patchset-created").count();
        let merged = heard.iter().filter(|event| event["type"] == "change-merged").count();
        assert_eq!((created, merged), (7, 1), "{heard:#?}");
        listener.was_told_well();
    }
}
