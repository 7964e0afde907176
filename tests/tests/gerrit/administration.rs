//! Accounts, groups, keys, passwords, configuration and access rights: changed at one site, and in force at the other.

use std::time::Duration;

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::{ADMIN, Login};
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::stream::Key;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::lockstep;

/// Waits until a list of the REST API contains an entry of this name, or no longer does.
async fn lists(server: &Server, path: &str, name: &str, wanted: bool) {
    let has = async || server.read(path).await.as_array().into_iter().flatten().any(|one| one["name"] == name);
    server.shows(&format!("{path} has {name}: {wanted}"), async || has().await == wanted).await;
}

/// Tokens are commits of the account's ref, of which Gerrit tells no listener. Each site keeps an account's tokens in
/// memory, and uses them at each login: a new one opens the other site, and a deleted one opens it no more.
async fn credentials(a: &Server, b: &Server, account: &Value) {
    if a.kit.release < (3, 13) {
        return;
    }
    // A status is another commit of the account's ref: tokens take no longer than that.
    let status = format!("/accounts/{account}/status");
    let _ = a.rest("PUT", &status, &json!({"status": "away"})).await.json();
    let set = Instant::now();
    b.shows("the status", async || b.rest("GET", &status, &Value::Null).await.text.contains("away")).await;
    let most = (set.elapsed() * 4).max(Duration::from_secs(5));
    for round in 0..3 {
        let token = format!("token-{round}");
        let login = Login("jo", &token);
        assert_eq!(b.rest_as(login, "GET", "/accounts/self", &Value::Null).await.status, 401);
        let path = format!("/accounts/{account}/tokens/ci");
        let _ = a.rest("PUT", &path, &json!({"token": token})).await.json();
        let made = Instant::now();
        b.answers(login, "/accounts/self", 200).await;
        let opened = made.elapsed();
        assert_eq!(a.rest("DELETE", &path, &json!({})).await.status, 204);
        let deleted = Instant::now();
        b.answers(login, "/accounts/self", 401).await;
        let refused = deleted.elapsed();
        eprintln!("a token opened the other site after {opened:?}, and was refused there after {refused:?}");
        assert!(opened < most && refused < most, "{opened:?} and {refused:?} are above {most:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn an_administrator_s_act_at_one_site_holds_at_the_other() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    let (before, after) = (Login("jo", "one"), Login("jo", "two"));

    // An account, its password, and another password. B has already looked for both without success, so it has cached
    // their absence.
    assert_eq!(b.rest_as(before, "GET", "/accounts/self", &Value::Null).await.status, 401);
    let jo = json!({"name": "Jo", "email": "jo@example.com", "http_password": "one"});
    let number = a.rest("PUT", "/accounts/jo", &jo).await.json()["_account_id"].clone();
    b.answers(before, "/accounts/self", 200).await;
    assert_eq!(b.rest_as(after, "GET", "/accounts/self", &Value::Null).await.status, 401);
    let _ = a.rest("PUT", "/accounts/jo/password.http", &json!({"http_password": "two"})).await.json();
    b.answers(after, "/accounts/self", 200).await;
    credentials(a, b, &number).await;
    let _ = a.rest("PUT", "/accounts/jo/name", &json!({"name": "Johanna"})).await.json();
    lists(b, "/accounts/?q=name:johanna&o=DETAILS", "Johanna", true).await;
    let active = format!("/accounts/{number}/active");
    assert_eq!(a.rest("DELETE", &active, &json!({})).await.status, 204);
    b.answers(after, "/accounts/self", 401).await;
    assert_eq!(a.rest("PUT", &active, &json!({})).await.status, 201);
    b.answers(after, "/accounts/self", 200).await;

    // An SSH key.
    let key = Key::give(a, &sites.cluster.scratch("key")).await;
    b.shows("the key opens", async || key.opens(b).await).await;

    // A group, its members, and its name. B has already answered each question before.
    assert_eq!(b.rest("GET", "/groups/crew", &Value::Null).await.status, 404);
    lists(b, "/accounts/jo/groups", "crew", false).await;
    let _ = a.rest("PUT", "/groups/crew", &json!({})).await.json();
    b.answers(ADMIN, "/groups/crew", 200).await;
    let _ = a.rest("PUT", "/groups/crew/members/jo", &json!({})).await.json();
    lists(b, "/accounts/jo/groups", "crew", true).await;
    let _ = a.rest("PUT", "/groups/fleet", &json!({})).await.json();
    let _ = a.rest("PUT", "/groups/fleet/groups/crew", &json!({})).await.json();
    lists(b, "/accounts/jo/groups", "fleet", true).await;
    let _ = a.rest("PUT", "/groups/fleet/name", &json!({"name": "navy"})).await.json();
    b.answers(ADMIN, "/groups/navy", 200).await;
    b.answers(ADMIN, "/groups/fleet", 404).await;
    assert_eq!(a.rest("DELETE", "/groups/navy/groups/crew", &json!({})).await.status, 204);
    lists(b, "/accounts/jo/groups", "navy", false).await;
    assert_eq!(a.rest("DELETE", "/groups/crew/members/jo", &json!({})).await.status, 204);
    lists(b, "/accounts/jo/groups", "crew", false).await;

    // The configuration of a project, its rights, its parent, and its state.
    a.create("p").await;
    b.answers(after, "/projects/p/branches/master", 200).await;
    let described = json!({"description": "what it is", "commit_message": "Tell what it is"});
    let _ = a.rest("PUT", "/projects/p/description", &described).await.json();
    b.shows("the description", async || b.read("/projects/p").await["description"] == "what it is").await;
    for node in &sites.cluster.nodes {
        // Gerrit's own message of the edit (`VersionedMetaData`), at both sites.
        let log = std::fs::read_to_string(node.repository("p").join("logs/refs/meta/config")).expect("a log");
        assert!(log.ends_with("\tcommit: Tell what it is\n"), "{}: {log}", node.name);
    }
    let _ = a.rest("PUT", "/groups/crew/members/jo", &json!({})).await.json();
    let hidden = json!({"add": {"refs/*": {"permissions": {"read": {"rules": {"crew": {"action": "BLOCK"}}}}}}});
    let _ = a.rest("POST", "/projects/p/access", &hidden).await.json();
    for server in [a, b] {
        server.answers(after, "/projects/p/branches/master", 404).await;
    }
    let _ = a.rest("POST", "/projects/p/access", &json!({"remove": {"refs/*": {"permissions": {}}}})).await.json();
    b.answers(after, "/projects/p/branches/master", 200).await;
    let _ = a.rest("PUT", "/projects/rules", &json!({"permissions_only": true})).await.json();
    let _ = a.rest("PUT", "/projects/p/parent", &json!({"parent": "rules"})).await.json();
    lists(b, "/projects/?query=parent:rules", "p", true).await;
    let _ = a.rest("POST", "/projects/rules/access", &hidden).await.json();
    for server in [a, b] {
        server.answers(after, "/projects/p/branches/master", 404).await;
    }
    let _ = a.rest("PUT", "/projects/p/config", &json!({"state": "READ_ONLY"})).await.json();
    b.shows("the state", async || b.read("/projects/p").await["state"] == "READ_ONLY").await;
    in_lockstep(&sites, "p").await;
}
