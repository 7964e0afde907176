//! Two Gerrits of two sites, which both write: change numbers stay unique, one of two competing pushes wins, and both
//! sites end up equal.

use std::collections::BTreeSet;

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::git::text;
use serde_json::json;

use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn both_sites_write_and_hold_the_same() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    a.create("p").await;
    in_lockstep(&sites, "p").await;
    let users = [sites.user(0, "p").await, sites.user(1, "p").await];

    // Change numbers stay unique while both sites create changes.
    let mut numbers: [Vec<u32>; 2] = Default::default();
    for round in 0..3 {
        for (user, site) in users.iter().zip(["a", "b"]) {
            let _ = user.commit(site, &format!("{round}\n"), &format!("{site}{round}")).await;
        }
        let (at_a, at_b) = tokio::join!(users[0].review("master"), users[1].review("master"));
        numbers[0].extend(at_a);
        numbers[1].extend(at_b);
    }
    let all: BTreeSet<u32> = numbers.iter().flatten().copied().collect();
    assert_eq!(all.len(), 6, "{numbers:?}");
    in_lockstep(&sites, "p").await;

    // Each site votes on the other's first change and submits it. The branch moves twice.
    for (server, theirs) in [b, a].into_iter().zip(&numbers) {
        let change = format!("/changes/p~{}", theirs[0]);
        let vote = json!({"labels": {"Code-Review": 2}});
        let _ = server.rest("POST", &format!("{change}/revisions/current/review"), &vote).await.json();
        let submitted = server.rest("POST", &format!("{change}/submit"), &json!({})).await.json();
        assert_eq!(submitted["status"], "MERGED");
        in_lockstep(&sites, "p").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn of_two_pushes_to_one_branch_one_wins_and_the_other_can_be_repeated() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let a = &sites.servers[0];
    let may_push = json!({"add": {"refs/heads/*": {"permissions": {"push": {"rules": {
        "global:Registered-Users": {"action": "ALLOW"}}}}}}});
    let _ = a.rest("POST", "/projects/All-Projects/access", &may_push).await.json();
    a.create("p").await;
    in_lockstep(&sites, "p").await;
    let users = [sites.user(0, "p").await, sites.user(1, "p").await];
    for round in 0..4 {
        for (user, site) in users.iter().zip(["a", "b"]) {
            user.at("master").await;
            let _ = user.commit(site, &format!("{round}\n"), &format!("{site}{round}")).await;
        }
        let (at_a, at_b) = tokio::join!(users[0].push("refs/heads/master"), users[1].push("refs/heads/master"));
        let won = [&at_a, &at_b].into_iter().filter(|output| output.status.success()).count();
        assert_eq!(won, 1, "{}\n{}", text(&at_a), text(&at_b));
        let truth = in_lockstep(&sites, "p").await;
        assert!(truth.refs.contains_key("refs/heads/master"));
    }
}
