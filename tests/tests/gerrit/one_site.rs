//! One Gerrit and its sidecar: everything that a user does is committed, and nothing else.

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::git::{fails, ok};
use lockstep_tests::e2e::verify::truth;
use serde_json::json;

use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_change_from_its_push_to_its_submission() {
    let sites = Sites::start(lockstep(), &["a-0"]).await;
    let gerrit = &sites.servers[0];
    let create = json!({"create_empty_commit": true, "branches": ["main"]});
    let _ = gerrit.rest("PUT", "/projects/tools%2Fbuild", &create).await.json();
    assert_eq!(gerrit.rest("PUT", "/projects/tools%2Fbuild", &create).await.status, 409);
    let user = User::clone(gerrit, "tools/build", &sites.cluster.scratch("user")).await;
    let first = user.commit("file", "one\n", "First").await;
    assert_eq!(user.review("main").await, [1]);

    let change = "/changes/tools%2Fbuild~1";
    let draft = json!({"path": "file", "line": 1, "message": "hm"});
    let _ = gerrit.rest("PUT", &format!("{change}/revisions/current/drafts"), &draft).await.json();
    let truth_of_users = truth(&sites.cluster, "All-Users").await;
    assert!(truth_of_users.refs.keys().any(|name| name.starts_with("refs/draft-comments/")), "{truth_of_users:?}");
    let vote = json!({"labels": {"Code-Review": 2}, "drafts": "PUBLISH", "message": "fine"});
    let _ = gerrit.rest("POST", &format!("{change}/revisions/current/review"), &vote).await.json();
    let submitted = gerrit.rest("POST", &format!("{change}/submit"), &json!({})).await.json();
    assert_eq!(submitted["status"], "MERGED");

    let truth = in_lockstep(&sites, "tools/build").await;
    assert_eq!(truth.refs.get("refs/heads/main"), Some(&first));
    assert_eq!(truth.head.as_deref(), Some("refs/heads/main"));
    let names: Vec<&str> = truth.refs.keys().map(String::as_str).collect();
    assert_eq!(names, ["refs/changes/01/1/1", "refs/changes/01/1/meta", "refs/heads/main", "refs/meta/config"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn accounts_groups_branches_and_tags_are_committed_and_gc_is_harmless() {
    let sites = Sites::start(lockstep(), &["a-0"]).await;
    let gerrit = &sites.servers[0];
    gerrit.create("p").await;
    let _ = gerrit.rest("PUT", "/accounts/jo", &json!({"name": "Jo", "email": "jo@example.com"})).await.json();
    let _ = gerrit.rest("PUT", "/groups/crew", &json!({"members": ["jo"]})).await.json();
    let _ = gerrit.rest("PUT", "/projects/p/branches/next", &json!({"revision": "master"})).await.json();
    let _ = gerrit.rest("PUT", "/projects/p/tags/v1", &json!({"revision": "master", "message": "one"})).await.json();
    let head = gerrit.rest("PUT", "/projects/p/HEAD", &json!({"ref": "refs/heads/next"})).await.json();
    assert_eq!(head, "refs/heads/next");
    assert_eq!(gerrit.rest("DELETE", "/projects/p/branches/master", &json!({})).await.status, 204);
    assert_eq!(gerrit.rest("PUT", "/projects/p/branches/next%2Fbelow", &json!({"revision": "next"})).await.status, 409);
    let truth = in_lockstep(&sites, "p").await;
    let collected = gerrit.rest("POST", "/projects/p/gc", &json!({})).await;
    assert_eq!(collected.status, 200, "{collected:?}");
    assert_eq!(in_lockstep(&sites, "p").await, truth, "gc must not change a value");
    let names: Vec<&str> = truth.refs.keys().map(String::as_str).collect();
    assert_eq!(names, ["refs/heads/next", "refs/meta/config", "refs/tags/v1"]);
    assert_eq!(truth.head.as_deref(), Some("refs/heads/next"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn without_its_sidecar_a_gerrit_reads_and_says_why_it_does_not_write() {
    let mut sites = Sites::start(lockstep(), &["a-0"]).await;
    let create = json!({"create_empty_commit": true});
    let _ = sites.servers[0].rest("PUT", "/projects/p", &create).await.json();
    let user = User::clone(&sites.servers[0], "p", &sites.cluster.scratch("user")).await;
    let _ = user.commit("file", "one\n", "First").await;
    sites.cluster.nodes[0].kill().await;
    let refused = sites.servers[0].rest("PUT", "/projects/p/branches/x", &json!({"revision": "master"})).await;
    assert_eq!(refused.status, 503);
    assert!(refused.text.contains("the sidecar of this server cannot be reached"), "{refused:?}");
    assert!(refused.text.contains("Nothing was changed"), "{refused:?}");
    let told = fails(user.push("refs/for/master").await);
    assert!(told.contains("Nothing was changed"), "{told}");
    assert_eq!(sites.servers[0].rest("PUT", "/projects/q", &create).await.status, 503);
    let _ = ok(user.git(&["fetch", "origin"]).await);

    sites.cluster.nodes[0].start(None);
    sites.cluster.ready().await;
    sites.servers[0].shows("pushes succeed", async || user.push("refs/for/master").await.status.success()).await;
    let _ = sites.servers[0].rest("PUT", "/projects/q", &create).await.json();
    in_lockstep(&sites, "p").await;
}

/// git's rules decide which names are refs: only a name that is `@` and nothing else is none.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_component_that_is_an_at_sign_is_pushed_and_created_like_any_other() {
    let sites = Sites::start(lockstep(), &["a-0"]).await;
    let gerrit = &sites.servers[0];
    gerrit.create("p").await;
    let user = User::clone(gerrit, "p", &sites.cluster.scratch("user")).await;
    let pushed = ["@", "x/@", "w/@/x", "beside"];
    let to: Vec<String> = pushed.iter().map(|name| format!("HEAD:refs/heads/{name}")).collect();
    let args: Vec<&str> = ["push", "origin"].into_iter().chain(to.iter().map(String::as_str)).collect();
    let _ = ok(user.git(&args).await);
    let created = ["y%2F@", "z%2F@%2Fz"];
    for name in created {
        let answer = gerrit.rest("PUT", &format!("/projects/p/branches/{name}"), &json!({"revision": "master"})).await;
        assert_eq!(answer.status, 201, "{name}: {answer:?}");
    }
    let truth = in_lockstep(&sites, "p").await;
    let created = created.map(|name| name.replace("%2F", "/"));
    for name in pushed.into_iter().chain(created.iter().map(String::as_str)) {
        assert!(truth.refs.contains_key(&format!("refs/heads/{name}")), "{name}: {truth:?}");
    }
}
