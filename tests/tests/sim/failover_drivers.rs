//! The drivers of a failover: one dies in each step, and one wakes after another has gone on, in planned and in forced
//! failovers. In these stories site `blr-1` is active. Its writes move to `eu-aws`, whose first node drives. Then
//! faults of all kinds hit drivers.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::refdb::{Document, Role};
use lockstep_proto::bridge::Outcome;
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverAct, FailoverKind, FailoverOutcome, FailoverStep, PlanRequest,
};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell_of_standbys};
use lockstep_tests::sim::{Scenario, simulate};
use tokio::time::sleep;

use super::set;

/// The node of the source, which drives last.
const SOURCE: &str = "blr-1-0";
/// The node of the third site.
const THIRD: &str = "muc-1-0";
/// The nodes of the target.
const TARGET: [&str; 2] = ["eu-aws-0", "eu-aws-1"];

/// A number of milliseconds within which every step begins.
const LONG_MS: u64 = 60_000;
/// The number of seeds, if nobody sets it.
const FEW_SEEDS: u64 = 3;
/// The number of seeds within which faults must hit the driver in every step.
const ALL_STEPS_SEEDS: u64 = 100;

async fn push(story: &Story, at: &str, id: &str) -> Outcome {
    let (object, name) = (story.object(at, &p0()), format!("refs/heads/{id}"));
    story.push(at, id, &p0(), (&name, None, Some(object))).await.map_or(Outcome::Refused, |answer| answer.outcome)
}

/// The request of a failover that has every step of its kind.
fn request(kind: FailoverKind) -> PlanRequest {
    let plan = PlanRequest::new(kind, "blr-1".parse().unwrap(), "eu-aws".parse().unwrap());
    PlanRequest { max_loss: Some(100), ..plan }
}

/// The steps in each kind of failover.
fn all_steps() -> Vec<(FailoverKind, FailoverStep)> {
    let steps = |kind| request(kind).steps().into_iter().map(move |step| (kind, step));
    steps(FailoverKind::Planned).chain(steps(FailoverKind::Forced)).collect()
}

/// The node that answers operators: the source, or the third site if the source is dead.
fn desk_of(kind: FailoverKind) -> &'static str {
    if kind == FailoverKind::Forced { THIRD } else { SOURCE }
}

/// Begins a failover that has every step. The source of a forced one is dead.
async fn begin(story: &Story, kind: FailoverKind) {
    assert_eq!(push(story, SOURCE, "before").await, Outcome::Committed);
    story.converge().await;
    if kind == FailoverKind::Forced {
        story.crash(SOURCE);
    }
    let desk = story.life(desk_of(kind)).node.operators().unwrap();
    let plan = request(kind);
    let plan_hash = desk.plan(&plan).await.unwrap().hash;
    let request = ExecuteRequest { plan, plan_hash, reason: "test".to_owned(), pause_before: Vec::new() };
    desk.execute("test", request).await.unwrap();
}

/// The dead source of a forced failover starts again, and all sites converge.
async fn all_return(story: &Story, kind: FailoverKind) {
    if kind == FailoverKind::Forced {
        story.world.start(&node(SOURCE)).await;
        let is_ready = async || story.world.life(&node(SOURCE)).is_some_and(|life| life.node.is_ready());
        story.until("the source serves reads", is_ready).await;
    }
    story.converge().await;
}

/// Waits until a step has begun. Answers the node that has begun it, which has completed the step before.
async fn driver_of(story: &Story, step: FailoverStep) -> String {
    for _ in 0..LONG_MS {
        let record = story.world.refdb().documents.document(Document::Failover).await.unwrap().unwrap();
        let running: Failover = serde_json::from_str(&record.body).unwrap();
        let at = running.steps.iter().position(|one| one.step == step).unwrap();
        if running.steps[at].began_ms.is_some() {
            assert!(running.steps[at].ended_ms.is_none(), "{step:?} has ended already");
            let before = at.checked_sub(1).and_then(|before| running.steps[before].by.clone());
            return before.map_or(TARGET[0].to_owned(), |by| by.to_string());
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("{step:?} does not begin");
}

/// Waits until the failover has ended. Resumes it if it holds itself: a target that lacks a node cannot verify it.
async fn ended(story: &Story, kind: FailoverKind) -> Failover {
    let desk = story.life(desk_of(kind)).node.operators().unwrap();
    let has_ended = async || {
        let Some(failover) = desk.sites().await.unwrap().failover else { return false };
        if failover.is_in_progress() && failover.paused {
            let (number, step) = (failover.number, failover.current().map(|one| one.step));
            let request = ActRequest { act: FailoverAct::Resume, number, step, reason: "test".to_owned() };
            let _ = desk.act("test", request).await;
        }
        !failover.is_in_progress()
    };
    story.until("the failover ends", has_ended).await;
    let failover = desk.sites().await.unwrap().failover.unwrap();
    assert_eq!(failover.end.as_ref().map(|end| end.outcome), Some(FailoverOutcome::Done), "{failover:?}");
    assert!(!failover.unserved, "{failover:?}");
    failover
}

/// The role and the epoch of each site.
async fn roles(story: &Story) -> Vec<(String, Role, u64)> {
    let sites = story.world.refdb().sites.sites().await.unwrap();
    sites.into_iter().map(|site| (site.site.to_string(), site.role, site.epoch)).collect()
}

/// The node of the target that does not have this name.
fn other_than(driver: &str) -> &'static str {
    TARGET.into_iter().find(|one| *one != driver).unwrap()
}

async fn dies_in(story: &Story, kind: FailoverKind, step: FailoverStep) {
    begin(story, kind).await;
    let driver = driver_of(story, step).await;
    story.crash(&driver);
    let failover = ended(story, kind).await;
    let completed = failover.steps.iter().find(|one| one.step == step).unwrap();
    let by = completed.by.as_ref().map(ToString::to_string);
    assert!(by.as_ref().is_some_and(|by| *by != driver), "{driver} died in {kind:?} {step:?}, which {by:?} completed");
    assert_eq!(push(story, other_than(&driver), "after").await, Outcome::Committed, "{kind:?} {step:?}");
    story.start(&driver).await;
    all_return(story, kind).await;
}

/// The node that has begun the step dies before it is complete. Another one completes it, and those behind it.
#[test]
fn another_node_goes_on_when_the_driver_dies_in_any_step() {
    for (kind, step) in all_steps() {
        tell_of_standbys(async |story| dies_in(story, kind, step).await);
    }
}

/// The absence of a driver in the middle of a step.
#[derive(Clone, Copy, Debug)]
enum Absence {
    /// It is paused this many milliseconds after the step has begun, between two of its calls.
    Pause(u64),
    /// It is cut off from the refdb.
    Cut,
}

async fn wakes_after(story: &Story, kind: FailoverKind, step: FailoverStep, absence: Absence) {
    begin(story, kind).await;
    let driver = driver_of(story, step).await;
    match absence {
        Absence::Pause(after_ms) => {
            sleep(Duration::from_millis(after_ms)).await;
            story.world.faults.pause(&node(&driver), true);
        }
        Absence::Cut => story.cut(&driver, Seam::RefDb, Some(Cut::Requests)),
    }
    let failover = ended(story, kind).await;
    let before = roles(story).await;
    story.world.faults.pause(&node(&driver), false);
    story.cut(&driver, Seam::RefDb, None);
    story.pass(10_000).await;
    assert_eq!(roles(story).await, before, "{driver} was away in {kind:?} {step:?}: {absence:?}");
    let desk = story.life(desk_of(kind)).node.operators().unwrap();
    assert_eq!(desk.sites().await.unwrap().failover, Some(failover), "{driver} has changed the record: {absence:?}");
    assert_eq!(push(story, other_than(&driver), "after").await, Outcome::Committed, "{kind:?} {step:?}");
    all_return(story, kind).await;
}

/// Two drivers do no harm. One stands still in the middle of a step, with the sites as they were in its memory. Another
/// one takes the other steps. When the first one wakes, it changes no role, and not the record. `make sim` tells every
/// absence in every step.
#[test]
fn a_driver_that_wakes_after_another_one_went_on_does_no_harm() {
    let absences = [Absence::Pause(0), Absence::Pause(6), Absence::Pause(9), Absence::Pause(12), Absence::Cut];
    let (is_sim, of_roles) =
        (set("LOCKSTEP_SIM_SEEDS").is_some(), [FailoverStep::Stop, FailoverStep::Promote, FailoverStep::StandBy]);
    for (at, (kind, step)) in all_steps().into_iter().enumerate() {
        let is_told = |absence: &Absence| match absence {
            _ if is_sim || (kind == FailoverKind::Planned && of_roles.contains(&step)) => true,
            Absence::Pause(after_ms) => *after_ms == 6 && at.is_multiple_of(2),
            Absence::Cut => !at.is_multiple_of(2),
        };
        for absence in absences.into_iter().filter(is_told) {
            tell_of_standbys(async |story| wakes_after(story, kind, step, absence).await);
        }
    }
}

/// The steps in which a crash, a pause or a cut from the refdb hit the node that drove a failover.
fn hits(trace: &str) -> BTreeSet<String> {
    let (mut hits, mut driver) = (BTreeSet::new(), None);
    for line in trace.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(node), Some(what)) = (words.next(), words.next()) else { continue };
        let is_fault = match what {
            "DRIVES" => {
                driver = Some((node, words.collect::<Vec<_>>().join(" ")));
                false
            }
            "CRASH" | "PAUSE" => true,
            "PARTITION" => line.contains("RefDb"),
            _ => false,
        };
        if line.contains("the failover ended") || line.contains("OPERATOR Abort") {
            driver = None;
        }
        if let Some((_, step)) = driver.take_if(|(driver, _)| is_fault && *driver == node) {
            hits.insert(step);
        }
    }
    hits
}

/// Faults of all kinds hit drivers as soon as they have begun a step, and later.
#[test]
fn faults_hit_the_drivers_of_failovers_in_every_step_and_every_failover_ends() {
    let (from, count) = (set("LOCKSTEP_SIM_SEED").unwrap_or(1), set("LOCKSTEP_SIM_SEEDS").unwrap_or(FEW_SEEDS));
    let (mut hit, mut done) = (BTreeSet::new(), 0);
    for seed in from..from + count {
        let end = simulate(seed, Scenario::drivers(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report}");
        hit.extend(hits(&report.trace));
        done += report.trace.matches("the failover ended: Done").count();
    }
    println!("{done} failovers were completed; faults hit drivers in {hit:?}");
    assert!(count == 1 || (done > 0 && !hit.is_empty()), "{done} failovers were completed; hit in {hit:?}");
    let every: BTreeSet<String> = all_steps().iter().map(|(kind, step)| format!("{kind:?} {}", step.name())).collect();
    let missed: Vec<_> = every.difference(&hit).collect();
    assert!(count < ALL_STEPS_SEEDS || missed.is_empty(), "no fault hit a driver in {missed:?}");
}
