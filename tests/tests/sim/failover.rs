//! Failovers under all faults: one site is active, and operators move its writes, abort, and bring fenced sites back.
//! Drills beside them. Stories of writers at a site that drains, of a bound on the loss, and of a target that does not
//! catch up.

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::refdb::{IncarnationState, Role};
use lockstep::stages::ports::Operators;
use lockstep_proto::bridge::{Outcome, RefusalCode};
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverAct, FailoverKind, FailoverOutcome, FailoverStep, PlanRequest,
};
use lockstep_tests::sim::faults::{Cut, Seam};
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

/// A push at the source, which dies then. The target gets no objects, so it owes the project.
async fn owes(story: &Story, source: &str, target: &str) {
    story.bar(target, Some("ingest"));
    let object = story.object(source, &p0());
    let answer = story.push(source, "lacked", &p0(), ("refs/heads/lacked", None, Some(object))).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
    story.crash(source);
}

/// The last failover, as an operator sees it.
async fn last(desk: &dyn Operators) -> Failover {
    desk.sites().await.unwrap().failover.unwrap()
}

/// Begins a failover, and waits until it is held.
async fn held(story: &Story, desk: &dyn Operators, plan: PlanRequest) -> Failover {
    let plan_hash = desk.plan(&plan).await.unwrap().hash;
    let request = ExecuteRequest { plan, plan_hash, reason: "test".to_owned(), pause_before: Vec::new() };
    desk.execute("test", request).await.unwrap();
    story.until("the failover is held", async || last(desk).await.held.is_some()).await;
    last(desk).await
}

/// Resumes a held failover, which has not promoted its target, and waits until it is done.
async fn resumed(story: &Story, desk: &dyn Operators, held: &Failover, reason: &str) -> Failover {
    assert!(!last(desk).await.has_begun(FailoverStep::Promote), "nobody has resumed it");
    let (number, step) = (held.number, held.current().map(|one| one.step));
    let resume = ActRequest { act: FailoverAct::Resume, number, step, reason: reason.to_owned() };
    desk.act("test", resume).await.unwrap();
    story.until("the failover ends", async || !last(desk).await.is_in_progress()).await;
    let ended = last(desk).await;
    assert_eq!(ended.end.as_ref().map(|end| end.outcome), Some(FailoverOutcome::Done), "{ended:?}");
    ended
}

/// The target of a forced failover owes a project, so nobody can count what it lacks. Any bound on the loss holds the
/// failover before the promotion, until an operator goes on. In the end nothing is lost.
#[test]
fn a_bound_on_the_loss_holds_a_forced_failover_whose_loss_is_unknown() {
    tell_of_standbys(async |story| {
        let (source, target) = ("blr-1-0", "muc-1-0");
        owes(story, source, target).await;
        let desk = story.life("eu-aws-0").node.operators().unwrap();
        let plan = PlanRequest::new(FailoverKind::Forced, "blr-1".parse().unwrap(), "muc-1".parse().unwrap());
        let plan = PlanRequest { max_loss: Some(1_000), ..plan };
        let held = held(story, desk.as_ref(), plan).await;
        let why = held.held.clone().unwrap();
        assert!(why.contains("owes a project"), "{why}");
        story.bar(target, None);
        story.pass(10_000).await;
        let _: Failover = resumed(story, desk.as_ref(), &held, "go on all the same").await;
        story.world.start(&node(source)).await;
        story.converge().await;
    });
}

/// The target of a planned failover reads neither the streams nor the journal. The failover does not promote it: it is
/// held. An operator resumes it once the target has caught up, and then the report says that it lacked nothing.
#[test]
fn a_planned_failover_is_held_while_its_target_is_behind_and_goes_on_after_a_resume() {
    tell_of_standbys(async |story| {
        let (source, target) = ("blr-1-0", "muc-1-0");
        story.cut(target, Seam::EventLog, Some(Cut::Requests));
        story.bar(target, Some("slot "));
        let object = story.object(source, &p0());
        let answer = story.push(source, "behind", &p0(), ("refs/heads/behind", None, Some(object))).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
        let desk = story.life("eu-aws-0").node.operators().unwrap();
        let plan = PlanRequest::new(FailoverKind::Planned, "blr-1".parse().unwrap(), "muc-1".parse().unwrap());
        let plan = PlanRequest { without: vec![FailoverStep::Verify], ..plan };
        let held = held(story, desk.as_ref(), plan).await;
        let why = held.held.clone().unwrap();
        assert!(why.contains("muc-1-0 is behind by") && why.ends_with("no site takes writes meanwhile"), "{why}");
        assert!(held.lacked.is_some(), "it is counted before somebody decides about a resume: {held:?}");
        story.cut(target, Seam::EventLog, None);
        story.bar(target, None);
        story.pass(15_000).await;
        let ended = resumed(story, desk.as_ref(), &held, "it has caught up").await;
        assert_eq!(ended.lacked.and_then(|lacked| lacked.transactions), Some(0), "it is counted after the pause");
        story.converge().await;
    });
}
