//! The hands of an operator on a failover: a typed confirmation, pause and resume. And the death of the node that
//! drives it.

use std::process::ExitStatus;
use std::time::Duration;

use lockstep_proto::failover::{Failover, FailoverOutcome, FailoverStep, Role, StepRecord};
use lockstep_proto::history::{History, PastChange};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::documented_run;
use lockstep_tests::e2e::git::{Clone, done, ok};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::verify::converged;
use lockstep_tests::e2e::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::{sleep, timeout};

use crate::failover::{plain_pair, plan, ready_as, roles, standbys};
use crate::lockstep;
use crate::seeing::script;

const MAIN: &str = "refs/heads/main";

/// The failover that is in progress, or else the last one.
async fn last(node: &Node) -> Option<Failover> {
    let output = node.cli(&["failover", "status", "--json"]).await;
    serde_json::from_slice::<Option<Failover>>(&output.stdout).ok().flatten()
}

/// Waits until a condition on the last failover holds.
async fn becomes(node: &Node, is_so: impl Fn(&Failover) -> bool) -> Failover {
    match until(async || last(node).await.filter(&is_so)).await {
        Some(failover) => failover,
        None => panic!("{:?}\n{}", last(node).await, node.log_tail()),
    }
}

fn step(failover: &Failover, step: FailoverStep) -> &StepRecord {
    failover.steps.iter().find(|one| one.step == step).expect("the step")
}

/// A command in a terminal that has asked for the name of the target.
struct Prompt {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    shown: Vec<u8>,
}

impl Prompt {
    /// Runs a command until it asks.
    async fn of(node: &Node, command: &str) -> Self {
        let line = format!("exec {} {command}", lockstep().display());
        let mut child = script(node, &line).spawn().expect("util-linux has `script`");
        let (input, mut output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let mut shown = Vec::new();
        let has_asked = |shown: &[u8]| String::from_utf8_lossy(shown).contains("type the name of the target (b)");
        let asks = async { while !has_asked(&shown) && output.read_buf(&mut shown).await.expect("output") > 0 {} };
        let is_in_time = timeout(PATIENCE, asks).await.is_ok();
        assert!(is_in_time && has_asked(&shown), "{command}: {:?}", String::from_utf8_lossy(&shown));
        Self { child, input, output, shown }
    }

    /// Types a line, and waits for the end. Answers how the command ended, and the whole text.
    async fn answer(mut self, typed: &str) -> (ExitStatus, String) {
        self.input.write_all(format!("{typed}\n").as_bytes()).await.expect("keys");
        let is_in_time = timeout(PATIENCE, self.output.read_to_end(&mut self.shown)).await.is_ok();
        let shown = String::from_utf8_lossy(&self.shown).into_owned();
        assert!(is_in_time, "it did not end: {shown:?}");
        (self.child.wait().await.expect("an end"), shown)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_types_the_name_of_the_target_and_a_pause_lets_no_further_step_begin() {
    let cluster = plain_pair().await;
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    let _ = plan(c, "a", "b", &[]).await;
    let execute = "failover execute --from a --to b --reason test --no-wait";
    let (ended, said) = Prompt::of(c, execute).await.answer("c").await;
    assert!(ended.code() == Some(3) && said.contains("not confirmed; nothing was changed"), "{ended}: {said:?}");
    assert_eq!(ok(c.cli(&["failover", "status", "--json"]).await), "null");

    // A node of the target that does not reach the refdb holds the first step open: it compares its refs there.
    let prompt = Prompt::of(c, execute).await;
    b.wire.cut();
    let (ended, said) = prompt.answer("b").await;
    assert!(ended.success() && said.contains("failover 1 has begun"), "{ended}: {said:?}");
    becomes(c, |failover| step(failover, FailoverStep::Verify).began_ms.is_some()).await;
    let _ = documented_run(c, "lockstep failover pause --reason 'look first'").await;
    b.wire.mend();
    becomes(c, |failover| step(failover, FailoverStep::Verify).ended_ms.is_some()).await;
    // Every driver has its turn meanwhile.
    sleep(Duration::from_secs(5)).await;
    let paused = last(c).await.expect("a failover");
    assert!(paused.paused && step(&paused, FailoverStep::Stop).began_ms.is_none(), "{paused:?}");
    let _ = documented_run(c, "lockstep failover status").await;
    assert_eq!(roles(c).await, [Role::Active, Role::Standby, Role::Standby]);
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&a.repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);

    let _ = documented_run(c, "lockstep failover resume --reason 'go on'").await;
    let said = done(c.cli(&["failover", "status", "--watch"]).await);
    assert!(said.contains("done. b took writes ") && said.contains("Nothing that was acknowledged is lost"), "{said}");
    assert_eq!(roles(c).await, [Role::Standby, Role::Active, Role::Standby]);
    let history: History = serde_json::from_str(&ok(c.cli(&["history", "--json"]).await)).expect("JSON");
    let Some(PastChange::Failover(kept)) = history.past.first() else { panic!("{history:?}") };
    let acts: Vec<_> = kept.audit.iter().map(|entry| (entry.act.as_str(), entry.reason.as_str())).collect();
    assert_eq!(acts, [("execute", "test"), ("pause", "look first"), ("resume", "go on")]);
    let resumed = kept.audit.last().map(|entry| entry.at_ms);
    assert!(kept.audit.is_sorted_by_key(|entry| entry.at_ms), "{kept:?}");
    assert!(step(kept, FailoverStep::Stop).began_ms >= resumed, "{kept:?}");
    assert!(kept.steps.is_sorted_by_key(|step| step.ended_ms), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_finishes_the_step_of_a_driver_that_was_killed() {
    // Nobody but the failover ends the commits of a source that does not answer.
    let tune = |node: &Node| {
        node.replace_setting("adopted_elsewhere_after = \"6s\"", "adopted_elsewhere_after = \"30s\"");
    };
    let names = ["a-0", "b-0", "b-1", "c-0"];
    let mut cluster = standbys(Cluster::start_tuned(lockstep(), &names, &tune).await).await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:{MAIN}")]).await);
    cluster.show("p", MAIN, Some(&first)).await;
    let c = &cluster.nodes[3];
    let hash = plan(c, "a", "b", &[]).await.hash;
    let execute =
        ["failover", "execute", "--from", "a", "--to", "b", "--reason", "test", "--yes", "--plan-hash", &hash];
    let _ = ok(c.cli(&[&execute[..], &["--pause-before", "stop", "--no-wait"]].concat()).await);
    becomes(c, |failover| failover.paused).await;
    // The step `settle` waits ten seconds for the source.
    cluster.nodes[0].wire.cut();
    let _ = ok(c.cli(&["failover", "resume", "--reason", "go on"]).await);
    let settling = becomes(c, |failover| step(failover, FailoverStep::Settle).began_ms.is_some()).await;
    assert!(step(&settling, FailoverStep::Settle).ended_ms.is_none(), "{settling:?}");
    let driver = step(&settling, FailoverStep::Stop).by.clone().expect("the name of the driver");
    let at = cluster.nodes.iter().position(|node| node.name == driver.as_str()).expect("a node");
    cluster.nodes[at].kill().await;

    let another = if at == 1 { 2 } else { 1 };
    let done = becomes(&cluster.nodes[another], |failover| failover.end.is_some()).await;
    assert!(done.end.as_ref().is_some_and(|end| end.outcome == FailoverOutcome::Done) && !done.unserved, "{done:?}");
    let finished_by = &step(&done, FailoverStep::Settle).by;
    assert!(finished_by.is_some() && *finished_by != Some(driver.clone()), "{done:?}");
    assert_eq!(step(&done, FailoverStep::Stop).by, Some(driver), "{done:?}");
    assert_eq!(roles(&cluster.nodes[another]).await, [Role::Standby, Role::Active, Role::Standby]);
    let second = clone.commit(Some(&first), "two");
    let _ = ok(clone.push(&cluster.nodes[another].repository("p"), &[], &[&format!("{second}:{MAIN}")]).await);

    cluster.nodes[0].wire.mend();
    cluster.nodes[at].start(None);
    ready_as(&mut cluster.nodes[0], "standby").await;
    cluster.nodes[at].ready().await;
    cluster.show("p", MAIN, Some(&second)).await;
    converged(&cluster, "p").await;
}
