//! Whole drills on a refdb in memory, on paused time.

use async_trait::async_trait;
use lockstep_proto::failover::{FailoverKind, FailoverStep, ProbeResult};
use lockstep_proto::{IncarnationId, SiteId};
use tokio::time::Instant;

use super::*;
use crate::seams::refdb::FailoverDb;
use crate::stages::ports::Fencing;

/// A wall clock that follows the paused time.
struct Paused(Instant);

impl Clock for Paused {
    fn now_ms(&self) -> u64 {
        1_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// Freezes an incarnation and poisons its window, as the membership stage does.
struct Fence(FailoverDb);

#[async_trait]
impl Fencing for Fence {
    async fn fence(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        let frozen = self.0.incarnations.freeze(site, id).await?;
        for (lane, end) in id.lanes(frozen.ends()) {
            for seq in end.0 - frozen.window..end.0 {
                self.0.journal.poison(&lane.slot(lockstep_proto::Seq(seq))).await?;
            }
        }
        self.0.incarnations.poisoned(site, id).await
    }
}

/// Probes of the node that drives, which are green after this time.
pub(in super::super) struct Green(pub(in super::super) Duration);

#[async_trait]
impl Probes for Green {
    async fn round(&self) -> Vec<ProbeResult> {
        sleep(self.0).await;
        vec![ProbeResult { probe: "push".to_owned(), red: None }]
    }

    fn interval(&self) -> Duration {
        LOOK
    }
}

fn stage(context: &NodeContext) -> Arc<DrillStage> {
    slow(context, Duration::ZERO)
}

fn slow(context: &NodeContext, probes: Duration) -> Arc<DrillStage> {
    Arc::new(DrillStage::new(context, fencing(), Arc::new(Green(probes))))
}

pub(in super::super) fn fencing() -> FencingOver {
    Arc::new(|refdb| Arc::new(Fence(refdb)) as Arc<dyn Fencing>)
}

/// A node on seams in memory, whose clock follows the paused time.
pub(in super::super) fn context() -> NodeContext {
    NodeContext { clock: Arc::new(Paused(Instant::now())), ..NodeContext::in_memory() }
}

fn request(kind: FailoverKind, fail_in: Option<FailoverStep>) -> DrillRequest {
    let (from, to) = ("a".parse().unwrap(), "b".parse().unwrap());
    DrillRequest { kind, from, to, fail_in, reason: "test".to_owned() }
}

/// Runs a drill to its end.
async fn report(stage: &Arc<DrillStage>, request: DrillRequest) -> DrillReport {
    let begun = stage.begin("uid 0", request, true).await.unwrap();
    loop {
        sleep(LOOK).await;
        let found = stage.all().await.unwrap();
        if let (None, Some(report)) = (found.running, found.past.first()) {
            assert_eq!(report.number, begun.number);
            return report.clone();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drill_is_green_loses_nothing_and_touches_nothing_else() {
    for kind in [FailoverKind::Planned, FailoverKind::Forced] {
        let context = context();
        let report = report(&stage(&context), request(kind, None)).await;
        assert_eq!((report.red.clone(), report.lost), (Vec::<String>::new(), 0), "{kind:?}");
        assert!(report.commits > 2 && report.green_ms >= report.took_writes_ms, "{report:?}");
        let steps: Vec<FailoverStep> = report.steps.iter().map(|one| one.step).collect();
        assert_eq!(steps, PlanRequest::new(kind, "a".parse().unwrap(), "b".parse().unwrap()).steps());
        let refdb = &context.refdb;
        assert!(refdb.sites.sites().await.unwrap().is_empty() && refdb.nodes.nodes().await.unwrap().is_empty());
        assert_eq!(refdb.documents.document(Document::Failover).await, Ok(None));
        let (_, record) = canary::DRILL.read(context.refdb.documents.as_ref()).await.unwrap().unwrap();
        assert_eq!(record.world, None, "nothing is left of the canary");
    }
}

/// The source of a forced drill goes on while the probes run, and no slot that it may use is left.
#[tokio::test(start_paused = true)]
async fn a_forced_drill_whose_probes_take_their_time_is_green() {
    let report = report(&slow(&context(), Duration::from_secs(4)), request(FailoverKind::Forced, None)).await;
    assert_eq!(report.red, Vec::<String>::new());
    assert!(report.green_ms.is_some_and(|green_ms| green_ms >= 4_000), "{report:?}");
}

/// The number of drills that the observer was told of, red ones apart.
#[derive(Default)]
struct Told(Mutex<Vec<(u64, bool)>>);

impl Observer for Told {
    fn failed(&self, _: &'static str, _: &dyn std::fmt::Display) {}

    fn drill_ended(&self, number: u64, red: &[String]) {
        self.0.lock().push((number, red.is_empty()));
    }
}

/// The node died after it had noted its report, and before it had ended the canary.
#[tokio::test(start_paused = true)]
async fn a_drill_that_has_noted_its_report_is_not_noted_as_killed_and_a_killed_one_is_a_failure() {
    let told = Arc::new(Told::default());
    let context = NodeContext { observer: Arc::clone(&told) as _, ..context() };
    let stage = stage(&context);
    let first = report(&stage, request(FailoverKind::Planned, None)).await;
    for (number, noted) in [(1, true), (7, false)] {
        let (before, record) = canary::DRILL.read(context.refdb.documents.as_ref()).await.unwrap().unwrap();
        let begun = DrillBegun { number, at_ms: 0, ..record.begun.clone() };
        let left = DrillRecord { begun, world: Some(World::new(&record.request.from, &record.request.to)), ..record };
        assert!(canary::DRILL.replace(context.refdb.documents.as_ref(), before, &left).await.unwrap());
        let next = report(&stage, request(FailoverKind::Planned, None)).await;
        let past = stage.all().await.unwrap().past;
        assert_eq!((next.number, past[1].number, past[1].is_green()), (number + 1, number, noted), "{past:?}");
        assert!(past.contains(&first));
    }
    assert_eq!(*told.0.lock(), [(1, true), (2, true), (7, false), (8, true)]);
}

/// A drill that cannot fail proves nothing.
#[tokio::test(start_paused = true)]
async fn a_failure_that_is_injected_in_any_step_turns_the_drill_red() {
    for kind in [FailoverKind::Planned, FailoverKind::Forced] {
        let mut steps = PlanRequest::new(kind, "a".parse().unwrap(), "b".parse().unwrap()).steps();
        // A source that was fenced stays so: nothing can fail in the last step.
        steps.retain(|step| kind == FailoverKind::Planned || *step != FailoverStep::StandBy);
        for step in steps {
            let report = report(&stage(&context()), request(kind, Some(step))).await;
            println!("{kind:?}, {}: {:?}", step.name(), report.red);
            assert!(!report.is_green(), "{kind:?}: a failure in {} was not seen", step.name());
            // The fencing holds for as long as the drill takes, unless the failure is injected there.
            let has_failed = report.red.iter().any(|why| why.contains("the fencing has failed"));
            let text = report.red.join("; ");
            assert!(has_failed || text.contains(of_injected(step)), "{kind:?}, {}: {text}", step.name());
            let is_injected = kind == FailoverKind::Forced && step == FailoverStep::Settle;
            assert_eq!(has_failed, is_injected, "{kind:?}, {step:?}: {:?}", report.red);
        }
    }
}

/// The words by which a drill names the step in which a failure was injected.
fn of_injected(step: FailoverStep) -> &'static str {
    match step {
        FailoverStep::Verify => "a failure was injected in step verify",
        FailoverStep::CatchUp => "acknowledged commits",
        FailoverStep::Serve => "took no writes in time",
        FailoverStep::Probe => "a failure was injected in step probe",
        step => step.name(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_drill_whose_node_was_killed_is_noted_and_replaced() {
    let context = context();
    let killed = NodeContext { tasks: Tasks::new(), node: "killed".parse().unwrap(), ..context.clone() };
    stage(&killed).begin("uid 0", request(FailoverKind::Planned, None), true).await.unwrap();
    sleep(WARM_UP / 2).await;
    killed.tasks.abort();
    let stage = stage(&context);
    let refused = stage.begin("uid 0", request(FailoverKind::Planned, None), true).await;
    assert!(matches!(refused, Err(BeginError::Running(running)) if running.number == 1));
    sleep(Duration::from_millis(KILLED_MS)).await;
    assert_eq!(stage.all().await.unwrap().running, None);
    let second = report(&stage, request(FailoverKind::Planned, None)).await;
    assert!(second.is_green() && second.number == 2, "{second:?}");
    let past = stage.all().await.unwrap().past;
    assert!(past[1].number == 1 && past[1].red[0].starts_with("killed has not driven it"), "{past:?}");
}
