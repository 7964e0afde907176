//! The estimated time of a failover, from times that were measured. A pure function of the plan and the past.
//!
//! Each step takes the median of its times in the completed failovers of the same kind, between any two sites. While
//! there are none, green drills of the same kind count. The slots that the target is behind by come on top of the
//! median of `catch_up`, at the rate of that earlier failover to the same target which had the most slots to apply: the
//! fixed costs of the step distort it least.

use std::collections::BTreeMap;

use lockstep_proto::drill::{DrillReport, Drills};
use lockstep_proto::failover::{Estimate, Failover, FailoverOutcome, FailoverPlan, FailoverStep};
use lockstep_proto::history::{History, PastChange};

/// The times of the steps of one failover or drill, in milliseconds.
type Times = BTreeMap<FailoverStep, u64>;

/// The estimated time of a plan, whose target is behind by `behind` slots. None if nothing was measured.
pub(super) fn estimate(plan: &FailoverPlan, behind: u64, history: &History, drills: &Drills) -> Option<Estimate> {
    let done: Vec<&Failover> = history.past.iter().filter_map(completed).collect();
    let failovers: Vec<Times> = done.iter().filter(|one| one.kind == plan.kind).map(|one| times(one)).collect();
    let counts = |one: &&DrillReport| failovers.is_empty() && one.is_green() && one.request.kind == plan.kind;
    let drills: Vec<Times> = drills.past.iter().filter(counts).map(times_of_drill).collect();
    let measured = if failovers.is_empty() { &drills } else { &failovers };
    if measured.is_empty() {
        return None;
    }
    let behind_ms = time_for(behind, plan, &done);
    let (failovers, drills) = (failovers.len() as u64, drills.len() as u64);
    let mut estimate = Estimate { failovers, drills, behind, behind_ms, ..Estimate::default() };
    for step in plan.steps.iter().map(|one| one.step) {
        let Some(mut took_ms) = median(measured.iter().filter_map(|times| times.get(&step)).copied().collect()) else {
            estimate.unmeasured.push(step);
            continue;
        };
        if step == FailoverStep::CatchUp {
            took_ms = took_ms.saturating_add(behind_ms.unwrap_or(0));
        }
        estimate.all_ms = estimate.all_ms.saturating_add(took_ms);
        if (FailoverStep::Stop..=FailoverStep::Serve).contains(&step) {
            estimate.writes_ms = estimate.writes_ms.saturating_add(took_ms);
        }
    }
    Some(estimate)
}

/// A failover after which the target took writes.
fn completed(past: &PastChange) -> Option<&Failover> {
    match past {
        PastChange::Failover(one) => {
            let is_done = one.end.as_ref().is_some_and(|end| end.outcome == FailoverOutcome::Done);
            (is_done && !one.unserved).then_some(one.as_ref())
        }
        PastChange::Role(_) => None,
    }
}

/// The times of the steps, without those in which it was paused between two steps.
fn times(failover: &Failover) -> Times {
    let took = |(began_ms, ended_ms): (u64, u64)| ended_ms.saturating_sub(began_ms);
    let steps = failover.steps.iter();
    steps.filter_map(|one| Some((one.step, took(one.began_ms.zip(one.ended_ms)?)))).collect()
}

fn times_of_drill(drill: &DrillReport) -> Times {
    drill.steps.iter().map(|one| (one.step, one.took_ms)).collect()
}

/// The time in which the target of a plan applies slots. None if no rate is known: no earlier failover had slots to
/// apply there, or it went on without them or paused behind the step: what it lacked was counted later then.
fn time_for(slots: u64, plan: &FailoverPlan, done: &[&Failover]) -> Option<u64> {
    let caught_up = done.iter().filter(|one| one.to == plan.to).filter_map(|one| {
        let lacks_none = one.lacked.as_ref().is_some_and(|lacked| lacked.transactions == Some(0));
        let applied = one.behind.filter(|slots| lacks_none && went_on(one) && *slots > 0)?;
        Some((applied, *times(one).get(&FailoverStep::CatchUp)?))
    });
    let (applied, took_ms) = caught_up.max_by_key(|(applied, _)| *applied)?;
    Some(slots.saturating_mul(took_ms) / applied)
}

/// Whether the next step began as soon as the catch-up had ended.
fn went_on(failover: &Failover) -> bool {
    let mut steps = failover.steps.iter().skip_while(|one| one.step != FailoverStep::CatchUp);
    let (caught_up, next) = (steps.next(), steps.next());
    caught_up.zip(next).is_some_and(|(caught_up, next)| caught_up.ended_ms == next.began_ms)
}

/// The median. Of an even number, the upper one of the two in the middle.
fn median(mut times: Vec<u64>) -> Option<u64> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use lockstep_proto::drill::{DrillRequest, DrillStep};
    use lockstep_proto::failover::{AtRisk, FailoverEnd, FailoverKind, PlanRequest};

    use super::super::plan::{begun, plan};
    use super::super::view::View;
    use super::*;

    fn request(kind: FailoverKind) -> PlanRequest {
        PlanRequest::new(kind, "a".parse().unwrap(), "b".parse().unwrap())
    }

    fn planned(kind: FailoverKind) -> FailoverPlan {
        plan(&request(kind), &View::default(), None, None)
    }

    /// A completed failover from `a` to `b` whose steps took `took_ms` each, with a pause of an hour after the first.
    fn failover(number: u64, kind: FailoverKind, took_ms: u64) -> Failover {
        let mut failover = begun(number, &request(kind), (1, 2));
        let mut at_ms = 1_000;
        for step in &mut failover.steps {
            (step.began_ms, step.ended_ms) = (Some(at_ms), Some(at_ms + took_ms));
            at_ms += took_ms + if step.step == FailoverStep::Verify { 3_600_000 } else { 0 };
        }
        let outcome = FailoverOutcome::Done;
        failover.end = Some(FailoverEnd { outcome, at_ms, recovery_ms: Some(1), green_ms: Some(1), lost: 0 });
        failover
    }

    /// One that had slots to apply, in `catch_up`.
    fn caught_up(number: u64, took_ms: u64, behind: u64) -> Failover {
        let lacked = Some(AtRisk { transactions: Some(0), ..AtRisk::default() });
        Failover { behind: Some(behind), lacked, ..failover(number, FailoverKind::Planned, took_ms) }
    }

    fn history(past: Vec<Failover>) -> History {
        History { past: past.into_iter().map(|one| PastChange::Failover(Box::new(one))).collect() }
    }

    fn drills(kind: FailoverKind, red: &[&str]) -> Drills {
        let PlanRequest { from, to, .. } = request(kind);
        let steps = planned(kind).steps;
        let past = vec![DrillReport {
            number: 1,
            at_ms: 1,
            by: "b-0".parse().unwrap(),
            actor: "uid 0".to_owned(),
            request: DrillRequest { kind, from, to, fail_in: None, reason: "r".to_owned() },
            red: red.iter().map(ToString::to_string).collect(),
            took_writes_ms: Some(1),
            green_ms: Some(2),
            lost: 0,
            commits: 1,
            steps: steps.iter().map(|one| DrillStep { step: one.step, took_ms: 10 }).collect(),
        }];
        Drills { running: None, past }
    }

    #[test]
    fn the_estimate_is_the_median_of_each_step_in_failovers_of_the_same_kind_without_pauses() {
        let past = vec![
            failover(4, FailoverKind::Forced, 9_000),
            failover(3, FailoverKind::Planned, 100),
            failover(2, FailoverKind::Planned, 700),
            failover(1, FailoverKind::Planned, 200),
        ];
        let plan = planned(FailoverKind::Planned);
        let all = drills(FailoverKind::Planned, &[]);
        let found = estimate(&plan, 0, &history(past), &all).unwrap();
        // Of the eight steps, five are from `stop` to `serve`.
        let expected = Estimate { writes_ms: 5 * 200, all_ms: 8 * 200, failovers: 3, ..Estimate::default() };
        assert_eq!((plan.steps.len(), found), (8, expected));
    }

    #[test]
    fn slots_that_the_target_lacks_take_their_time_at_its_measured_rate() {
        let other = Failover { to: "c".parse().unwrap(), ..caught_up(4, 1, 90_000) };
        let left = Failover { lacked: None, ..caught_up(3, 1, 90_000) };
        let mut held = caught_up(5, 1, 90_000);
        let behind = held.steps.iter_mut().skip_while(|one| one.step != FailoverStep::CatchUp).skip(1);
        behind.for_each(|one| one.began_ms = one.began_ms.map(|at_ms| at_ms + 60_000));
        // 1,000 slots took 500 ms: one slot takes half a millisecond.
        let past = history(vec![held, other, left, caught_up(2, 500, 1_000), caught_up(1, 500, 3)]);
        let plan = planned(FailoverKind::Planned);
        let found = estimate(&plan, 4_000, &past, &Drills::default()).unwrap();
        assert_eq!((found.behind, found.behind_ms), (4_000, Some(2_000)));
        let none = estimate(&plan, 0, &past, &Drills::default()).unwrap();
        assert_eq!((found.writes_ms - none.writes_ms, found.all_ms - none.all_ms), (2_000, 2_000));
        let unknown = estimate(&plan, 4_000, &history(vec![failover(1, FailoverKind::Planned, 5)]), &Drills::default());
        assert_eq!(unknown.map(|found| (found.behind, found.behind_ms)), Some((4_000, None)));
    }

    #[test]
    fn green_drills_count_while_no_failover_of_the_kind_has_ended_and_else_nothing_is_known() {
        let plan = planned(FailoverKind::Forced);
        let of = |past: Vec<Failover>, all: Drills| estimate(&plan, 7, &history(past), &all);
        let unserved = Failover { unserved: true, ..failover(2, FailoverKind::Forced, 5) };
        let running = Failover { end: None, ..failover(3, FailoverKind::Forced, 5) };
        let past = || vec![running.clone(), unserved.clone(), failover(1, FailoverKind::Planned, 5)];
        assert_eq!(of(past(), Drills::default()), None);
        assert_eq!(of(past(), drills(FailoverKind::Planned, &[])), None, "of the other kind");
        assert_eq!(of(past(), drills(FailoverKind::Forced, &["it hung"])), None, "red");
        let found = of(past(), drills(FailoverKind::Forced, &[])).unwrap();
        assert_eq!((found.failovers, found.drills, found.writes_ms), (0, 1, 50));
    }

    #[test]
    fn a_step_that_was_never_measured_is_named() {
        let bounded = PlanRequest { max_loss: Some(0), ..request(FailoverKind::Planned) };
        let plan = plan(&bounded, &View::default(), None, None);
        let past = history(vec![failover(1, FailoverKind::Planned, 5)]);
        assert_eq!(estimate(&plan, 0, &past, &Drills::default()).unwrap().unmeasured, [FailoverStep::CheckLoss]);
    }
}
