//! A change, from its push at one site to its submission at another, as its reviewers and a CI server see it.

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::{ADMIN, Login};
use lockstep_tests::e2e::gerrit::stream::{Key, Listener};
use serde_json::{Value, json};

use crate::lockstep;

/// The types of the received events of one change, in order.
fn of_change(heard: &[Value], number: u32) -> Vec<&str> {
    let events = heard.iter().filter(|event| event["change"]["number"] == number);
    events.filter_map(|event| event["type"].as_str()).collect()
}

/// `make test` runs this one. It covers creation, a review over two sites, search and events.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_change_is_reviewed_over_two_sites_as_in_one() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    let key = Key::give(a, &sites.cluster.scratch("key")).await;
    let listener = Listener::start(&key, b, &sites.cluster.nodes[1].root).await;
    a.create("tools/build").await;
    b.answers(ADMIN, "/projects/tools%2Fbuild", 200).await;

    // Three patch sets at A, a vote and a comment at B.
    let user = sites.user(0, "tools/build").await;
    let first = user.commit("file", "one\n", "First").await;
    assert_eq!(user.review("master").await, [1]);
    for content in ["two\n", "three\n"] {
        let _ = user.amend("file", content).await;
        let _ = user.review("master").await;
    }
    b.finds("project:tools/build is:open", &[1]).await;
    let all_patch_sets = async || {
        let detail = b.read("/changes/?q=change:1&o=CURRENT_REVISION").await;
        let revisions = detail[0]["revisions"].as_object().cloned().unwrap_or_default();
        revisions.values().any(|revision| revision["_number"] == 3)
    };
    b.shows("all patch sets", all_patch_sets).await;
    let third = |event: &Value| event["type"] == "patchset-created" && event["patchSet"]["number"] == 3;
    let _ = listener.hears("the third patch set", third).await;
    let vote = json!({"labels": {"Code-Review": 2}, "message": "fine",
        "comments": {"file": [{"line": 1, "message": "three?", "unresolved": false}]}});
    let _ = b.rest("POST", "/changes/1/revisions/current/review", &vote).await.json();

    // The change is submitted at A. Both sites then find it by its new state.
    a.finds("label:Code-Review=2", &[1]).await;
    assert_eq!(a.read("/changes/1/comments").await["file"][0]["message"], "three?");
    assert_eq!(a.rest("POST", "/changes/1/submit", &json!({})).await.json()["status"], "MERGED");
    b.finds("is:merged", &[1]).await;
    b.finds("is:open", &[]).await;

    // A chain of 20 changes in one push, and a chain with more refs than one write of the refdb takes.
    let mut chain = Vec::new();
    for links in [20, 60] {
        user.at("master").await;
        for n in 0..links {
            let _ = user.commit("file", &format!("{n}\n"), &format!("link {n} of {links}")).await;
        }
        let pushed = user.review("master").await;
        assert_eq!(pushed.len(), links);
        chain.extend(pushed);
    }
    let truth = in_lockstep(&sites, "tools/build").await;
    assert_ne!(truth.refs.get("refs/heads/master"), Some(&first), "the third patch set was submitted");
    assert_eq!(b.find("project:tools/build is:open").await, chain);

    // A CI server at B received every event once, in order, and never before the commit could be fetched.
    // Events of different changes have no order.
    let of = |event: &Value, kind: &str, number: u32| event["type"] == kind && event["change"]["number"] == number;
    let mut heard = listener.hears("the end of the change", |event| of(event, "change-merged", 1)).await;
    for number in &chain {
        heard = listener.hears("each link of the chain", |event| of(event, "patchset-created", *number)).await;
    }
    let (pushed, own) = ("patchset-created", "comment-added");
    assert_eq!(of_change(&heard, 1), [pushed, pushed, pushed, own, "change-merged"], "{heard:#?}");
    let origins: Vec<&str> = heard.iter().filter_map(|event| event["instanceId"].as_str()).collect();
    assert!(origins.contains(&"a-0") && origins.contains(&"b-0"), "{origins:?}");
    listener.was_told_well();
    for number in chain {
        assert_eq!(of_change(&heard, number), ["patchset-created"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn drafts_are_private_and_survive_a_site() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    a.create("p").await;
    let jo = json!({"name": "Jo", "email": "jo@example.com", "http_password": "s3"});
    let _ = a.rest("PUT", "/accounts/jo", &jo).await.json();
    let user = sites.user(0, "p").await;
    let _ = user.commit("file", "one\n", "First").await;
    assert_eq!(user.review("master").await, [1]);
    let draft = json!({"path": "file", "line": 1, "message": "hm"});
    let _ = a.rest("PUT", "/changes/p~1/revisions/current/drafts", &draft).await.json();
    in_lockstep(&sites, "p").await;
    assert_eq!(b.read("/changes/p~1/drafts").await["file"][0]["message"], "hm");
    let of_jo = b.rest_as(Login("jo", "s3"), "GET", "/changes/p~1/drafts", &Value::Null);
    assert_eq!(of_jo.await.json(), json!({}), "a user must not see the drafts of another user");

    sites.servers[0].kill().await;
    sites.cluster.nodes[0].kill().await;
    let published = json!({"drafts": "PUBLISH_ALL_REVISIONS"});
    let _ = sites.servers[1].rest("POST", "/changes/p~1/revisions/current/review", &published).await.json();
    sites.cluster.nodes[0].start(None);
    sites.cluster.ready().await;
    sites.servers[0].run().await;
    in_lockstep(&sites, "p").await;
    assert_eq!(sites.servers[0].read("/changes/p~1/drafts").await, json!({}));
    assert_eq!(sites.servers[0].read("/changes/p~1/comments").await["file"][0]["message"], "hm");
}
