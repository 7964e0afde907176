//! Projects below other folders (`repository.*.basePath`), which differ per site.

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::ADMIN;
use lockstep_tests::e2e::until;
use serde_json::json;

use crate::lockstep;

const PROJECT: &str = "big/x";
const PATH: &str = "/projects/big%2Fx";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_project_lies_below_another_base_path_at_each_site() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let bases = ["a-big", "b-big"].map(|name| sites.cluster.scratch(name));
    for (at, base) in bases.iter().enumerate() {
        std::fs::create_dir(base).expect("a folder");
        sites.servers[at].stop().await;
        let node = &mut sites.cluster.nodes[at];
        let _ = node.stop().await;
        node.set_base_paths(&[("big/*", base)]);
        node.start(None);
    }
    sites.cluster.ready().await;

    // Without the base path, Gerrit would not find the repositories that the sidecar creates, so it must not start.
    let log = sites.servers[1].refuses_to_start().await;
    let why = log.lines().find(|line| line.contains("this Gerrit must not start")).expect("a reason");
    assert!(why.contains("big/* is below") && why.contains(&bases[1].display().to_string()), "{why}");
    for (server, base) in sites.servers.iter_mut().zip(&bases) {
        // The sidecar ignores a section without a path.
        server.set("repository.*.defaultSubmitType", "MERGE_IF_NECESSARY").await;
        server.set("repository.big/*.basePath", &base.display().to_string()).await;
        server.start();
    }
    for server in &mut sites.servers {
        server.ready().await;
    }

    let (a, b) = sites.two();
    a.create(PROJECT).await;
    b.answers(ADMIN, PATH, 200).await;
    for (node, base) in sites.cluster.nodes.iter().zip(&bases) {
        assert!(base.join("big/x.git/HEAD").exists() && !node.root.join("big").exists());
    }
    let user = sites.user(0, PROJECT).await;
    let _ = user.commit("file", "one\n", "First").await;
    let number = user.review("master").await;
    b.finds("project:big/x is:open", &number).await;
    let change = format!("/changes/{}", number[0]);
    let vote = json!({"labels": {"Code-Review": 2}});
    let _ = b.rest("POST", &format!("{change}/revisions/current/review"), &vote).await.json();
    assert_eq!(b.rest("POST", &format!("{change}/submit"), &json!({})).await.json()["status"], "MERGED");
    let truth = in_lockstep(&sites, PROJECT).await;
    for server in &sites.servers {
        let collected = server.rest("POST", &format!("{PATH}/gc"), &json!({})).await;
        assert_eq!(collected.status, 200, "{collected:?}");
    }
    assert_eq!(in_lockstep(&sites, PROJECT).await, truth);

    // A project that is deleted at one site is gone at both, and its name is free.
    assert_eq!(b.rest("POST", &format!("{PATH}/test-plugin~delete"), &json!({})).await.status, 204);
    a.answers(ADMIN, PATH, 404).await;
    for base in &bases {
        let gone = until(async || (!base.join("big/x.git").exists()).then_some(())).await;
        assert!(gone.is_some(), "{}", base.display());
    }
    let _ = b.rest("PUT", PATH, &json!({"create_empty_commit": true})).await.json();
    a.answers(ADMIN, PATH, 200).await;
    in_lockstep(&sites, PROJECT).await;

    // Gerrit's offline programs read the same folders.
    let user = sites.user(1, PROJECT).await;
    let _ = user.commit("file", "two\n", "Second").await;
    let number = user.review("master").await;
    in_lockstep(&sites, PROJECT).await;
    sites.servers[0].stop().await;
    let kit = sites.servers[0].kit.clone();
    sites.servers[0].upgrade(&kit).await;
    sites.servers[0].run().await;
    in_lockstep(&sites, PROJECT).await;
    assert_eq!(sites.servers[0].find("project:big/x").await, number);
}
