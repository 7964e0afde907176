//! Failovers of real sidecars under load: planned and back, forced after SIGKILL, and what operators see and may do.

use std::time::Duration;

use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverAct, FailoverKind, FailoverPlan, FailoverStep, PlanRequest, Role,
    SitesStatus,
};
use lockstep_proto::status::{NodeStatus, UncommittedUpdate};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::{documented_run, documented_text};
use lockstep_tests::e2e::git::{Clone, done, fails, ok, refuses};
use lockstep_tests::e2e::load::Load;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::converged;
use lockstep_tests::e2e::{PATIENCE, until};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::lockstep;

const MAIN: &str = "refs/heads/main";
/// A ref that nobody else writes.
const LATE: &str = "refs/heads/late";
/// How long a push may take that a site refuses because of its role, git's own time included.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Three sites, of which `a` is active and the others stand by.
pub async fn pair() -> Cluster {
    standbys(Cluster::start(lockstep(), &["a-0", "b-0", "c-0"]).await).await
}

/// The same, beside no Gerrit. A failover has nothing to refresh.
pub async fn plain_pair() -> Cluster {
    standbys(Cluster::start_plain(lockstep(), &["a-0", "b-0", "c-0"]).await).await
}

/// Makes the sites `b` and `c` standbys beside `a`.
pub async fn standbys(cluster: Cluster) -> Cluster {
    cluster.create("p").await;
    for site in ["b", "c"] {
        let args = ["site", "role", site, "standby", "--expect-epoch", "1", "--reason", "one active site"];
        let _ = ok(cluster.nodes[0].cli(&args).await);
    }
    for node in &cluster.nodes[1..] {
        node.reports(|status| status.role == "standby" && status.ready).await;
    }
    cluster
}

/// The sites, as a node shows them.
pub async fn sites(node: &Node) -> SitesStatus {
    serde_json::from_str(&ok(node.cli(&["sites", "--json"]).await)).expect("JSON")
}

pub async fn roles(node: &Node) -> Vec<Role> {
    sites(node).await.sites.iter().map(|site| site.role).collect()
}

/// Plans a failover, once nothing blocks it: the roles and heartbeats of all nodes may have to be seen first.
pub async fn plan(node: &Node, from: &str, to: &str, options: &[&str]) -> FailoverPlan {
    let args = [&["failover", "plan", "--json", "--from", from, "--to", to], options].concat();
    let planned = until(async || Some(node.cli(&args).await).filter(|output| output.status.success())).await;
    let Some(planned) = planned else {
        panic!("blocked for {PATIENCE:?}: {:?}\n{}", node.cli(&args).await, node.log_tail());
    };
    serde_json::from_str(&ok(planned)).expect("JSON")
}

/// Waits until a node has committed some transactions of a load.
pub async fn commits_more(node: &Node) {
    let before = until(async || node.status().await).await.expect("it answers").counters.committed;
    node.reports(|status| status.counters.committed >= before + 5).await;
}

/// Executes a failover as an operator does. Answers the output, and the time that it took.
pub async fn fail_over(node: &Node, from: &str, to: &str, options: &[&str]) -> (String, Duration) {
    let hash = plan(node, from, to, options).await.hash;
    let args = ["failover", "execute", "--from", from, "--to", to, "--reason", "test", "--yes", "--plan-hash", &hash];
    let began = Instant::now();
    let text = done(node.cli(&[&args, options].concat()).await);
    (text, began.elapsed())
}

/// Pushes to a site whose role forbids writes. The refusal comes at once, and says `why`.
async fn is_refused(node: &Node, clone: &Clone, commit: &str, why: &str) {
    let began = Instant::now();
    refuses(clone.push(&node.repository("p"), &[], &[&format!("{commit}:{MAIN}")]).await, why);
    assert!(began.elapsed() < AT_ONCE, "refused after {:?}", began.elapsed());
}

/// Every command that writes, and the call below `update-ref`, is refused at once at a site whose role forbids writes,
/// although the site has the commit.
async fn commands_are_refused(node: &Node, commit: &str, why: &str) {
    let commands: [&[&str]; 4] = [
        &["project", "create", "new"],
        &["project", "delete", "p", "--yes"],
        &["head", "set", "--project", "p", "refs/heads/other"],
        &["update-ref", "--project", "p", "refs/heads/other", commit],
    ];
    for command in commands {
        let output = node.cli(command).await;
        assert_eq!(output.status.code(), Some(3), "{command:?}: {output:?}");
        refuses(output, why);
    }
    let update = serde_json::json!({
        "request_id": "update-of-a-standby",
        "commands": [{"ref": "refs/heads/other", "old": "absent", "new": commit}],
    });
    let began = Instant::now();
    let answer = node.call::<_, serde_json::Value>("/v1/projects/p/ref-transactions", &update).await;
    let (took, said) = (began.elapsed(), answer.expect_err("b stands by").to_string());
    assert!(said.contains(why) && took < AT_ONCE, "after {took:?}: {said}");
}

/// Between the plan and its execution, somebody makes another site active. The old hash begins nothing.
async fn an_old_plan_is_refused(node: &Node, hash: &str) {
    let role = |role: &'static str, epoch: &'static str| {
        ["site", "role", "c", role, "--expect-epoch", epoch, "--reason", "test"]
    };
    let _ = ok(node.cli(&role("active", "2")).await);
    let execute = ["failover", "execute", "--from", "a", "--to", "b", "--reason", "test", "--yes", "--plan-hash", hash];
    let output = node.cli(&execute).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let why = "is of another plan: roles, epochs or steps have changed since; plan again; nothing was changed";
    refuses(output, &format!("plan_hash {hash} {why}"));
    assert_eq!(sites(node).await.failover, None);
    let _ = ok(node.cli(&role("standby", "3")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_moves_writes_there_and_back_and_loses_nothing() {
    let cluster = pair().await;
    let load = Load::start(&cluster, "p", &[0, 1, 2], 3, 1);
    commits_more(&cluster.nodes[0]).await;
    let (text, _) = fail_over(&cluster.nodes[1], "a", "b", &["--max-loss", "0"]).await;
    for step in FailoverStep::ALL {
        assert!(text.contains(&format!("\n  {:<10}", step.name())), "no {step:?} in: {text}");
    }
    assert!(text.contains(" and its probes were green after "), "{text}");
    assert!(text.contains("done. b took writes ") && text.contains("Nothing that was acknowledged is lost"), "{text}");
    assert_eq!(roles(&cluster.nodes[2]).await, [Role::Standby, Role::Active, Role::Standby]);
    // While b is active, the load has commits of b alone.
    let committed = async || cluster.nodes[1].status().await.filter(|status| status.counters.committed > 0);
    assert!(until(committed).await.is_some(), "b has committed nothing");
    assert!(text.contains("\n  lost: none\n  not yet applied at b when it was promoted: none"), "{text}");
    // No Gerrit asks b for its refreshes.
    let shown = async || ok(cluster.nodes[2].cli(&["failover", "status"]).await);
    let due = " SUBJECTS ARE STILL DUE at the Gerrits of b";
    assert!(until(async || shown().await.contains(due).then_some(())).await.is_some(), "{}", shown().await);
    fail_over(&cluster.nodes[0], "b", "a", &[]).await;
    assert_eq!(roles(&cluster.nodes[2]).await, [Role::Active, Role::Standby, Role::Standby]);
    commits_more(&cluster.nodes[0]).await;
    let ledger = load.stop().await;
    ledger.check(&converged(&cluster, "p").await, &cluster.nodes[2].repository("p"));
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    // B learns of the role of A with its next look at the list of sites.
    let to_b = async || fails(clone.push(&cluster.nodes[1].repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);
    let why = "the role of site b is standby; write to a, which is active";
    assert!(until(async || to_b().await.contains(why).then_some(())).await.is_some(), "{}", to_b().await);
    let said = to_b().await;
    let line = said.lines().find_map(|line| line.split_once("[remote rejected] (")).map(|(_, why)| why);
    documented_text("failover.md", &format!("! [remote rejected] main -> main ({}", line.unwrap_or(&said)));
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);
    cluster.show("p", MAIN, Some(&first)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_failover_replaces_a_dead_site_which_returns_as_a_standby() {
    let mut cluster = plain_pair().await;
    let load = Load::start(&cluster, "p", &[0, 1, 2], 3, 2);
    commits_more(&cluster.nodes[0]).await;
    cluster.nodes[0].kill().await;
    let (text, took) = fail_over(&cluster.nodes[1], "a", "b", &["--forced"]).await;
    println!("a forced failover took {took:?}:\n{text}");
    assert_eq!(roles(&cluster.nodes[2]).await, [Role::Fenced, Role::Active, Role::Standby]);
    commits_more(&cluster.nodes[1]).await;
    cluster.nodes[0].start(None);
    cluster.ready().await;
    cluster.nodes[0].reports(|status| status.role == "fenced" && status.incarnation.is_none()).await;
    let epoch = sites(&cluster.nodes[1]).await.sites[0].epoch.to_string();
    let back = ["site", "role", "a", "standby", "--expect-epoch", &epoch, "--reason", "it is back"];
    let _ = ok(cluster.nodes[0].cli(&back).await);
    cluster.nodes[0].reports(|status| status.role == "standby" && status.ready).await;
    let ledger = load.stop().await;
    ledger.check(&converged(&cluster, "p").await, &cluster.nodes[0].repository("p"));
    fail_over(&cluster.nodes[1], "b", "a", &[]).await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);
    cluster.show("p", MAIN, Some(&first)).await;
}

/// Waits until a node serves reads with this role of its site. If its process ended, starts it again, as a supervisor
/// does.
pub async fn ready_as(node: &mut Node, role: &str) {
    let end = Instant::now() + PATIENCE;
    let is_so = |status: NodeStatus| status.ready && status.role == role && status.incarnation.is_none();
    while !node.status().await.is_some_and(is_so) {
        if node.ended().is_some() {
            let _ = node.end().await;
            node.start(None);
        }
        assert!(Instant::now() < end, "{}", node.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The source of a forced failover is not dead but paused. It was committing a push, of which nothing has reached the
/// refdb. When it wakes, that push cannot land, and it is listed.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_wakes_after_a_forced_failover_commits_nothing() {
    let mut cluster = plain_pair().await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);
    cluster.show("p", MAIN, Some(&first)).await;
    // From now on, the refdb gets nothing from A in time.
    cluster.nodes[0].wire.lengthen(PATIENCE);
    let late = clone.commit(Some(&first), "late");
    let repository = cluster.nodes[0].repository("p");
    let waits = {
        let (clone, late) = (Clone::new(clone.folder()), late.clone());
        tokio::spawn(async move { clone.push(&repository, &[], &[&format!("{late}:{LATE}")]).await })
    };
    // A has begun: the push has a slot. A commit that is on its way is lost with its connection.
    cluster.nodes[0].reports(|status| status.lanes.iter().any(|lane| lane.in_flight > 0)).await;
    cluster.nodes[0].signal(Signal::STOP);
    cluster.nodes[0].wire.cut();
    fail_over(&cluster.nodes[2], "a", "b", &["--forced"]).await;
    let second = clone.commit(Some(&first), "two");
    let _ = ok(clone.push(&cluster.nodes[1].repository("p"), &[], &[&format!("{second}:{MAIN}")]).await);
    cluster.nodes[0].wire.lengthen(Duration::ZERO);
    cluster.nodes[0].wire.mend();
    cluster.nodes[0].signal(Signal::CONT);
    let answer = waits.await.expect("a push");
    assert!(!answer.status.success(), "a fenced site took a push: {answer:?}");
    ready_as(&mut cluster.nodes[0], "fenced").await;
    cluster.show("p", MAIN, Some(&second)).await;
    cluster.show("p", LATE, None).await;
    lists_the_late_push(&mut cluster.nodes[0], &late).await;
}

/// A fenced node lists a push that it had begun, also after a restart, until an operator discards its stray.
async fn lists_the_late_push(node: &mut Node, late: &str) {
    let is_late =
        |one: &UncommittedUpdate| one.name.as_str() == LATE && one.new.is_some_and(|new| new.to_string() == late);
    node.reports(|status| status.uncommitted.iter().any(is_late)).await;
    let strays = ok(node.cli(&["stray", "list", "p"]).await);
    assert!(strays.contains(late) && strays.contains(LATE), "{strays}");
    let status = ok(node.cli(&["status"]).await);
    let heads = status.lines().skip_while(|line| !line.starts_with("NOT COMMITTED")).take(2);
    documented_text("failover.md", &heads.collect::<Vec<_>>().join("\n"));
    assert!(status.contains("NOT COMMITTED"), "{status}");
    node.kill().await;
    node.start(None);
    node.reports(|status| status.ready && status.uncommitted.iter().any(is_late)).await;
    let _ = ok(node.cli(&["stray", "discard", "p", LATE]).await);
    node.reports(|status| status.uncommitted.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_alone_change_roles_and_only_what_they_have_seen() {
    let cluster = plain_pair().await;
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let why = "the role of site b is standby; write to a, which is active";
    is_refused(b, &clone, &first, why).await;
    let there = "refs/heads/there";
    let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{first}:{there}")]).await);
    b.shows("p", there, Some(&first)).await;
    commands_are_refused(b, &first, why).await;
    // The bridge's socket, which hooks and bridges use.
    let planned = PlanRequest::new(FailoverKind::Planned, "a".parse().unwrap(), "b".parse().unwrap());
    let old: FailoverPlan = b.call("/v1/failover/plan", &planned).await.expect("everybody may plan");
    an_old_plan_is_refused(b, &old.hash).await;
    let seen: FailoverPlan = b.call("/v1/failover/plan", &planned).await.expect("everybody may plan");
    let execute = ExecuteRequest {
        plan: planned,
        plan_hash: seen.hash.clone(),
        reason: "not an operator".into(),
        pause_before: Vec::new(),
    };
    let refused = b.call::<_, Failover>("/v1/failover", &execute).await.expect_err("operators only").to_string();
    assert!(refused.contains("on the operators' socket (setting api.operators_socket)"), "{refused}");
    let act = ActRequest { act: FailoverAct::Abort, number: 1, step: None, reason: "not an operator".into() };
    let refused = b.call::<_, Failover>("/v1/failover/acts", &act).await.expect_err("operators only").to_string();
    assert!(refused.contains("on the operators' socket"), "{refused}");

    let execute = ["failover", "execute", "--from", "a", "--to", "b", "--reason", "test"];
    let other = [&execute[..], &["--yes", "--plan-hash", "0123456789abcdef"]].concat();
    let output = b.cli(&other).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    refuses(output, "plan_hash 0123456789abcdef is of another plan");
    let unconfirmed = b.cli(&execute).await;
    assert_eq!(unconfirmed.status.code(), Some(64), "{unconfirmed:?}");
    let epoch = [&execute[..], &["--yes", "--plan-hash", &seen.hash, "--expect-epoch", "7"]].concat();
    assert_eq!(b.cli(&epoch).await.status.code(), Some(3));
    let blocked = b.cli(&["failover", "plan", "--from", "b", "--to", "a"]).await;
    assert_eq!(blocked.status.code(), Some(3), "{blocked:?}");
    let last = a.cli(&["site", "role", "a", "standby", "--expect-epoch", "1", "--reason", "test"]).await;
    refuses(last, "a is the only active site; move its writes with `lockstep failover`");
    assert_eq!(roles(a).await, [Role::Active, Role::Standby, Role::Standby]);

    // A failover that is held before its promotion can be aborted. Then the source takes writes again.
    let held = [&execute[..], &["--yes", "--plan-hash", &seen.hash, "--pause-before", "promote", "--no-wait"]].concat();
    let _ = ok(b.cli(&held).await);
    let paused = until(async || sites(a).await.failover.filter(|failover| failover.paused)).await.expect("it is held");
    assert_eq!(paused.current().map(|step| step.step), Some(FailoverStep::Promote));
    // Until the target is active, writers at the source hear who takes over.
    is_refused(a, &clone, &first, "the role of site a is draining, and site b takes over; push again").await;
    assert!(ok(b.cli(&["failover", "status"]).await).contains("settle"));
    let _ = documented_run(b, "lockstep failover abort --reason 'changed my mind'").await;
    a.reports(|status| status.role == "active" && status.incarnation.is_some()).await;
    let failover = until(async || sites(b).await.failover.filter(|failover| failover.end.is_some())).await;
    let acts: Vec<_> = failover.expect("it ends").audit.into_iter().map(|entry| (entry.act, entry.actor)).collect();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(acts, ["execute", "abort"].map(|act| (act.to_owned(), format!("uid {uid}"))));
    let push = async || {
        clone.push(&a.repository("p"), &[], &[&format!("{first}:{MAIN}")]).await.status.success().then_some(())
    };
    assert!(until(push).await.is_some(), "the source takes writes again");
}
