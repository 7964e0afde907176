//! Lockstep is switched off at a site, its users push to the repositories without it, and it is switched on again.

use lockstep_proto::failover::{Role, SitesStatus};
use lockstep_proto::site_list::ComingBack;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, git, ok, refuses};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";

async fn site_a(node: &Node) -> (Role, u64, bool) {
    let status: SitesStatus = serde_json::from_str(&ok(node.cli(&["sites", "--json"]).await)).expect("JSON");
    let site = status.sites.into_iter().find(|site| site.site.as_str() == "a").expect("site a");
    (site.role, site.epoch, site.off)
}

/// Switches site `a` off or on. The nodes may have to tell first that they obey.
async fn switch(node: &Node, mode: &[&str]) {
    let epoch = site_a(node).await.1.to_string();
    let args = [&["site", "mode", "a"], mode, &["--expect-epoch", &epoch, "--reason", "a trial"]].concat();
    let taken = async || node.cli(&args).await.status.success().then_some(());
    assert!(until(taken).await.is_some(), "{}", fails(node.cli(&args).await));
}

async fn push(clone: &Clone, node: &Node, refspecs: &[&str]) {
    let _ = ok(clone.push(&node.repository("p"), &["--force"], refspecs).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_the_time_in_which_lockstep_was_off_are_not_lost() {
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let [a, b] = &mut cluster.nodes[..] else { unreachable!() };
    let all = [MAIN, "refs/heads/both", "refs/heads/gone"].map(|name| format!("{first}:{name}"));
    push(&clone, a, &all.each_ref().map(String::as_str)).await;

    // Off: the node ends, and its next life takes no part.
    switch(b, &["off"]).await;
    assert_eq!(site_a(b).await, (Role::Fenced, 2, true));
    let _ = a.end().await;
    a.start(None);
    let told = async || {
        let status = a.status().await.filter(|status| !status.ready)?;
        status.last_errors.iter().any(|error| error.message.contains("Lockstep is off at site a")).then_some(())
    };
    assert!(until(told).await.is_some(), "{}", a.log_tail());
    let (second, ours, theirs) =
        (clone.commit(Some(&first), "two"), clone.commit(Some(&first), "ours"), clone.commit(Some(&first), "theirs"));
    let refused = fails(clone.push(&a.repository("p"), &[], &[&format!("{second}:{MAIN}")]).await);
    assert!(refused.contains("Lockstep is off at site a"), "{refused}");
    refuses(b.cli(&["site", "role", "a", "standby", "--expect-epoch", "2", "--reason", "no"]).await, "is off at a");
    refuses(b.cli(&["failover", "plan", "--from", "b", "--to", "a"]).await, "Lockstep is off at a; switch it on first");

    // Users push without Lockstep, and at the other site with it.
    let _ = a.stop().await;
    let path = a.repository("p").display().to_string();
    let _ = ok(a.cli(&["hook", "uninstall", &path]).await);
    push(&clone, a, &[&format!("{second}:{MAIN}"), &format!("{ours}:refs/heads/both")]).await;
    push(&clone, a, &[&format!("{second}:refs/heads/fresh"), ":refs/heads/gone"]).await;
    push(&clone, b, &[&format!("{theirs}:refs/heads/both")]).await;

    // On again: their values are on the disk, and nobody else writes until it is committed.
    let _ = ok(a.cli(&["hook", "install", &path]).await);
    a.start(None);
    let without_role = ["site", "mode", "a", "active", "--expect-epoch", "2", "--reason", "no"];
    refuses(b.cli(&without_role).await, "role is missing, and b is active");
    switch(b, &["active", "--role", "active"]).await;
    assert_eq!(site_a(b).await, (Role::Active, 3, false));
    let compared =
        |back: &ComingBack| back.has_compared_all() && back.differ.first().is_some_and(|one| one.refs == Some(3));
    a.reports(|status| status.coming_back.as_ref().is_some_and(compared)).await;
    let shown = ok(a.cli(&["status"]).await);
    assert!(shown.contains("not ready, waiting for: ") && shown.contains("came-back"), "{shown}");
    assert!(shown.contains("1 of 1 projects compared, 1 differ\n  p: 3 refs, refs/heads/fresh\n"), "{shown}");
    let third = clone.commit(Some(&second), "three");
    let refused = fails(clone.push(&a.repository("p"), &[], &[&format!("{third}:{MAIN}")]).await);
    assert!(refused.contains("lockstep seed --again p"), "{refused}");
    let named = a.cli(&["seed", "p"]).await;
    assert_eq!(named.status.code(), Some(3), "{named:?}");
    refuses(named, "refs/heads/gone is absent on the disk");

    let said = ok(a.cli(&["seed", "--again"]).await);
    assert!(said.contains("p: open; 3 refs on the disk = refdb"), "{said}");
    assert!(said.contains("p: 1 values are kept as strays: `lockstep stray list p`"), "{said}");
    a.ready().await;
    let listed = ok(a.cli(&["stray", "list", "p"]).await);
    assert!(listed.contains(&ours) && listed.contains("refs/heads/both"), "{listed}");
    push(&clone, a, &[&format!("{third}:{MAIN}")]).await;
    let history = ok(b.cli(&["history"]).await);
    assert!(history.contains("site a switched off") && history.contains("site a switched on as active"), "{history}");
    let truth = converged(&cluster, "p").await;
    let value = |name: &str| truth.refs.get(name).cloned();
    assert_eq!((value(MAIN), value("refs/heads/fresh"), value("refs/heads/gone")), (Some(third), Some(second), None));
    assert_eq!(value("refs/heads/both"), Some(theirs));
    let kept = git(&cluster.nodes[0].repository("p"), &["cat-file", "-e", &ours]).await;
    assert!(kept.status.success(), "the value that gave way is still there");
}
