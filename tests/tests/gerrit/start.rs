//! A Gerrit that does not belong to the installation does not start, and says why.

use lockstep_tests::e2e::behind;
use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::verify::converged;

use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_site_that_was_initialised_apart_is_refused_with_the_reason() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    sites.servers[1].kill().await;
    let node = &sites.cluster.nodes[1];
    let mut apart = Server::apart(&sites.servers[0], node, &sites.cluster.scratch("apart")).await;
    apart.install_bridge(node).await;
    let log = apart.refuses_to_start().await;
    let why = log.lines().find(|line| line.contains("this Gerrit must not start")).expect("a reason");
    assert!(why.contains("serverId"), "{why}");

    // The site that was copied from the first one still starts.
    sites.servers[1].run().await;
}

/// No two available releases differ in their schema version, so the test writes what the `init` of a later release
/// would.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_schema_version_that_init_raised_reaches_every_site_and_stops_those_that_roll_not() {
    const VERSION: &str = "refs/meta/version";
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    sites.servers[1].stop().await;
    let repository = sites.cluster.nodes[1].repository("All-Projects");
    let raised = behind::blob(&repository, "999");
    behind::set(&repository, VERSION, Some(&raised));
    sites.servers[1].set("gerrit.experimentalRollingUpgrade", "true").await;
    sites.servers[1].run().await;
    let truth = converged(&sites.cluster, "All-Projects").await;
    assert_eq!(truth.refs.get(VERSION), Some(&raised), "the version must be committed and applied at both sites");

    // The running one serves on. It starts again only with the setting that allows different releases.
    sites.servers[0].create("p").await;
    in_lockstep(&sites, "p").await;
    sites.servers[0].kill().await;
    let log = sites.servers[0].refuses_to_start().await;
    assert!(log.contains("Unsupported schema version 999"), "{log}");
    sites.servers[0].set("gerrit.experimentalRollingUpgrade", "true").await;
    sites.servers[0].run().await;
    in_lockstep(&sites, "p").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_replica_starts_with_the_bridge_and_is_told_what_is_new() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    sites.servers[1].stop().await;
    sites.servers[1].make_replica().await;
    sites.servers[1].run().await;
    sites.servers[0].create("p").await;
    let user = sites.user(0, "p").await;
    let _ = user.commit("file", "one\n", "First").await;
    let _ = user.review("master").await;
    converged(&sites.cluster, "p").await;
    sites.cluster.nodes[1].refreshes(|refresh| refresh.due == 0 && refresh.last_error.is_none()).await;
}
