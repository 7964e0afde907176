//! Stories of the drivers of a failover: one dies in each step, and one wakes after another has gone on. Site `blr-1`
//! is active. Its writes move to `eu-aws`, whose first node drives.

use std::time::Duration;

use lockstep::seams::refdb::{Document, Role};
use lockstep_proto::bridge::Outcome;
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverAct, FailoverKind, FailoverOutcome, FailoverStep, PlanRequest,
};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell_of_standbys};
use tokio::time::sleep;

/// The node of the source, which answers operators and drives last.
const SOURCE: &str = "blr-1-0";
/// The nodes of the target.
const TARGET: [&str; 2] = ["eu-aws-0", "eu-aws-1"];

/// A number of milliseconds within which every step begins.
const LONG_MS: u64 = 60_000;

async fn push(story: &Story, at: &str, id: &str) -> Outcome {
    let (object, name) = (story.object(at, &p0()), format!("refs/heads/{id}"));
    story.push(at, id, &p0(), (&name, None, Some(object))).await.map_or(Outcome::Refused, |answer| answer.outcome)
}

/// Begins a planned failover that has every step.
async fn begin(story: &Story) {
    assert_eq!(push(story, SOURCE, "before").await, Outcome::Committed);
    story.converge().await;
    let desk = story.life(SOURCE).node.operators().unwrap();
    let plan = PlanRequest::new(FailoverKind::Planned, "blr-1".parse().unwrap(), "eu-aws".parse().unwrap());
    let plan = PlanRequest { max_loss: Some(100), ..plan };
    let plan_hash = desk.plan(&plan).await.unwrap().hash;
    let request = ExecuteRequest { plan, plan_hash, reason: "test".to_owned(), pause_before: Vec::new() };
    let begun = desk.execute("test", request).await.unwrap();
    assert_eq!(begun.steps.len(), FailoverStep::ALL.len());
}

/// Waits until a step has begun. Answers the node that has begun it, which has completed the step before.
async fn driver_of(story: &Story, step: FailoverStep) -> String {
    for _ in 0..LONG_MS {
        let record = story.world.refdb().registry.document(Document::Failover).await.unwrap().unwrap();
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
async fn ended(story: &Story) -> Failover {
    let desk = story.life(SOURCE).node.operators().unwrap();
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
    let sites = story.world.refdb().registry.sites().await.unwrap();
    sites.into_iter().map(|site| (site.site.to_string(), site.role, site.epoch)).collect()
}

/// The node of the target that does not have this name.
fn other_than(driver: &str) -> &'static str {
    TARGET.into_iter().find(|one| *one != driver).unwrap()
}

async fn dies_in(story: &Story, step: FailoverStep) {
    begin(story).await;
    let driver = driver_of(story, step).await;
    story.crash(&driver);
    let failover = ended(story).await;
    let completed = failover.steps.iter().find(|one| one.step == step).unwrap();
    let by = completed.by.as_ref().map(ToString::to_string);
    assert!(by.as_ref().is_some_and(|by| *by != driver), "{driver} died in {step:?}, which {by:?} completed");
    assert_eq!(push(story, other_than(&driver), "after").await, Outcome::Committed, "{step:?}");
    story.start(&driver).await;
    story.converge().await;
}

/// The node that has begun the step dies before it is complete. Another one completes it, and those behind it.
#[test]
fn another_node_goes_on_when_the_driver_dies_in_any_step() {
    for step in FailoverStep::ALL {
        tell_of_standbys(async |story| dies_in(story, step).await);
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

async fn wakes_after(story: &Story, step: FailoverStep, absence: Absence) {
    begin(story).await;
    let driver = driver_of(story, step).await;
    match absence {
        Absence::Pause(after_ms) => {
            sleep(Duration::from_millis(after_ms)).await;
            story.world.faults.pause(&node(&driver), true);
        }
        Absence::Cut => story.cut(&driver, Seam::RefDb, Some(Cut::Requests)),
    }
    let failover = ended(story).await;
    let before = roles(story).await;
    story.world.faults.pause(&node(&driver), false);
    story.cut(&driver, Seam::RefDb, None);
    story.pass(10_000).await;
    assert_eq!(roles(story).await, before, "{driver} was away in {step:?}: {absence:?}");
    let desk = story.life(SOURCE).node.operators().unwrap();
    assert_eq!(desk.sites().await.unwrap().failover, Some(failover), "{driver} has changed the record: {absence:?}");
    assert_eq!(push(story, other_than(&driver), "after").await, Outcome::Committed, "{step:?}");
    story.converge().await;
}

/// Two drivers do no harm. One stands still in the middle of a step, with the sites as they were in its memory. Another
/// one takes the other steps. When the first one wakes, it changes no role, and not the record.
#[test]
fn a_driver_that_wakes_after_another_one_went_on_does_no_harm() {
    let absences = [Absence::Pause(0), Absence::Pause(6), Absence::Pause(9), Absence::Pause(12), Absence::Cut];
    for step in [FailoverStep::Stop, FailoverStep::Promote, FailoverStep::StandBy] {
        for absence in absences {
            tell_of_standbys(async |story| wakes_after(story, step, absence).await);
        }
    }
}
