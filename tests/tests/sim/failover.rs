//! Failovers under all faults: one site is active, and operators move its writes, abort, and bring fenced sites back.
//! Drills beside them. Stories of writers at a site that drains, and of a bound on the loss.

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::refdb::{IncarnationState, Role};
use lockstep_proto::bridge::{Outcome, RefusalCode};
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverAct, FailoverKind, FailoverOutcome, FailoverStep, PlanRequest,
};
use lockstep_tests::sim::story::{Story, node, p0, tell, tell_of_standbys};
use lockstep_tests::sim::{Scenario, simulate};

use super::{GOOD_SEEDS, set};

/// The first seed, and the number of seeds.
fn seeds() -> (u64, u64) {
    (set("LOCKSTEP_SIM_SEED").unwrap_or(1), set("LOCKSTEP_SIM_SEEDS").unwrap_or(GOOD_SEEDS))
}

/// At no moment may two sites commit. Every failover ends, and all sites converge.
#[test]
fn failovers_under_all_faults_never_leave_two_sites_that_commit() {
    let (from, count) = seeds();
    let (mut done, mut aborted) = (0, 0);
    for seed in from..from + count {
        let end = simulate(seed, Scenario::standby(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report}");
        let of_operators = |line: &&str| line.contains("OPERATOR") || line.contains("the failover ended");
        report.trace.lines().filter(of_operators).for_each(|line| println!("{line}"));
        done += report.trace.matches("the failover ended: Done").count();
        aborted += report.trace.matches("the failover ended: Aborted").count();
    }
    println!("{done} failovers were completed, {aborted} aborted");
    assert!(count == 1 || (done > 3 && aborted > 0), "{done} failovers were completed, {aborted} aborted");
}

/// A drill may be red because of the faults, but never because the fencing did not hold. Failovers go on beside it, and
/// so do commits.
#[test]
fn drills_beside_failovers_harm_nobody_and_their_fencing_holds() {
    let (from, count) = seeds();
    let (mut green, mut red, mut done) = (0, 0, 0);
    for seed in from..from + count {
        let end = simulate(seed, Scenario::drills(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report}");
        let of_drills = report.trace.lines().filter(|line| line.contains(" drill "));
        of_drills.for_each(|line| println!("{line}"));
        assert!(!report.trace.contains("the fencing has failed"), "{report}");
        green += report.trace.matches(" is green").count();
        red += report.trace.matches(" is red: ").count();
        done += report.trace.matches("the failover ended: Done").count();
    }
    println!("{green} drills were green, {red} red; {done} failovers were completed");
    assert!(count == 1 || (green > 0 && done > 0), "{green} drills were green; {done} failovers were completed");
}

/// The first write that a draining site does not take is held, while the incarnation ends. Later ones are refused at
/// once, and a repeat of a write that was committed is answered as such.
#[test]
fn a_draining_site_holds_writes_for_a_second_and_the_drain_does_not_wait_for_them() {
    const AT: &str = "muc-1-0";
    const BRANCH: &str = "refs/heads/b0";
    tell(async |story| {
        let set_role = async |site: &str, role: Role| story.world.set_role(&site.parse().unwrap(), role).await;
        let now = || story.world.trace.now_ms();
        for site in ["eu-aws", "blr-1"] {
            set_role(site, Role::Standby).await;
        }
        story.pass(5_000).await;
        set_role("muc-1", Role::Draining).await;
        let (mut value, mut last) = (None, None);
        let (took, held) = loop {
            let (began, next) = (now(), story.object(AT, &p0()));
            let (id, step) = (format!("push-{began}"), (BRANCH, value, Some(next)));
            match story.push(AT, &id, &p0(), step).await {
                Ok(answer) => assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}"),
                Err(error) => break (now() - began, error),
            }
            (value, last) = (Some(next), Some((id, step)));
            story.pass(10).await;
        };
        assert!((500..=1_100).contains(&took), "held for {took} ms: {held:?}");
        assert_eq!((held.code, held.retry), (RefusalCode::NotServing, false), "{held:?}");
        assert!(held.message.contains("the role of site muc-1 is draining, and no site is active"), "{held:?}");
        let all = story.world.refdb().incarnations.incarnations(&"muc-1".parse().unwrap()).await.unwrap();
        assert!(all.iter().all(|one| one.state != IncarnationState::Open), "the drain waited for it: {all:?}");

        let (began, late) = (now(), story.object(AT, &p0()));
        let refused = story.push(AT, "late", &p0(), (BRANCH, value, Some(late))).await.unwrap_err();
        assert!(now() - began < 100 && !refused.retry, "{} ms: {refused:?}", now() - began);
        let (id, step) = last.expect("some were committed before the node knew its role");
        assert_eq!(story.push(AT, &id, &p0(), step).await.map(|answer| answer.outcome), Ok(Outcome::Committed));

        set_role("blr-1", Role::Active).await;
        let named = async || {
            let refused = story.push(AT, &format!("named-{}", now()), &p0(), (BRANCH, value, Some(late))).await;
            refused.is_err_and(|error| error.message.contains("write to blr-1, which is active"))
        };
        story.until("the refusal names the active site", named).await;
    });
}

/// Pushes three refs at the source, which dies then. The target takes no objects, and has none of the three.
async fn lacks_three(story: &Story, source: &str, target: &str) {
    story.bar(target, Some("ingest"));
    for number in 1..=3 {
        let (object, name) = (story.object(source, &p0()), format!("refs/heads/lacked-{number}"));
        let answer = story.push(source, &format!("push-{number}"), &p0(), (&name, None, Some(object))).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
    }
    story.crash(source);
}

async fn moves_above(story: &Story, max_loss: u64) {
    let (source, target) = ("blr-1-0", "muc-1-0");
    lacks_three(story, source, target).await;
    let desk = story.life("eu-aws-0").node.operators().unwrap();
    let plan = PlanRequest::new(FailoverKind::Forced, "blr-1".parse().unwrap(), "muc-1".parse().unwrap());
    let plan = PlanRequest { max_loss: Some(max_loss), ..plan };
    let plan_hash = desk.plan(&plan).await.unwrap().hash;
    let request = ExecuteRequest { plan, plan_hash, reason: "test".to_owned(), pause_before: Vec::new() };
    desk.execute("test", request).await.unwrap();
    let now = async || desk.sites().await.unwrap().failover.unwrap();
    story.until("the transactions are counted", async || now().await.lacked.is_some()).await;
    story.bar(target, None);
    let has_decided = |failover: &Failover| failover.held.is_some() || failover.has_begun(FailoverStep::Promote);
    story.until("the count is held against the bound", async || has_decided(&now().await)).await;

    let decided = now().await;
    let lacked = decided.lacked.clone().unwrap();
    let names: Vec<&str> = lacked.refs.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["refs/heads/lacked-1", "refs/heads/lacked-2", "refs/heads/lacked-3"], "{lacked:?}");
    assert_eq!((lacked.transactions, lacked.at_most, lacked.ref_count), (Some(3), false, 3), "{lacked:?}");
    assert_eq!(decided.held.is_some(), max_loss < 3, "{decided:?}");
    if let Some(why) = &decided.held {
        let text = format!("muc-1 lacked 3 transactions of blr-1 when catch_up ended, and --max-loss is {max_loss}");
        assert!(why.starts_with(&text), "{why}");
        story.pass(10_000).await;
        assert!(!now().await.has_begun(FailoverStep::Promote), "nobody has resumed it");
        let (number, step) = (decided.number, decided.current().map(|one| one.step));
        let resume = ActRequest { act: FailoverAct::Resume, number, step, reason: "go on all the same".to_owned() };
        desk.act("test", resume).await.unwrap();
    }
    story.until("the failover ends", async || !now().await.is_in_progress()).await;
    let ended = now().await;
    assert_eq!(ended.end.as_ref().map(|end| end.outcome), Some(FailoverOutcome::Done), "{ended:?}");
    assert_eq!(ended.lacked, Some(lacked), "the report has the same refs");
    story.world.start(&node(source)).await;
    story.converge().await;
}

/// The target of a forced failover lacks transactions, although it was waited for. A bound on the loss holds the
/// failover before the promotion, if they are more. An operator who goes on has the same refs in the report, and in the
/// end nothing is lost.
#[test]
fn a_forced_failover_holds_only_above_its_bound_on_the_loss_and_names_the_refs() {
    for max_loss in [2, 3] {
        tell_of_standbys(async |story| moves_above(story, max_loss).await);
    }
}
