//! Gerrit's offline programs beside a sidecar. They load the bridge's repository manager, so their writes are commits at
//! every site, and at a standby they are refused.

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::Login;
use lockstep_tests::e2e::git::{ok, text};
use lockstep_tests::e2e::verify::converged;
use serde_json::json;

use crate::failover::make_standby;
use crate::lockstep;

/// The program rewrites the external ids of all accounts.
const PROGRAM: &str = "ChangeExternalIdCaseSensitivity";
const REF: &str = "refs/meta/external-ids";
const SETTING: &str = "auth.userNameCaseInsensitive";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn an_offline_program_commits_at_every_site_and_is_refused_at_a_standby() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let _ = sites.servers[0].rest("PUT", "/accounts/jo", &json!({"http_password": "s3cret"})).await.json();
    sites.servers[0].create("p").await;
    let before = in_lockstep(&sites, "p").await;
    make_standby(&sites.cluster, "b").await;
    for server in &mut sites.servers {
        server.stop().await;
    }
    let users = converged(&sites.cluster, "All-Users").await;

    let refused = sites.servers[1].program_with(PROGRAM, &["--batch"]).await;
    assert!(!refused.status.success(), "{}", text(&refused));
    assert!(text(&refused).contains("write to a, which is active"), "{}", text(&refused));
    assert_eq!(converged(&sites.cluster, "All-Users").await.refs, users.refs);

    let _ = sites.cluster.nodes[0].stop().await;
    let away = sites.servers[0].program_with(PROGRAM, &["--batch"]).await;
    assert!(!away.status.success() && text(&away).contains("cannot be reached"), "{}", text(&away));
    sites.cluster.nodes[0].start(None);
    sites.cluster.nodes[0].ready().await;
    assert_eq!(converged(&sites.cluster, "All-Users").await.refs, users.refs);

    let _ = ok(sites.servers[0].program_with(PROGRAM, &["--batch"]).await);
    let after = converged(&sites.cluster, "All-Users").await;
    assert_ne!(after.refs.get(REF), users.refs.get(REF), "the program's commit is at both sites");
    // The program changes the setting of its own site. The other sites need the same.
    let value = sites.servers[0].setting(SETTING).await;
    sites.servers[1].set(SETTING, &value).await;
    for server in &mut sites.servers {
        server.start();
    }
    for server in &mut sites.servers {
        server.ready().await;
    }
    for server in &sites.servers {
        server.answers(Login("jo", "s3cret"), "/accounts/self", 200).await;
    }
    assert_eq!(in_lockstep(&sites, "p").await.refs, before.refs);
}
