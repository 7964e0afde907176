//! A fourth site joins three running ones, takes the writes for a while, and is removed again. No other process is
//! restarted.

use std::process::Output;
use std::time::Duration;

use lockstep_proto::failover::{Role, SiteStatus, SitesStatus};
use lockstep_proto::history::{History, PastChange};
use lockstep_proto::overview::Overview;
use lockstep_proto::site_list::ListChange;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::documented;
use lockstep_tests::e2e::git::{Clone, fails, ok, refuses};
use lockstep_tests::e2e::load::Load;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;

use crate::failover::{commits_more, fail_over, pair};
use crate::lockstep;

async fn sites(node: &Node) -> SitesStatus {
    serde_json::from_str(&ok(node.cli(&["sites", "--json"]).await)).expect("JSON")
}

async fn site(node: &Node, name: &str) -> Option<SiteStatus> {
    sites(node).await.sites.into_iter().find(|site| site.site.as_str() == name)
}

/// Waits until a change of the list is taken. Digests, and the end of commits, may have to come first.
async fn changes(node: &Node, args: &[&str]) -> Output {
    let taken = async || Some(node.cli(args).await).filter(|output| output.status.success());
    match until(taken).await {
        Some(output) => output,
        None => panic!("{}", fails(node.cli(args).await)),
    }
}

async fn push(clone: &Clone, node: &Node, before: Option<&str>, text: &str) -> String {
    let commit = clone.commit(before, text);
    let taken = async || {
        clone
            .push(&node.repository("p"), &[], &[&format!("{commit}:refs/heads/{text}")])
            .await
            .status
            .success()
            .then_some(())
    };
    assert!(until(taken).await.is_some(), "{} takes no push\n{}", node.name, node.log_tail());
    commit
}

async fn joins(cluster: &mut Cluster) {
    cluster.another(lockstep(), "d-0").await;
    let (endpoint, [others @ .., new]) = (cluster.kinesis.endpoint(), &mut cluster.nodes[..]) else { unreachable!() };
    new.start(None);
    // A site that nobody has added takes no part, although its configuration says otherwise.
    let told = async || {
        let status = new.status().await?;
        status.last_errors.iter().any(|error| error.message.contains("lockstep site add d")).then_some(())
    };
    assert!(until(told).await.is_some(), "{}", new.log_tail());
    assert!(site(&others[0], "d").await.is_none());
    let add = ["site", "add", "d", "--stream-endpoint", &endpoint, "--reason", "a fourth site"];
    // With a long way to the refdb, the new node takes long enough for everything to be seen at it.
    new.wire.lengthen(Duration::from_millis(700));
    documented("lockstep site add d --reason 'a fourth site'", &changes(&others[1], &add).await);
    let own = async || ok(new.cli(&["status"]).await);
    let is_estimated =
        |line: &str| line.starts_with("takes everything from the refdb and from peers: ") && line.ends_with(" s left");
    let tells = until(async || own().await.lines().any(is_estimated).then_some(())).await;
    assert!(tells.is_some(), "{}\n{}", own().await, new.log_tail());
    let is_shown = async || {
        let shown = ok(others[1].cli(&["sites"]).await);
        let is_estimated = |line: &str| line.contains("joins: ") && line.ends_with(" s left");
        shown.lines().any(|line| line.trim_start().starts_with("d-0 ") && is_estimated(line)).then_some(())
    };
    assert!(until(is_shown).await.is_some(), "{:?}\n{}", others[1].cli(&["sites"]).await, new.log_tail());
    new.wire.lengthen(Duration::ZERO);
    new.ready().await;
    refuses(others[1].cli(&add).await, "in the list of sites already");
    for node in others.iter() {
        let shows = async || site(node, "d").await.filter(|d| (d.role, d.nodes.len()) == (Role::Standby, 1));
        assert!(until(shows).await.is_some(), "{}: {:?}", node.name, site(node, "d").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_site_joins_takes_writes_and_is_removed_again() {
    let mut cluster = pair().await;
    // A rest that can be estimated.
    for number in 1..=3 {
        cluster.create(&format!("rest-{number}")).await;
    }
    let load = Load::start(&cluster, "p", &[0, 1, 2], 3, 3);
    joins(&mut cluster).await;
    commits_more(&cluster.nodes[0]).await;
    fail_over(&cluster.nodes[1], "a", "d", &[]).await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = push(&clone, &cluster.nodes[3], None, "of-d").await;
    // The others read the stream of d, and were not restarted for it.
    cluster.show("p", "refs/heads/of-d", Some(&first)).await;
    // A digest tells it with the next beat of its node.
    let all_read_d = async || {
        let shown = cluster.nodes[2].cli(&["status", "--all", "--json"]).await;
        let all: Overview = serde_json::from_slice(&shown.stdout).ok()?;
        let reads = |name: &str| {
            let mut nodes = all.sites.iter().flat_map(|site| &site.nodes);
            let digest = nodes.find(|node| node.node.as_str() == name).and_then(|node| node.digest.as_ref());
            digest.is_some_and(|digest| digest.streams.iter().any(|stream| stream.site.as_str() == "d"))
        };
        (reads("a-0") && reads("b-0") && reads("c-0")).then_some(())
    };
    assert!(until(all_read_d).await.is_some(), "{:?}", cluster.nodes[2].cli(&["status", "--all"]).await);
    let [a, b, c, d] = &mut cluster.nodes[..] else { unreachable!() };
    let epoch = site(a, "d").await.expect("d").epoch.to_string();
    let remove = ["site", "remove", "d", "--expect-epoch", &epoch, "--reason", "closed"];
    let refused = a.cli(&remove).await;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    refuses(refused, "d is active; move its writes with `lockstep failover`");

    fail_over(a, "d", "a", &[]).await;
    let epoch = site(a, "d").await.expect("d").epoch.to_string();
    let removed = changes(a, &["site", "remove", "d", "--expect-epoch", &epoch, "--reason", "closed"]).await;
    documented("lockstep site remove d --expect-epoch 4 --reason 'closed'", &removed);
    for node in [&*a, &*b, &*c] {
        let is_removed =
            |shown: &SitesStatus| shown.removed.iter().any(|site| site.as_str() == "d") && shown.sites.len() == 3;
        let shows = until(async || is_removed(&sites(node).await).then_some(())).await;
        assert!(shows.is_some(), "{}: {:?}", node.name, sites(node).await);
    }
    // Its node is expelled, ends, and does not come back.
    let _ = d.end().await;
    d.start(None);
    let told = async || {
        let status = d.status().await?;
        status
            .last_errors
            .iter()
            .any(|error| error.message.contains("was removed from the list of sites"))
            .then_some(())
    };
    assert!(until(told).await.is_some(), "{}", d.log_tail());
    let second = clone.commit(Some(&first), "two");
    let refused = fails(clone.push(&d.repository("p"), &[], &[&format!("{second}:refs/heads/late")]).await);
    assert!(refused.contains("was removed from the list of sites"), "{refused}");
    d.kill().await;
    drop(cluster.nodes.pop().expect("d"));

    // Nothing waits for it.
    let _ = ok(cluster.nodes[0].cli(&["project", "create", "q"]).await);
    cluster.exists("q").await;
    let _ = ok(cluster.nodes[0].cli(&["project", "delete", "q", "--yes"]).await);
    let ledger = load.stop().await;
    ledger.check(&converged(&cluster, "p").await, &cluster.nodes[2].repository("p"));
    let history: History = serde_json::from_str(&ok(cluster.nodes[1].cli(&["history", "--json"]).await)).expect("JSON");
    let changes: Vec<ListChange> = history
        .past
        .iter()
        .filter_map(|one| match one {
            PastChange::Role(change) if change.done == Some(true) => change.list,
            _ => None,
        })
        .collect();
    assert_eq!(changes, [ListChange::Removed, ListChange::Added]);
    let text = ok(cluster.nodes[1].cli(&["history"]).await);
    assert!(text.contains("site d added as standby") && text.contains("site d removed"), "{text}");
}
