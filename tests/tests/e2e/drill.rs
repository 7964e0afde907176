//! Guards and probes of failovers, drills and the preflight, with real sidecars. The page docs/failover.md shows
//! outputs of this shape.

use std::process::Output;

use lockstep_proto::drill::{Drills, Preflight};
use lockstep_proto::failover::{FailoverPlan, FailoverStep, OUTSIDE_REFS, Role, SitesStatus};
use lockstep_tests::e2e::documented::{documented, documented_soon};
use lockstep_tests::e2e::git::{Clone, contains, done, fails, ok, refuses, text};
use lockstep_tests::e2e::load::Load;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::converged;
use lockstep_tests::e2e::{PATIENCE, until};

use crate::damaged::measures;
use crate::failover::{fail_over, pair};

const MAIN: &str = "refs/heads/main";

async fn sites(node: &Node) -> SitesStatus {
    serde_json::from_str(&ok(node.cli(&["sites", "--json"]).await)).expect("JSON")
}

async fn hash(node: &Node, options: &[&str]) -> String {
    let args = [&["failover", "plan", "--json", "--from", "a", "--to", "b"], options].concat();
    let plan: FailoverPlan = serde_json::from_str(&ok(node.cli(&args).await)).expect("JSON");
    plan.hash
}

/// A ref of the target differs, so the planned failover holds before anything is changed, and the operator decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_at_the_target_holds_a_planned_failover_before_the_source_is_stopped() {
    let cluster = pair().await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let second = clone.commit(Some(&first), "two");
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    for value in [&first, &second] {
        let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{value}:{MAIN}")]).await);
    }
    cluster.show("p", MAIN, Some(&second)).await;
    let path = b.repository("p").join(MAIN);
    std::fs::write(&path, format!("{first}\n")).expect("a write");
    let before = sites(a).await.sites;
    let execute = async |options: &[&str]| {
        let hash = hash(b, options).await;
        let args = ["failover", "execute", "--from", "a", "--to", "b", "--reason", "t", "--yes", "--plan-hash", &hash];
        b.cli(&[&args[..], options].concat()).await
    };
    let held = execute(&[]).await;
    assert_eq!(held.status.code(), Some(2), "{held:?}");
    let said = text(&held);
    assert!(said.contains("paused before stop: 1 refs of b-0 differ from the refdb"), "{said}");
    let ways = "`lockstep failover resume --reason TEXT` goes on, `lockstep failover abort --reason TEXT` ends it";
    assert!(said.contains(ways), "{said}");
    measures(a, "lockstep_failover_held 1").await;
    let _ = ok(b.cli(&["failover", "abort", "--reason", "look at it first"]).await);
    let ended = async || sites(b).await.failover.filter(|failover| failover.end.is_some());
    assert!(until(ended).await.is_some(), "it was not aborted");
    assert_eq!(sites(a).await.sites.iter().map(|site| site.epoch).collect::<Vec<_>>(), {
        before.iter().map(|site| site.epoch).collect::<Vec<_>>()
    });
    // Without the verification, it goes on at once.
    let _ = done(execute(&["--without", "verify"]).await);
    std::fs::write(&path, format!("{second}\n")).expect("a write");
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_stop_a_failover_and_failback_is_the_way_back() {
    let cluster = pair().await;
    let b = &cluster.nodes[1];
    let _ = documented_soon(b, "lockstep failover plan --from a --to b").await;
    let none = b.cli(&["failback", "plan"]).await;
    assert_eq!(none.status.code(), Some(3), "{none:?}");
    let plan_hash = hash(b, &[]).await;
    let args = ["failover", "execute", "--from", "a", "--to", "b", "--reason", "t", "--yes", "--plan-hash", &plan_hash];
    let other = b.cli(&[&args[..], &["--expect-active", "c"]].concat()).await;
    assert_eq!(other.status.code(), Some(3), "{other:?}");
    refuses(other, "--expect-active c: active now: a; nothing was changed");
    let bounded = hash(b, &["--max-loss", "0"]).await;
    assert!(bounded != plan_hash, "the hash covers the accepted loss");
    let _ = done(b.cli(&[&args[..], &["--expect-active", "a"]].concat()).await);
    let _ = documented_soon(b, "lockstep failback plan").await;
    let back: FailoverPlan = serde_json::from_str(&ok(b.cli(&["failback", "plan", "--json"]).await)).expect("JSON");
    assert_eq!((back.from.as_str(), back.to.as_str()), ("b", "a"));
    let args = ["failback", "execute", "--reason", "over", "--yes", "--plan-hash", &back.hash];
    let _ = done(b.cli(&args).await);
    let roles: Vec<Role> = sites(b).await.sites.iter().map(|site| site.role).collect();
    assert_eq!(roles, [Role::Active, Role::Standby, Role::Standby]);
}

/// The node pushes to the probe project through git and its hooks, as a user does.
#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_a_failover_stops_when_a_user_can_push_and_fetch() {
    let mut cluster = pair().await;
    cluster.create("probe").await;
    for node in &mut cluster.nodes {
        let _ = node.stop().await;
        // Site c has the wrong path.
        let project = if node.site == "c" { "absent" } else { "probe" };
        let url = node.repository(project).display().to_string();
        node.add_settings(&format!("[probes]\ngit = {url:?}\ntimeout = \"10s\"\n"));
        node.start(None);
    }
    cluster.ready().await;
    let [a, b, c] = &cluster.nodes[..] else { panic!("three nodes") };
    let is_left_out = async || red(a, "probes").await.is_none().then_some(());
    assert!(until(is_left_out).await.is_some(), "drills run those of a node that takes writes");
    assert_eq!(red(b, "probes").await, Some(Vec::new()));
    let found = red(c, "probes").await.unwrap_or_default();
    assert!(found.len() == 1 && found[0].starts_with("fetch of c-0: "), "{found:?}");
    let refused = fails(c.cli(&["drill", "--to", "c"]).await);
    assert!(refused.contains("the preflight is red: ") && refused.contains("fetch of c-0: "), "{refused}");
    let (text, _) = fail_over(&cluster.nodes[1], "a", "b", &[]).await;
    assert!(!text.contains("the commit path only"), "{text}");
    assert!(text.contains("1 of 1 nodes of b are green") && text.contains("its probes were green after"), "{text}");
    let failover = sites(&cluster.nodes[1]).await.failover.expect("a failover");
    let probed = &failover.probed[&"b-0".parse().unwrap()];
    let names: Vec<&str> = probed.probes.iter().map(|one| one.probe.as_str()).collect();
    assert_eq!(names, ["commit", "push", "fetch"]);
    let end = failover.end.as_ref().expect("an end");
    assert!(end.green_ms >= end.recovery_ms && end.green_ms.is_some(), "{end:?}");
    let refs = lockstep_tests::e2e::git::refs(&cluster.nodes[1].repository("probe")).await.expect("refs");
    let first = refs.get("refs/heads/lockstep-probe/b-0").expect("a commit of the probe");

    // The next push of the node is on top of the first one, which it has fetched.
    let _ = fit(&cluster.nodes[1], "a").await;
    let again = drill(&cluster.nodes[1], &["--to", "a", "--reason", "again"]).await;
    assert!(again.status.success(), "{again:?}");
    let refs = lockstep_tests::e2e::git::refs(&cluster.nodes[1].repository("probe")).await.expect("refs");
    let second = refs.get("refs/heads/lockstep-probe/b-0").expect("a commit of the probe");
    assert!(second != first && contains(&cluster.nodes[1].repository("probe"), second, first), "{first} {second}");

    // A project that takes no pushes is red. The failover is done all the same, and says so.
    let hooks = cluster.nodes[0].repository("probe").join("hooks");
    std::fs::remove_dir_all(&hooks).expect("hooks");
    let plan: FailoverPlan =
        serde_json::from_str(&ok(cluster.nodes[0].cli(&["failback", "plan", "--json"]).await)).expect("JSON");
    let args = ["failback", "execute", "--reason", "red", "--yes", "--plan-hash", &plan.hash];
    let red = cluster.nodes[0].cli(&args).await;
    assert_eq!(red.status.code(), Some(2), "{red:?}");
    assert!(String::from_utf8_lossy(&red.stdout).contains("BUT ITS PROBES ARE RED"), "{red:?}");
}

async fn drills(node: &Node) -> Drills {
    serde_json::from_str(&ok(node.cli(&["drill", "history", "--json"]).await)).expect("JSON")
}

/// The faults that a check of the preflight finds at a node. None if the node does not make that check.
async fn red(node: &Node, check: &str) -> Option<Vec<String>> {
    let ask = async || node.cli(&["preflight", "--to", &node.site, "--json"]).await;
    let found = until(async || serde_json::from_slice::<Preflight>(&ask().await.stdout).ok()).await.expect("an answer");
    found.checks.into_iter().find(|one| one.check == check).map(|one| one.red)
}

/// Waits until the preflight is green: each node has left a digest. Returns its output.
async fn fit(node: &Node, to: &str) -> Output {
    let preflight = async || node.cli(&["preflight", "--to", to]).await;
    match until(async || Some(preflight().await).filter(|output| output.status.success())).await {
        Some(green) => green,
        None => panic!("not within {PATIENCE:?}: {:?}\n{}", preflight().await, node.log_tail()),
    }
}

/// Runs a drill. One that is refused because a digest or a heartbeat is late is asked for again.
async fn drill(node: &Node, options: &[&str]) -> Output {
    let args = [&["drill"], options].concat();
    let ran = until(async || Some(node.cli(&args).await).filter(|output| output.status.code() != Some(3))).await;
    match ran {
        Some(output) => output,
        None => panic!("refused for {PATIENCE:?}: {:?}\n{}", node.cli(&args).await, node.log_tail()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drills_run_beside_traffic_and_an_injected_failure_turns_them_red() {
    let cluster = pair().await;
    let b = &cluster.nodes[1];
    let load = Load::start(&cluster, "p", &[0], 2, 9);
    documented("lockstep preflight --to b", &fit(b, "b").await);
    let before = sites(b).await;
    for node in [&cluster.nodes[0], b] {
        let green = drill(node, &["--to", "b", "--reason", "before the maintenance"]).await;
        assert_eq!(green.status.code(), Some(0), "{green:?}");
        documented("lockstep drill --to b --reason 'before the maintenance'", &green);
    }
    measures(b, r#"lockstep_drill_green{kind="planned"} 1"#).await;
    measures(b, r#"lockstep_failover_safe{to="b"} 1"#).await;
    for (step, options) in [(FailoverStep::Settle, &["--forced"][..]), (FailoverStep::Verify, &[])] {
        let red = drill(b, &[&["--to", "b", "--fail-in", step.name()], options].concat()).await;
        assert_eq!(red.status.code(), Some(2), "{red:?}");
        let head = format!(", fail in: {0}): RED, as it was told to fail in {0}\n", step.name());
        assert!(String::from_utf8_lossy(&red.stdout).contains(&head), "{red:?}");
        if step == FailoverStep::Settle {
            documented("lockstep drill history", &b.cli(&["drill", "history"]).await);
        }
    }
    // The alarm would ring, at a node that has driven none of the red ones too.
    for kind in ["planned", "forced"] {
        measures(&cluster.nodes[0], &format!("lockstep_drill_green{{kind=\"{kind}\"}} 0")).await;
    }
    let all = drills(b).await;
    assert_eq!(all.past.iter().map(|one| one.number).collect::<Vec<_>>(), [4, 3, 2, 1]);
    assert!(all.past[3].is_green() && all.past[3].lost == 0 && all.past[3].green_ms.is_some(), "{all:?}");
    assert!(all.past[1].red.iter().any(|why| why.contains("the fencing has failed")), "{all:?}");
    let after = sites(b).await;
    let roles = |status: &SitesStatus| status.sites.iter().map(|one| (one.role, one.epoch)).collect::<Vec<_>>();
    assert_eq!((roles(&before), after.failover.is_none()), (roles(&after), true), "no real site has changed");
    let ledger = load.stop().await;
    ledger.check(&converged(&cluster, "p").await, &b.repository("p"));
}

/// A preflight names each fault, and a drill is refused while it is red.
#[tokio::test(flavor = "multi_thread")]
async fn a_red_preflight_refuses_drills() {
    let mut cluster = pair().await;
    let _ = fit(&cluster.nodes[2], "b").await;
    cluster.nodes[1].kill().await;
    let c = &cluster.nodes[2];
    let of = |found: &Preflight, name: &str| {
        found.checks.iter().find(|check| check.check == name).expect("the check").red.clone()
    };
    // It may be red for another reason first, such as an old digest or a slow refdb.
    let red = until(async || {
        let output = c.cli(&["preflight", "--to", "b", "--json"]).await;
        let found: Preflight = serde_json::from_slice(&output.stdout).ok()?;
        let is_dead = of(&found, "target").first().is_some_and(|why| why.starts_with("no node of b has a heartbeat"));
        let is_all = is_dead && of(&found, "refdb").is_empty();
        (output.status.code() == Some(2) && !found.is_green() && is_all).then_some(found)
    });
    let last = async || c.cli(&["preflight", "--to", "b"]).await;
    assert!(red.await.is_some(), "it does not name the dead target: {:?}\n{}", last().await, c.log_tail());
    let refused = c.cli(&["drill", "--to", "b"]).await;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    refuses(refused, "the preflight is red: ");
    assert!(drills(c).await.past.is_empty());
    // Drills are begun by operators alone: the socket of the bridge refuses them.
    let request = serde_json::json!({"kind": "planned", "from": "a", "to": "b", "reason": "r"});
    let forbidden = c.call::<_, serde_json::Value>("/v1/drills", &request).await.expect_err("operators only");
    assert!(forbidden.to_string().contains("on the operators' socket"), "{forbidden}");
}

#[test]
fn the_page_has_the_table_of_data_outside_of_refs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/failover.md");
    let page = std::fs::read_to_string(path).expect("the page");
    for [name, fate, note] in OUTSIDE_REFS {
        assert!(page.contains(&format!("| {name} | {fate} | {note} |")), "docs/failover.md lacks the row of {name}");
    }
}
