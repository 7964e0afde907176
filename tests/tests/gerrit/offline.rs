//! Gerrit's offline programs beside a sidecar. They load the bridge's repository manager, so their writes are commits
//! at every site. Without a sidecar, and at a standby, they end with the reason, and change nothing.

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::Login;
use lockstep_tests::e2e::git::{ok, text};
use lockstep_tests::e2e::verify::converged;
use serde_json::json;

use crate::failover::make_standby;
use crate::lockstep;

/// The program moves the external id of each user name that is not in lower case, because the name of its note depends
/// on this setting. Other user names keep their notes, so the program finds nothing to write for them.
const PROGRAM: &str = "ChangeExternalIdCaseSensitivity";
const SETTING: &str = "auth.userNameCaseInsensitive";
const REF: &str = "refs/meta/external-ids";
const JO: Login<'_> = Login("Jo", "s3cret");

/// Runs the program at a site. It must fail, with words that tell its user the reason, and that nothing was changed.
async fn fails_at(sites: &Sites, at: usize, reason: &str) {
    let ended = sites.servers[at].program(PROGRAM, &["--batch"]).await;
    let said = text(&ended);
    assert!(!ended.status.success(), "{said}");
    assert!(said.contains(reason) && said.to_lowercase().contains("nothing was changed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn an_offline_program_commits_at_every_site_or_says_why_not() {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let _ = sites.servers[0].rest("PUT", "/accounts/Jo", &json!({"http_password": JO.1})).await.json();
    sites.servers[0].create("p").await;
    let before = in_lockstep(&sites, "p").await;
    make_standby(&sites.cluster, "b").await;
    for server in &mut sites.servers {
        server.stop().await;
    }
    let users = converged(&sites.cluster, "All-Users").await;
    let setting = sites.servers[0].setting(SETTING).await;

    fails_at(&sites, 1, "write to a, which is active").await;
    let _ = sites.cluster.nodes[0].stop().await;
    fails_at(&sites, 0, "cannot be reached").await;
    sites.cluster.nodes[0].start(None);
    sites.cluster.ready().await;
    assert_eq!(converged(&sites.cluster, "All-Users").await.refs, users.refs);
    assert_eq!(sites.servers[0].setting(SETTING).await, setting, "a program that failed changes no setting");

    let _ = ok(sites.servers[0].program(PROGRAM, &["--batch"]).await);
    let after = converged(&sites.cluster, "All-Users").await;
    assert_ne!(after.refs.get(REF), users.refs.get(REF), "the program's commit is at both sites");
    // The program changes the setting of its own site. The other sites need the same.
    let changed = sites.servers[0].setting(SETTING).await;
    assert_ne!(changed, setting);
    sites.servers[1].set(SETTING, &changed).await;
    for server in &mut sites.servers {
        server.start();
    }
    for server in &mut sites.servers {
        server.ready().await;
    }
    for server in &sites.servers {
        server.answers(JO, "/accounts/self", 200).await;
    }
    assert_eq!(in_lockstep(&sites, "p").await.refs, before.refs);
}
