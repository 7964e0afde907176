//! A Gerrit without the bridge, at a site that hears from another one: its sidecar tells it by REST what to look at.

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::gerrit::{FIRST_PROJECTS, Kit};
use lockstep_tests::e2e::git::ok;
use lockstep_tests::e2e::until;
use serde_json::{Value, json};

use crate::lockstep;

/// Waits until a server answers a question with this.
async fn shows(server: &Server, path: &str, what: &str, is_it: impl Fn(&Value) -> bool) {
    let look = async || {
        let answer = server.rest("GET", path, &json!({})).await;
        (answer.status == 200).then(|| answer.json()).filter(|json| is_it(json))
    };
    let shown = until(look).await;
    assert!(shown.is_some(), "{path} does not show {what}: {:?}", server.rest("GET", path, &json!({})).await);
}

/// How many changes a query finds.
fn found(count: usize) -> impl Fn(&Value) -> bool {
    move |json| json.as_array().is_some_and(|changes| changes.len() == count)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_gerrit_without_the_bridge_follows_by_rest() {
    let kit = Kit::from_env();
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let mut home = Server::found(&kit, &cluster.nodes[0], &cluster.scratch("gerrit-0")).await;
    let root = cluster.nodes[0].root.display().to_string();
    for project in FIRST_PROJECTS {
        let _ = ok(cluster.nodes[0].cli(&["import", project, "--root", &root]).await);
        cluster.exists(project).await;
    }
    let mut stock = Server::copy(&home, &cluster.nodes[1], &cluster.scratch("gerrit-1")).await;
    home.install_bridge(&cluster.nodes[0]).await;
    stock.install_nothing(&cluster.nodes[1]).await;
    // From here on its sidecar tells it.
    let secret = cluster.scratch("password");
    std::fs::write(&secret, "secret\n").expect("a password");
    let section = format!(
        "refresh = \"rest\"\nurl = \"http://{}\"\nuser = \"admin\"\npassword_file = \"{}\"",
        stock.http,
        secret.display()
    );
    let _ = cluster.nodes[1].stop().await;
    cluster.nodes[1].set_gerrit(&section);
    cluster.nodes[1].start(None);
    cluster.ready().await;
    home.start();
    stock.start();
    home.ready().await;
    stock.ready().await;

    let _ = home.rest("PUT", "/projects/tools%2Fp", &json!({"create_empty_commit": true})).await.json();
    shows(&stock, "/projects/tools%2Fp", "the project", |json| json["name"] == "tools/p").await;
    shows(&stock, "/projects/?d", "it in the list", |json| json.get("tools/p").is_some()).await;
    let user = User::clone(&home, "tools/p", &cluster.scratch("user")).await;
    let _ = user.commit("file", "one\n", "First").await;
    let numbers = user.review("master").await;
    assert_eq!(numbers.len(), 1);
    let query = "/changes/?q=project:tools%2Fp+status:open";
    shows(&stock, query, "the change", found(1)).await;
    let vote = json!({"labels": {"Code-Review": 2}});
    let change = format!("/changes/tools%2Fp~{}", numbers[0]);
    let _ = home.rest("POST", &format!("{change}/revisions/current/review"), &vote).await.json();
    shows(&stock, "/changes/?q=project:tools%2Fp+label:Code-Review=2", "the vote", found(1)).await;
    let _ = home.rest("POST", &format!("{change}/submit"), &json!({})).await.json();
    shows(&stock, "/changes/?q=project:tools%2Fp+status:merged", "the submission", found(1)).await;

    let _ = home.rest("PUT", "/accounts/jo", &json!({"name": "Jo", "email": "jo@example.com"})).await.json();
    shows(&stock, "/accounts/jo/detail", "the account", |json| json["name"] == "Jo").await;
    let _ = home.rest("PUT", "/groups/crew", &json!({"members": ["jo"]})).await.json();
    let is_member =
        |json: &Value| json.as_array().is_some_and(|groups| groups.iter().any(|group| group["name"] == "crew"));
    shows(&stock, "/accounts/jo/groups", "the membership", is_member).await;
    let _ = home.rest("PUT", "/projects/tools%2Fp/config", &json!({"description": "new words"})).await.json();
    shows(&stock, "/projects/tools%2Fp/config", "the description", |json| json["description"] == "new words").await;

    let status = cluster.nodes[1].status().await.and_then(|status| status.refresh).expect("it refreshes");
    assert!(status.done > 0, "{status:?}");
    let clear = async || {
        let refresh = cluster.nodes[1].status().await?.refresh?;
        (refresh.due == 0).then_some(())
    };
    assert!(until(clear).await.is_some(), "{:?}", cluster.nodes[1].status().await);
    // A wrong password: what is due stays, and the status says why.
    std::fs::write(&secret, "wrong\n").expect("a password");
    let _ = user.commit("file", "two\n", "Second").await;
    assert_eq!(user.review("master").await.len(), 1);
    let told = async || {
        let refresh = cluster.nodes[1].status().await?.refresh?;
        let why = refresh.last_error.filter(|_| refresh.due > 0)?;
        why.contains("HTTP 401").then_some(())
    };
    assert!(until(told).await.is_some(), "{:?}", cluster.nodes[1].status().await);
    std::fs::write(&secret, "secret\n").expect("a password");
    shows(&stock, query, "the second change, once it may", found(1)).await;
}
