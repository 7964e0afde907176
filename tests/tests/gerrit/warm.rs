//! A hot standby keeps its Gerrit warm: when it is promoted, its index, its groups and its caches follow all that was
//! done at the old site within seconds, and its process goes on.

use std::time::Duration;

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::Login;
use lockstep_tests::e2e::gerrit::server::Server;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::failover::{fail_over, make_standby};
use crate::lockstep;

/// The member of the groups.
const JO: Login<'_> = Login("jo", "s3cret");
/// A page that the rights of the project hide from that member in the end.
const HIDDEN: &str = "/projects/p/branches/master";
/// How long after a failover the new site may give old answers. A Gerrit that is started takes longer.
const WARM: Duration = Duration::from_secs(10);

/// Waits until an answer is the right one, and measures how long after the failover that was.
async fn follows(server: &Server, ended: Instant, what: &str, is_right: impl AsyncFn() -> bool) {
    server.shows(what, is_right).await;
    let took = ended.elapsed();
    println!("{what}: right {took:?} after the failover");
    assert!(took < WARM, "{what}: right after {took:?}\n{}", server.log_tail());
}

/// The names of the groups of a user.
async fn groups_of_jo(server: &Server) -> Vec<String> {
    let groups = server.read("/accounts/jo/groups").await;
    groups.as_array().into_iter().flatten().filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect()
}

async fn jo_reads(server: &Server) -> u16 {
    server.rest_as(JO, "GET", HIDDEN, &Value::Null).await.status
}

/// Pushes three changes and submits the first one, makes a group that is a part of another one, and hides the project
/// from its member. Returns the numbers of the changes.
async fn work_at(sites: &Sites) -> Vec<u32> {
    let (a, user) = (&sites.servers[0], sites.user(0, "p").await);
    let mut changes = Vec::new();
    for n in 0..3 {
        user.at("master").await;
        let _ = user.commit(&format!("file-{n}"), "text\n", &format!("change {n}")).await;
        changes.extend(user.review("master").await);
    }
    let first = format!("/changes/p~{}", changes[0]);
    let vote = json!({"labels": {"Code-Review": 2}});
    let _ = a.rest("POST", &format!("{first}/revisions/current/review"), &vote).await.json();
    let _ = a.rest("POST", &format!("{first}/submit"), &json!({})).await.json();
    let _ = a.rest("PUT", "/groups/crew", &json!({"members": ["jo"]})).await.json();
    let _ = a.rest("PUT", "/groups/fleet/groups/crew", &json!({})).await.json();
    let rights = json!({"add": {"refs/*": {"permissions": {"read": {"rules": {"crew": {"action": "BLOCK"}}}}}}});
    let _ = a.rest("POST", "/projects/p/access", &rights).await.json();
    changes
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_promoted_standby_finds_the_changes_and_resolves_the_groups_of_the_old_site_at_once() {
    let sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    a.create("p").await;
    let number = a.rest("PUT", "/accounts/jo", &json!({"http_password": JO.1})).await.json()["_account_id"].clone();
    let _ = a.rest("PUT", "/groups/fleet", &json!({})).await.json();
    make_standby(&sites.cluster, "b").await;
    in_lockstep(&sites, "p").await;
    // B has an answer to each question in its caches or its index, which becomes an old one.
    b.answers(JO, HIDDEN, 200).await;
    assert_eq!(b.rest("GET", "/groups/crew", &Value::Null).await.status, 404);
    let before = groups_of_jo(b).await;
    assert!(!before.iter().any(|name| name == "crew" || name == "fleet"), "{before:?}");
    assert!(b.find("project:p").await.is_empty());
    let process = b.id();

    let changes = work_at(&sites).await;
    assert_eq!(jo_reads(a).await, 404);
    let report = fail_over(&sites.cluster.nodes[1], "a", "b", &[]).await;
    let ended = Instant::now();
    println!("{report}");
    let open = async || b.find("project:p is:open").await == changes[1..];
    follows(b, ended, "a query finds the open changes", open).await;
    let merged = async || b.find("project:p is:merged").await == changes[..1];
    follows(b, ended, "a query finds the merged change", merged).await;
    let member = async || {
        let members = b.rest("GET", "/groups/fleet/members/?recursive", &Value::Null).await.json();
        members.as_array().is_some_and(|all| all.iter().any(|one| one["_account_id"] == number))
    };
    follows(b, ended, "a group has the members of its part", member).await;
    let groups = async || {
        let names = groups_of_jo(b).await;
        ["crew", "fleet"].iter().all(|group| names.iter().any(|name| name == group))
    };
    follows(b, ended, "the member has both groups", groups).await;
    follows(b, ended, "the rights of the project hold", async || jo_reads(b).await == 404).await;
    assert_eq!(b.id(), process, "the same Gerrit goes on");
    let projects = b.read("/config/server/caches/projects").await;
    assert!(projects["entries"]["mem"].as_u64().is_some_and(|all| all > 0), "its caches are filled: {projects}");

    let at_b = sites.user(1, "p").await;
    let _ = at_b.commit("file-b", "text\n", "change at b").await;
    let next = at_b.review("master").await;
    assert!(next.iter().all(|number| !changes.contains(number)), "{next:?}");
    in_lockstep(&sites, "p").await;
}
