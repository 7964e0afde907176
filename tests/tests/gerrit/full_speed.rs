//! Both sites create changes as fast as they can: numbers are unique, both sites find every change, and each change has
//! one event.

use std::collections::BTreeMap;

use futures::future::join_all;
use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::stream::{Key, Listener};
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::upkeep::Upkeep;
use serde_json::{Value, json};

use crate::lockstep;

/// This many users at each site.
async fn users(sites: &Sites, each: usize) -> Vec<User> {
    let mut users = Vec::new();
    for user in 0..each {
        for site in 0..sites.servers.len() {
            users.push(sites.user_named(&format!("user-{site}-{user}"), site, "p").await);
        }
    }
    users
}

/// All users push at once, each of them `each` changes, one after the other. Returns the numbers that they were told.
async fn push_changes(users: &[User], each: usize, round: &str) -> Vec<u32> {
    let pushes = users.iter().enumerate().map(|(who, user)| async move {
        let mut numbers = Vec::new();
        for n in 0..each {
            user.at("master").await;
            let _ = user.commit(&format!("file-{who}"), &format!("{n}\n"), &format!("{round} {who}-{n}")).await;
            let told = user.review("master").await;
            assert_eq!(told.len(), 1, "user {who}, change {n}");
            numbers.extend(told);
        }
        numbers
    });
    join_all(pushes).await.concat()
}

/// Creates changes by REST, at both sites at once.
async fn create_changes(sites: &Sites, count: usize) -> Vec<u32> {
    let creations = (0..count).map(|n| async move {
        let server = &sites.servers[n % sites.servers.len()];
        let change = json!({"project": "p", "branch": "master", "subject": format!("by REST {n}")});
        let made = server.rest("POST", "/changes/", &change).await.json();
        made["_number"].as_u64().and_then(|number| u32::try_from(number).ok()).expect("a number")
    });
    join_all(creations).await
}

/// The number of events about each change's first patch set.
fn heard(listener: &Listener) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    for event in listener.heard().iter().filter(|event| event["type"] == "patchset-created") {
        *times.entry(event["change"]["number"].as_u64().expect("a number")).or_default() += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn change_numbers_are_unique_when_both_sites_create_at_full_speed() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    let key = Key::give(a, &sites.cluster.scratch("key")).await;
    a.create("p").await;
    in_lockstep(&sites, "p").await;
    let listeners = sites.listeners(&key).await;
    let users = users(&sites, 3).await;
    let (pushed, created) = tokio::join!(push_changes(&users, 14, "full speed"), create_changes(&sites, 40));
    let mut numbers = [pushed, created].concat();
    numbers.sort_unstable();
    let all = numbers.len();
    numbers.dedup();
    assert_eq!((all, numbers.len()), (124, 124), "the numbers must be unique: {numbers:?}");
    in_lockstep(&sites, "p").await;
    for (server, listener) in [a, b].into_iter().zip(&listeners) {
        assert_eq!(server.find("project:p").await, numbers);
        for number in &numbers {
            let is_it = |event: &Value| event["type"] == "patchset-created" && event["change"]["number"] == *number;
            let _ = listener.hears(&format!("change {number}"), is_it).await;
        }
        let times = heard(listener);
        assert!(times.len() == 124 && times.values().all(|times| *times == 1), "{times:?}");
        listener.was_told_well();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn repositories_are_collected_while_both_sites_push_and_submit() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    let key = Key::give(a, &sites.cluster.scratch("key")).await;
    a.create("p").await;
    in_lockstep(&sites, "p").await;
    let users = users(&sites, 2).await;
    let projects = ["p", "All-Users", "All-Projects"];
    let folders = sites.cluster.nodes.iter().flat_map(|node| projects.map(|project| node.repository(project)));
    let upkeep = Upkeep::of(folders.collect());

    // git's own garbage collection runs all the time. Gerrit's runs twice per site, by SSH and by REST.
    let collect = async {
        for server in [a, b, a, b] {
            let output = key.run(server, &["gerrit", "gc", "--all", "--show-progress"]).await;
            assert!(output.status.success(), "{output:?}");
            let collected = server.rest("POST", "/projects/p/gc", &json!({"aggressive": false})).await;
            assert_eq!(collected.status, 200, "{collected:?}");
        }
    };
    let (numbers, ()) = tokio::join!(push_changes(&users, 8, "beside gc"), collect);
    let vote = json!({"labels": {"Code-Review": 2}, "message": "fine"});
    for (number, server) in numbers.iter().zip([a, b].into_iter().cycle()) {
        let path = format!("/changes/p~{number}/revisions/current/review");
        server.shows("the vote", async || server.rest("POST", &path, &vote).await.status == 200).await;
    }
    // One change per user can be submitted: all changes of a user touch the same file, from the same base.
    let mut submitted = 0;
    for (at, number) in numbers.iter().step_by(8).enumerate() {
        let answer = sites.servers[at % 2].rest("POST", &format!("/changes/p~{number}/submit"), &json!({})).await;
        assert_eq!(answer.clone().json()["status"], "MERGED", "{answer:?}");
        submitted += 1;
        in_lockstep(&sites, "p").await;
    }
    drop(upkeep);
    let truth = in_lockstep(&sites, "p").await;
    assert_eq!(truth.refs.keys().filter(|name| name.ends_with("/meta")).count(), numbers.len());
    for server in [a, b] {
        assert_eq!(server.find("project:p is:merged").await.len(), submitted);
    }
}
