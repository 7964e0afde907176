//! A Gerrit that does not belong here does not start, and says why.

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::server::Server;

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

    // The one that was born from the first site starts still.
    sites.servers[1].run().await;
}
