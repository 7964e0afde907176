//! Hooks that are not in force are noticed, and so is their return.

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{git, ok};
use lockstep_tests::e2e::until;

use crate::life::get;
use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_are_not_in_force_are_in_the_status_and_in_the_metrics_until_they_are() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    cluster.create("p").await;
    cluster.create("q").await;
    let a = &cluster.nodes[0];
    let path = a.repository("p").display().to_string();
    let off = async || a.status().await.map(|status| status.guards_off).unwrap_or_default();
    let count = async || {
        let metrics = get(a.health, "/metrics").await;
        let line = metrics.lines().find(|line| line.starts_with("lockstep_guards_off")).map(str::to_owned);
        line.and_then(|line| line.rsplit_once(' ').map(|(_, value)| value.to_owned()))
    };
    assert_eq!(off().await, []);
    // The host's settings come too late: the repository has its own.
    let _ = ok(git(&a.home, &["config", "--global", "core.hooksPath", "/nowhere"]).await);
    let _ = ok(git(&a.repository("p"), &["config", "core.hooksPath", "/nowhere"]).await);
    let noticed = until(async || off().await.first().cloned()).await.expect("a notice");
    assert_eq!((noticed.project.as_str(), off().await.len()), ("p", 1));
    assert!(noticed.reason.contains("/nowhere") && noticed.reason.contains("lockstep hook install"), "{noticed:?}");
    assert!(ok(a.cli(&["status"]).await).contains("hooks of p are not in force"));
    assert_eq!(count().await, Some("1".to_owned()));
    let _ = ok(a.cli(&["hook", "install", &path]).await);
    assert!(until(async || off().await.is_empty().then_some(())).await.is_some());
    assert_eq!(count().await, Some("0".to_owned()));
    let _ = ok(a.cli(&["hook", "uninstall", &path]).await);
    assert!(until(async || off().await.first().cloned()).await.expect("a notice").reason.contains("not installed"));
}
