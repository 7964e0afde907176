//! Lockstep is switched off at a site: its Gerrit goes on without the bridge, and comes back with everything that users
//! did meanwhile.

use lockstep_proto::failover::SitesStatus;
use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::git::{fails, ok};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use serde_json::json;

use crate::lockstep;

/// Switches site `a` off or on, at a node of another site.
async fn switch(node: &Node, mode: &str) {
    let status: SitesStatus = serde_json::from_str(&ok(node.cli(&["sites", "--json"]).await)).expect("JSON");
    let site = status.sites.into_iter().find(|site| site.site.as_str() == "a").expect("site a");
    let epoch = site.epoch.to_string();
    let args = ["site", "mode", "a", mode, "--expect-epoch", &epoch, "--reason", "a trial"];
    let taken = async || node.cli(&args).await.status.success().then_some(());
    assert!(until(taken).await.is_some(), "{}", fails(node.cli(&args).await));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn work_at_a_gerrit_without_the_bridge_reaches_the_other_site_when_it_comes_back() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    sites.servers[0].create("p").await;
    in_lockstep(&sites, "p").await;
    let user = sites.user(0, "p").await;
    let _ = user.commit("one", "1\n", "one").await;
    let first = user.review("master").await[0];
    in_lockstep(&sites, "p").await;

    switch(&sites.cluster.nodes[1], "off").await;
    let _ = sites.cluster.nodes[0].end().await;
    sites.servers[0].stop().await;
    sites.servers[0].remove_bridge().await;
    sites.servers[0].run().await;
    // Drafts, votes, a submission, a change, an account and a project: refs are created, moved and deleted.
    let a = &sites.servers[0];
    let change = format!("/changes/p~{first}");
    let draft = json!({"path": "one", "line": 1, "message": "why?"});
    let _ = a.rest("PUT", &format!("{change}/revisions/current/drafts"), &draft).await.json();
    let vote = json!({"labels": {"Code-Review": 2}, "drafts": "PUBLISH_ALL_REVISIONS"});
    let _ = a.rest("POST", &format!("{change}/revisions/current/review"), &vote).await.json();
    let submitted = a.rest("POST", &format!("{change}/submit"), &json!({})).await.json();
    assert_eq!(submitted["status"], "MERGED");
    let _ = user.commit("two", "2\n", "two").await;
    let second = user.review("master").await[0];
    let _ = a.rest("PUT", "/accounts/jo", &json!({"name": "Jo", "http_password": "pass"})).await.json();
    a.create("q").await;
    assert_eq!(sites.servers[1].find("project:p").await, [first], "nothing of it reaches the other site");

    sites.servers[0].stop().await;
    sites.servers[0].install_bridge(&sites.cluster.nodes[0]).await;
    sites.cluster.nodes[0].start(None);
    switch(&sites.cluster.nodes[1], "active").await;
    let found = |status: &lockstep_proto::status::NodeStatus| {
        status.coming_back.as_ref().is_some_and(|back| back.has_compared_all() && !back.differ.is_empty())
    };
    sites.cluster.nodes[0].reports(found).await;
    let said = ok(sites.cluster.nodes[0].cli(&["seed", "--again"]).await);
    assert!(said.contains("4 projects are seeded, verified and open") && !said.contains("strays"), "{said}");
    sites.cluster.nodes[0].ready().await;
    sites.servers[0].run().await;
    for project in ["p", "q"] {
        sites.cluster.exists(project).await;
        in_lockstep(&sites, project).await;
    }
    let b = &sites.servers[1];
    b.shows("the submission", async || b.read(&change).await["status"] == "MERGED").await;
    b.finds("project:p status:open", &[second]).await;
    b.shows("the account", async || b.read("/accounts/jo").await["name"] == "Jo").await;
    let _ = user.commit("three", "3\n", "three").await;
    let third = user.review("master").await;
    assert!(third.iter().all(|number| *number > second), "no change number is given twice: {third:?}");
    in_lockstep(&sites, "p").await;
}
