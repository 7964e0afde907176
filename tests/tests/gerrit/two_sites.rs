//! Two Gerrits of two sites: whatever is done at one, the other holds the same refs.

use std::collections::BTreeSet;

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::git::text;
use serde_json::json;

use crate::{in_lockstep, lockstep};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn both_sites_write_and_hold_the_same() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let [a, b] = &sites.servers[..] else { panic!("two sites") };
    let _ = a.rest("PUT", "/projects/p", &json!({"create_empty_commit": true})).await.json();
    in_lockstep(&sites, "p").await;
    let users = [
        User::clone(a, "p", &sites.cluster.scratch("user-a")).await,
        User::clone(b, "p", &sites.cluster.scratch("user-b")).await,
    ];

    // Change numbers stay unique while both create changes.
    let mut numbers = BTreeSet::new();
    for round in 0..3 {
        for (user, site) in users.iter().zip(["a", "b"]) {
            let _ = user.commit(site, &format!("{round}\n"), &format!("{site}{round}")).await;
        }
        let (at_a, at_b) = tokio::join!(users[0].review("master"), users[1].review("master"));
        for number in at_a.iter().chain(&at_b) {
            numbers.insert(*number);
        }
    }
    assert_eq!(numbers.len(), 6, "{numbers:?}");
    in_lockstep(&sites, "p").await;

    // A vote at the site where the change was made; its submission moves the branch everywhere.
    let at_b = *numbers.last().expect("changes");
    for (server, number) in [(a, 1), (b, at_b)] {
        let path = format!("/changes/p~{number}");
        if server.rest("GET", &path, &json!({})).await.status == 404 {
            continue;
        }
        let vote = json!({"labels": {"Code-Review": 2}});
        let _ = server.rest("POST", &format!("{path}/revisions/current/review"), &vote).await.json();
    }
    let truth = in_lockstep(&sites, "p").await;
    assert!(truth.refs.contains_key(&format!("refs/changes/{:02}/{at_b}/meta", at_b % 100)));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn of_two_pushes_to_one_branch_one_wins_and_the_other_can_be_repeated() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let [a, b] = &sites.servers[..] else { panic!("two sites") };
    let _ = a.rest("PUT", "/projects/p", &json!({"create_empty_commit": true})).await.json();
    in_lockstep(&sites, "p").await;
    let users = [
        User::clone(a, "p", &sites.cluster.scratch("user-a")).await,
        User::clone(b, "p", &sites.cluster.scratch("user-b")).await,
    ];
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
