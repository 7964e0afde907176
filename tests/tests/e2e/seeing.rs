//! All sites from any site: digests, the two answers, topology, history and the terminal view. The page
//! docs/failover.md shows outputs of this shape.

use std::process::{Output, Stdio};
use std::time::Duration;

use lockstep_proto::failover::{FailoverPlan, Role};
use lockstep_proto::history::{History, PastChange};
use lockstep_proto::overview::{Overview, SiteOverview};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::{documented, documented_from, documented_in, documented_soon, documented_text};
use lockstep_tests::e2e::git::{Clone, fails, ok, refuses};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::{PATIENCE, until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::failover::{fail_over, pair, standbys};
use crate::lockstep;

async fn overview(node: &Node) -> Overview {
    let output = node.cli(&["status", "--all", "--json"]).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn site<'a>(all: &'a Overview, name: &str) -> &'a SiteOverview {
    all.sites.iter().find(|site| site.status.site.as_str() == name).expect("the site")
}

/// Waits until a condition holds for the overview that a node gives.
async fn shows(node: &Node, is_so: impl Fn(&Overview) -> bool) -> Overview {
    let came = until(async || Some(overview(node).await).filter(&is_so)).await;
    match came {
        Some(all) => all,
        None => panic!("it is not shown: {:?}\n{}", overview(node).await, node.log_tail()),
    }
}

/// Waits until a command ends with an exit code, which depends on heartbeats and digests.
async fn ends_with(node: &Node, args: &[&str], expected: i32) -> Output {
    let ended = until(async || Some(node.cli(args).await).filter(|output| code(output) == Some(expected))).await;
    match ended {
        Some(output) => output,
        None => panic!("not {expected}: {:?}\n{}", node.cli(args).await, node.log_tail()),
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_site_sees_all_sites_while_the_links_between_them_are_cut() {
    let mut cluster = pair().await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:refs/heads/main")]).await);
    cluster.show("p", "refs/heads/main", Some(&first)).await;
    let in_order = |all: &Overview| {
        let safe = |name: &str| site(all, name).safe.as_ref().is_some_and(|answer| answer.safe);
        let none = |name: &str| site(all, name).lacks.iter().all(|lack| lack.slots == Some(0));
        let digests = all.sites.iter().all(|one| one.nodes[0].digest.is_some());
        safe("b") && safe("c") && none("b") && none("c") && digests && !all.is_degraded()
    };
    for node in &cluster.nodes {
        let all = shows(node, in_order).await;
        assert!(site(&all, "a").safe.is_none(), "{all:?}");
    }
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    let _ = documented_soon(c, "lockstep sites").await;
    let all = documented_soon(c, "lockstep status --all").await;
    assert_eq!(code(&all), Some(0), "{all:?}");
    let _ = documented_soon(c, "lockstep topology").await;
    documented_in("operations.md", "lockstep peers", &c.cli(&["peers"]).await);
    documented("lockstep verify", &c.cli(&["verify"]).await);
    documented("lockstep verify --against b", &c.cli(&["verify", "--against", "b"]).await);

    // c reads no stream any more. It sees the others, and how far it is behind, through the refdb.
    for node in [a, b, c] {
        node.streams.cut();
    }
    let before = overview(c).await.at_ms;
    let second = clone.commit(Some(&first), "two");
    let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{second}:refs/heads/main")]).await);
    let cut = |all: &Overview| {
        let (lack, node) =
            (site(all, "b").lacks.iter().find(|lack| lack.from.as_str() == "a"), &site(all, "b").nodes[0]);
        let is_later = node.digest.as_ref().is_some_and(|digest| digest.at_ms > before);
        let lags = lack.and_then(|lack| lack.seen.as_ref()).is_some_and(|seen| seen.seconds > 1.0);
        node.lives && is_later && lags && lack.is_some_and(|lack| lack.slots > Some(0))
    };
    shows(c, cut).await;
    for node in [a, b, c] {
        node.streams.mend();
    }

    // A site whose only node is dead is not safe, its figures are old, and the exit code says that.
    cluster.nodes[1].kill().await;
    let [a, c] = [&cluster.nodes[0], &cluster.nodes[2]];
    // Each node judges by the heartbeats that it has seen itself, so a and c need not notice at the same moment.
    for node in [a, c] {
        let not_safe = |all: &Overview| site(all, "b").safe.as_ref().is_some_and(|answer| !answer.safe);
        shows(node, |all| not_safe(all) && site(all, "b").nodes[0].is_old && all.is_degraded()).await;
    }
    for command in [&["status", "--all"][..], &["topology"], &["status", "--all", "--json"]] {
        let _ = ends_with(c, command, 2).await;
    }
    // It may be unsafe for another reason first, such as its lag.
    let text = async || String::from_utf8(c.cli(&["status", "--all"]).await.stdout).expect("text");
    let is_dead = |text: &str| text.contains("NOT SAFE\n  b: no node of b has a heartbeat");
    assert!(until(async || is_dead(&text().await).then_some(())).await.is_some(), "{}", text().await);

    // No refdb, no answer: that is a failure and not a refusal.
    c.wire.cut();
    for command in [&["status", "--all"][..], &["history"], &["topology"]] {
        let output = c.cli(command).await;
        assert_eq!(code(&output), Some(1), "{output:?}");
    }
    no_promotion_helps(c, &["plan"]).await;
    no_promotion_helps(c, &["execute", "--reason", "test"]).await;
    c.wire.mend();
}

/// Without a refdb, `plan` and `execute` end within ten seconds, and name the only remedy.
pub async fn no_promotion_helps(node: &Node, command: &[&str]) {
    // The sidecar answers after eight seconds at the latest. The command gives up after ten, with another exit code. On
    // a busy machine the program may need a while to start.
    let began = Instant::now();
    let output = node.cli(&[&["failover"][..], command, &["--from", "a", "--to", "c"]].concat()).await;
    let took = began.elapsed();
    assert_eq!(code(&output), Some(3), "{output:?}");
    let said = fails(output);
    assert!(said.contains("no promotion can help") && said.contains("`lockstep refdb rebuild`"), "{said}");
    assert!(took <= Duration::from_secs(30), "{command:?} took {took:?}: {said}");
}

/// The report of a failover, with the lines about the work beside it as they are once every node has told its part.
async fn with_work_beside(node: &Node, report: &str) -> String {
    let is_beside = |line: &&str| line.starts_with("  refresh") || line.starts_with("  handed over");
    let told = async || {
        let status = ok(node.cli(&["failover", "status"]).await);
        let lines: Vec<&str> = status.lines().filter(is_beside).collect();
        (lines.len() == 2 && lines[0].contains("STILL DUE")).then(|| lines.join("\n"))
    };
    let beside = until(told).await.expect("what is due, and what was handed over");
    let steps: Vec<&str> = report.lines().filter(|line| !is_beside(line)).collect();
    format!("{}\n{beside}\n", steps.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_keeps_failovers_and_changes_of_role_with_actor_and_reason() {
    let tune = |node: &Node| node.add_settings("[handover]\nprogram = \"/bin/true\"\n");
    let mut cluster = standbys(Cluster::start_tuned(lockstep(), &["a-0", "b-0", "c-0"], &tune).await).await;
    let (text, _) = fail_over(&cluster.nodes[1], "a", "b", &[]).await;
    let text = with_work_beside(&cluster.nodes[2], &text).await;
    documented_from("lockstep failover execute --from a --to b --reason 'maintenance'", "failover 1 has begun", &text);
    fail_over(&cluster.nodes[2], "b", "a", &[]).await;
    documented("lockstep history", &cluster.nodes[2].cli(&["history"]).await);
    let history: History = serde_json::from_str(&ok(cluster.nodes[2].cli(&["history", "--json"]).await)).expect("JSON");
    let [last, first, roles @ ..] = &history.past[..] else { panic!("{history:?}") };
    for (number, one) in [(2, last), (1, first)] {
        let PastChange::Failover(failover) = one else { panic!("{one:?}") };
        let end = failover.end.as_ref().expect("it has ended");
        assert_eq!((failover.number, failover.reason.as_str(), end.lost), (number, "test", 0));
        assert!(end.recovery_ms.is_some() && failover.actor.starts_with("uid "), "{failover:?}");
        assert!(failover.behind.is_some(), "an estimate needs it: {failover:?}");
    }
    for (name, one) in ["c", "b"].iter().zip(roles) {
        let PastChange::Role(change) = one else { panic!("{one:?}") };
        assert_eq!((change.site.as_str(), change.from, change.to), (*name, Role::Active, Role::Standby));
        assert_eq!((change.reason.as_str(), change.done), ("one active site", Some(true)));
    }
    // The next plan of that kind has an estimate, by the steps of both.
    let plan = ["failover", "plan", "--from", "a", "--to", "b"];
    let json = ok(cluster.nodes[2].cli(&[&plan[..], &["--json"]].concat()).await);
    let estimate = serde_json::from_str::<FailoverPlan>(&json).expect("JSON").estimate.expect("an estimate");
    assert_eq!((estimate.failovers, estimate.drills, estimate.unmeasured.len()), (2, 0, 0), "{estimate:?}");
    assert!(0 < estimate.writes_ms && estimate.writes_ms <= estimate.all_ms, "{estimate:?}");
    let text = ok(cluster.nodes[2].cli(&plan).await);
    let line = text.lines().find(|line| line.contains(": the medians of 2 planned failovers"));
    documented_text("failover.md", line.unwrap_or_else(|| panic!("{text}")));
    let long = "x".repeat(2_000);
    let args = ["site", "role", "c", "active", "--expect-epoch", "2", "--reason", &long];
    refuses(cluster.nodes[0].cli(&args).await, "reason has 2000 bytes; at most 1000 are kept");
    is_gone(&mut cluster).await;
}

/// The page shows the plan and the report of a failover whose source is gone.
async fn is_gone(cluster: &mut Cluster) {
    cluster.nodes[0].kill().await;
    let c = &cluster.nodes[2];
    let _ = documented_soon(c, "lockstep failover plan --from a --to b --forced").await;
    let (text, _) = fail_over(c, "a", "b", &["--forced"]).await;
    let text = with_work_beside(c, &text).await;
    let execute = "lockstep failover execute --from a --to b --forced --reason 'the source is gone'";
    documented_from(execute, "failover 3 has begun", &text);
}

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// A line of shell in a terminal, beside a node. Keys are its input, and its exit code is that of the line.
pub fn script(node: &Node, line: &str) -> Command {
    let mut script = Command::new("script");
    script.args(["-qec", line, "/dev/null"]).env("LOCKSTEP_SOCKET", node.socket()).env("TERM", "xterm");
    script.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
    script
}

/// Runs a command in a terminal of 80 columns. Once it shows its view, types `keys`, or ends it with SIGTERM if there
/// are none. Answers what was shown.
async fn terminal(node: &Node, command: &str, keys: &str) -> String {
    let line = format!(
        "stty rows 24 cols 80; sh -c 'echo \"process $$.\"; exec {} {command}'; echo \"ended with $?\"; stty -a",
        lockstep().display()
    );
    let mut child = script(node, &line).spawn().expect("util-linux has `script`");
    let (mut input, mut output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut shown = Vec::new();
    let enters = async {
        let has_entered = |shown: &[u8]| String::from_utf8_lossy(shown).contains(ENTER);
        while !has_entered(&shown) && output.read_buf(&mut shown).await.expect("output") > 0 {}
    };
    assert!(timeout(PATIENCE, enters).await.is_ok(), "{command} shows no view\n{}", node.log_tail());
    if keys.is_empty() {
        let text = String::from_utf8_lossy(&shown).into_owned();
        let id = text.split_once("process ").and_then(|(_, rest)| rest.split('.').next()).expect("its process id");
        let id = Pid::from_raw(id.parse().expect("a number")).expect("a process id");
        kill_process(id, Signal::TERM).expect("a signal");
    }
    input.write_all(keys.as_bytes()).await.expect("keys");
    let ends = timeout(PATIENCE, output.read_to_end(&mut shown)).await;
    assert!(ends.is_ok(), "{command} did not end: {:?}", String::from_utf8_lossy(&shown));
    child.wait().await.expect("an end");
    String::from_utf8_lossy(&shown).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_view_restores_the_terminal_and_says_when_there_is_none() {
    let cluster = Cluster::start(lockstep(), &["a-0"]).await;
    let node = &cluster.nodes[0];
    // `q`, Ctrl-C as a key, and a signal from outside.
    for (option, keys) in [("--all", "q"), ("", "\u{3}"), ("--all", "")] {
        let text = terminal(node, &format!("status --watch {option}"), keys).await;
        let [enter, leave] = [ENTER, LEAVE].map(|code| text.rfind(code));
        assert!(enter.is_some() && leave > enter, "{text:?}");
        assert!(text.contains("ended with 0"), "{text:?}");
        assert!(text.contains(" icanon") && text.contains(" echo "), "the terminal is not as before: {text:?}");
    }
    let output = node.cli(&["status", "--all", "--watch"]).await;
    assert_eq!(code(&output), Some(64));
    refuses(output, "--watch needs a terminal");
}
