//! Two sites that are one release apart for a while. Each is upgraded while the other one serves, without disturbing
//! users. `make gerrit-e2e-rolling FROM=3.12.0 TO=3.13.5` runs it.

use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::{ADMIN, Login};
use lockstep_tests::e2e::gerrit::stream::Key;
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::gerrit::{Kit, Sites};
use serde_json::{Value, json};

use crate::lockstep;

/// From each site: a change of two patch sets, on which the other site comments and votes, and which its own site
/// submits; an account that logs in at the other site; a branch; and a change that stays open.
async fn work_in_both_directions(sites: &Sites, users: &[User; 2], round: &str) {
    for (from, to) in [(0, 1), (1, 0)] {
        let (home, other) = (&sites.servers[from], &sites.servers[to]);
        let (user, text) = (&users[from], format!("{round} from {from}"));
        user.at("master").await;
        let _ = user.commit(&format!("file-{from}"), &format!("{text}\n"), &text).await;
        let number = user.review("master").await[0];
        let _ = user.amend(&format!("file-{from}"), &format!("{text}, again\n")).await;
        let _ = user.review("master").await;
        in_lockstep(sites, "p").await;
        let change = format!("/changes/p~{number}");
        let vote = json!({"labels": {"Code-Review": 2}, "message": text,
            "comments": {format!("file-{from}"): [{"line": 1, "message": "fine", "unresolved": false}]}});
        let _ = other.rest("POST", &format!("{change}/revisions/2/review"), &vote).await.json();
        in_lockstep(sites, "p").await;
        let submitted = home.rest("POST", &format!("{change}/submit"), &json!({})).await.json();
        assert_eq!(submitted["status"], "MERGED", "{submitted}");

        let name = format!("{round}-{from}");
        let account = json!({"name": name, "http_password": "secret"});
        let _ = home.rest("PUT", &format!("/accounts/{name}"), &account).await.json();
        // From 3.13 on, Gerrit stores passwords as tokens, which older releases do not know.
        let takes_it = home.kit.release < (3, 13) || other.kit.release >= (3, 13);
        let (who, path) = if takes_it { (Login(&name, "secret"), "self") } else { (ADMIN, name.as_str()) };
        other.answers(who, &format!("/accounts/{path}"), 200).await;
        let branch = format!("/projects/p/branches/{name}");
        let _ = home.rest("PUT", &branch, &json!({"revision": "master"})).await.json();
        other.answers(ADMIN, &branch, 200).await;

        user.at("master").await;
        let _ = user.commit(&format!("open-{from}"), &format!("{text}\n"), &format!("{text}, open")).await;
        let open = user.review("master").await[0];
        in_lockstep(sites, "p").await;
        assert!(other.find("project:p is:open").await.contains(&open));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs two Gerrits: make gerrit-e2e-rolling"]
async fn two_sites_are_upgraded_one_after_the_other() {
    let next = Kit::next_from_env();
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let key = Key::give(&sites.servers[0], &sites.cluster.scratch("key")).await;
    sites.servers[0].create("p").await;
    in_lockstep(&sites, "p").await;
    let users = [sites.user(0, "p").await, sites.user(1, "p").await];
    work_in_both_directions(&sites, &users, "old").await;

    // Gerrit requires this setting before any rolling upgrade.
    for server in &mut sites.servers {
        server.set("gerrit.experimentalRollingUpgrade", "true").await;
        server.stop().await;
        server.run().await;
    }

    // Site B is upgraded first, while site A serves.
    sites.servers[1].stop().await;
    let user = sites.user_named("meanwhile", 0, "p").await;
    let _ = user.commit("meanwhile", "one\n", "While b is upgraded").await;
    assert_eq!(user.review("master").await.len(), 1);
    sites.servers[1].upgrade(&next).await;
    let _ = user.amend("meanwhile", "two\n").await;
    assert_eq!(user.review("master").await.len(), 1);
    sites.servers[1].run().await;
    in_lockstep(&sites, "p").await;

    // Both releases run beside each other, with listeners at each site.
    let listeners = sites.listeners(&key).await;
    work_in_both_directions(&sites, &users, "mixed").await;
    for listener in &listeners {
        for origin in ["a-0", "b-0"] {
            let merged = |event: &Value| event["type"] == "change-merged" && event["instanceId"] == origin;
            let _ = listener.hears(&format!("a submission at {origin}"), merged).await;
        }
        listener.was_told_well();
    }
    drop(listeners);
    // The Gerrit of the older release also starts again after it died.
    sites.servers[0].kill().await;
    sites.servers[0].run().await;

    // Then site A is upgraded.
    sites.servers[0].stop().await;
    sites.servers[0].upgrade(&next).await;
    sites.servers[0].run().await;
    in_lockstep(&sites, "p").await;
    work_in_both_directions(&sites, &users, "new").await;
    let (a, b) = sites.two();
    for server in [a, b] {
        assert_eq!(server.find("project:p is:merged").await.len(), 6);
        assert_eq!(server.find("project:p is:open").await.len(), 7);
    }
}
