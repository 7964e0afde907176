//! A Gerrit without the bridge, at a site that applies commits of another one: its sidecar sends it refresh tasks by
//! REST.

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::gerrit::rest::{ADMIN, Login};
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::gerrit::{FIRST_PROJECTS, Kit};
use lockstep_tests::e2e::git::{git, ok};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use serde_json::{Value, json};

use crate::lockstep;

/// The account with which the sidecar calls the stock Gerrit: not an administrator, but a user with the rights that the
/// docs list.
const SERVICE: Login<'_> = Login("sidecar", "of-b");
/// A developer, whose account a test creates at the home site.
const JO: Login<'_> = Login("jo", "pass");

/// A home site with the bridge, and a site whose Gerrit has none.
struct Pair {
    home: Server,
    stock: Server,
    /// The path of the service user's password file.
    secret: std::path::PathBuf,
    cluster: Cluster,
}

impl Pair {
    /// Starts the home site, copies it to the other one, and lets that Gerrit be told by REST.
    async fn start(is_replica: bool) -> Self {
        let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
        let mut home = Server::found(&Kit::from_env(), &cluster.nodes[0], &cluster.scratch("gerrit-0")).await;
        let root = cluster.nodes[0].root.display().to_string();
        for project in FIRST_PROJECTS {
            let _ = ok(cluster.nodes[0].cli(&["import", project, "--root", &root]).await);
            cluster.exists(project).await;
        }
        let mut stock = Server::copy(&home, &cluster.nodes[1], &cluster.scratch("gerrit-1")).await;
        home.install_bridge(&cluster.nodes[0]).await;
        home.run().await;
        make_service_user(&home).await;
        for project in FIRST_PROJECTS {
            converged(&cluster, project).await;
        }
        let secret = cluster.scratch("password");
        std::fs::write(&secret, SERVICE.1).expect("a password");
        cluster.nodes[1].set_gerrit(&format!(
            "refresh = \"rest\"\nurl = \"http://{}\"\nuser = \"{}\"\npassword_file = \"{}\"",
            stock.http,
            SERVICE.0,
            secret.display()
        ));
        let _ = cluster.nodes[1].stop().await;
        cluster.nodes[1].start(None);
        cluster.ready().await;
        stock.install_nothing(&cluster.nodes[1]).await;
        if is_replica {
            stock.make_replica().await;
        }
        stock.run().await;
        Self { home, stock, secret, cluster }
    }

    /// Waits until no refresh is due at the stock Gerrit, and checks that none failed.
    async fn is_told_everything(&self) {
        self.cluster.nodes[1].refreshes(|refresh| refresh.due == 0 && refresh.done > 0).await;
    }
}

/// Creates a group with the capabilities that `docs/operations.md` lists, and a user in it.
async fn make_service_user(home: &Server) {
    let account = json!({"name": "Sidecar of b", "http_password": SERVICE.1});
    let _ = home.rest("PUT", &format!("/accounts/{}", SERVICE.0), &account).await.json();
    let _ = home.rest("PUT", "/groups/sidecars", &json!({"members": [SERVICE.0]})).await.json();
    let rule = json!({"rules": {"sidecars": {"action": "ALLOW"}}});
    let rights = json!({"maintainServer": rule, "flushCaches": rule, "administrateServer": rule});
    let given = json!({"add": {"GLOBAL_CAPABILITIES": {"permissions": rights}}});
    let _ = home.rest("POST", "/projects/All-Projects/access", &given).await.json();
}

/// An access rule that hides a project from a group.
fn hidden_from(group: &str) -> Value {
    json!({"add": {"refs/*": {"permissions": {"read": {"rules": {group: {"action": "BLOCK"}}}}}}})
}

/// Waits until a server gives a user an answer for which `is_it` holds.
async fn shows_to(who: Login<'_>, server: &Server, path: &str, what: &str, is_it: impl Fn(u16, &str) -> bool) {
    let look = async || {
        let answer = server.rest_as(who, "GET", path, &Value::Null).await;
        is_it(answer.status, &answer.text).then_some(())
    };
    if until(look).await.is_none() {
        let answer = server.rest_as(who, "GET", path, &Value::Null).await;
        panic!("{path} does not show {what} to {who:?}: {answer:?}\n{}", server.log_tail());
    }
}

/// Waits until a server gives the administrator JSON for which `is_it` holds.
async fn shows(server: &Server, path: &str, what: &str, is_it: impl Fn(&Value) -> bool) {
    let is_json = |status: u16, text: &str| {
        let json = serde_json::from_str(text.trim_start_matches(")]}'")).unwrap_or(Value::Null);
        status == 200 && is_it(&json)
    };
    shows_to(ADMIN, server, path, what, is_json).await;
}

/// Whether a list contains an entry of this name.
fn lists(name: &str) -> impl Fn(&Value) -> bool {
    move |json| json.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name))
}

/// Whether a query finds this many changes.
fn found(count: usize) -> impl Fn(&Value) -> bool {
    move |json| json.as_array().is_some_and(|changes| changes.len() == count)
}

/// Waits until refreshes are due because Gerrit answers them with this error.
async fn fails_with(node: &Node, error: &str) {
    node.refreshes(|refresh| refresh.due > 0 && refresh.last_error.as_ref().is_some_and(|why| why.contains(error)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_gerrit_without_the_bridge_follows_by_rest() {
    let pair = Pair::start(false).await;
    let (home, stock, cluster) = (&pair.home, &pair.stock, &pair.cluster);

    // A project, a change, a vote, and a submission. The stock site has already looked for the project without success.
    shows_to(ADMIN, stock, "/projects/tools%2Fp", "nothing yet", |status, _| status == 404).await;
    home.create("tools/p").await;
    shows(stock, "/projects/tools%2Fp", "the project", |json| json["name"] == "tools/p").await;
    shows(stock, "/projects/?d", "it in the list", |json| json.get("tools/p").is_some()).await;
    shows(stock, "/projects/?query=name:tools%2Fp", "it in a search", lists("tools/p")).await;
    let user = User::clone(home, "tools/p", &cluster.scratch("user")).await;
    let _ = user.commit("file", "one\n", "First").await;
    let numbers = user.review("master").await;
    assert_eq!(numbers.len(), 1);
    let query = "/changes/?q=project:tools%2Fp+status:open";
    shows(stock, query, "the change", found(1)).await;
    let vote = json!({"labels": {"Code-Review": 2}});
    let change = format!("/changes/tools%2Fp~{}", numbers[0]);
    let _ = home.rest("POST", &format!("{change}/revisions/current/review"), &vote).await.json();
    shows(stock, "/changes/?q=project:tools%2Fp+label:Code-Review=2", "the vote", found(1)).await;
    let _ = home.rest("POST", &format!("{change}/submit"), &json!({})).await.json();
    shows(stock, "/changes/?q=project:tools%2Fp+status:merged", "the submission", found(1)).await;

    // An account with its password, a group and its members, configuration, and a right. Each was asked for before.
    shows_to(JO, stock, "/accounts/self", "no account yet", |status, _| status == 401).await;
    let jo = json!({"name": "Jo", "email": "jo@example.com", "http_password": JO.1});
    let _ = home.rest("PUT", "/accounts/jo", &jo).await.json();
    shows_to(JO, stock, "/accounts/self", "the account", |status, text| status == 200 && text.contains("Jo")).await;
    shows(stock, "/accounts/?q=name:jo&o=DETAILS", "the account in a search", lists("Jo")).await;
    shows(stock, "/accounts/jo/groups", "no membership yet", |json| !lists("crew")(json)).await;
    let _ = home.rest("PUT", "/groups/crew", &json!({})).await.json();
    let _ = home.rest("PUT", "/groups/crew/members/jo", &json!({})).await.json();
    shows(stock, "/accounts/jo/groups", "the membership", lists("crew")).await;
    let _ = home.rest("PUT", "/projects/tools%2Fp/config", &json!({"description": "new words"})).await.json();
    shows(stock, "/projects/tools%2Fp/config", "the description", |json| json["description"] == "new words").await;
    let branch = "/projects/tools%2Fp/branches/master";
    shows_to(JO, stock, branch, "the branch", |status, _| status == 200).await;
    let _ = home.rest("POST", "/projects/tools%2Fp/access", &hidden_from("crew")).await.json();
    shows_to(JO, stock, branch, "what is hidden", |status, _| status == 404).await;
    assert_eq!(home.rest("DELETE", "/groups/crew/members/jo", &json!({})).await.status, 204);
    shows_to(JO, stock, branch, "what is not hidden any more", |status, _| status == 200).await;

    // A deleted change leaves the index.
    let _ = user.commit("file", "gone\n", "Gone").await;
    let gone = user.review("master").await[0];
    shows(stock, query, "the change", found(1)).await;
    assert_eq!(home.rest("DELETE", &format!("/changes/tools%2Fp~{gone}"), &json!({})).await.status, 204);
    shows(stock, query, "no change", found(0)).await;
    pair.is_told_everything().await;

    // With a wrong password, due refreshes stay due, and the status says why.
    std::fs::write(&pair.secret, "wrong\n").expect("a password");
    user.at("master").await;
    let _ = user.commit("file", "two\n", "Second").await;
    assert_eq!(user.review("master").await.len(), 1);
    fails_with(&cluster.nodes[1], "HTTP 401").await;
    std::fs::write(&pair.secret, SERVICE.1).expect("a password");
    shows(stock, query, "the second change, once the password is right", found(1)).await;
    pair.is_told_everything().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_replica_without_the_bridge_shows_what_is_new_and_cannot_be_told() {
    let pair = Pair::start(true).await;
    let (home, replica, cluster) = (&pair.home, &pair.stock, &pair.cluster);
    home.create("tools/p").await;
    let jo = json!({"name": "Jo", "email": "jo@example.com", "http_password": JO.1});
    let _ = home.rest("PUT", "/accounts/jo", &jo).await.json();
    let user = User::clone(home, "tools/p", &cluster.scratch("user")).await;
    let first = user.commit("file", "one\n", "First").await;
    let number = user.review("master").await[0];

    // A user whom the replica did not know before can fetch the change: the replica reads the refs itself.
    let url = format!("http://{}:{}@{}/a/tools/p", JO.0, JO.1, replica.http);
    let folder = cluster.scratch("fetched.git");
    let _ = ok(git(&cluster.scratch(""), &["init", "-q", "--bare", &folder.display().to_string()]).await);
    let name = format!("refs/changes/{:02}/{number}/1", number % 100);
    let fetch = async || git(&folder, &["fetch", &url, &name]).await;
    let fetched = until(async || fetch().await.status.success().then_some(())).await;
    assert!(fetched.is_some(), "{:?}\n{}", fetch().await, replica.log_tail());
    assert_eq!(ok(git(&folder, &["rev-parse", "FETCH_HEAD"]).await), first);

    // A replica has no REST API, so its caches cannot be refreshed. The status says so.
    assert_eq!(replica.rest("GET", "/config/server/version", &Value::Null).await.status, 404);
    fails_with(&cluster.nodes[1], "HTTP 404").await;
}
