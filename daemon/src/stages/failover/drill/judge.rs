//! The verdict on a drill: a pure function of its failover, its canary, and the commits that were acknowledged and
//! applied.

use std::collections::BTreeSet;

use lockstep_proto::drill::{DrillReport, DrillStep};
use lockstep_proto::failover::{Failover, FailoverKind, FailoverStep, Role};
use lockstep_proto::{SiteId, TxnId};

use super::world::{DrillRecord, World};

/// The state of a drill when it ended.
pub(super) struct Seen<'a> {
    pub(super) record: &'a DrillRecord,
    /// The canary. None if it could not be read.
    pub(super) world: Option<&'a World>,
    /// The failover of the canary. None if it could not be read.
    pub(super) failover: Option<&'a Failover>,
    /// The commits of the source that were acknowledged.
    pub(super) acknowledged: &'a BTreeSet<TxnId>,
    /// The transactions that the target has applied.
    pub(super) applied: &'a BTreeSet<TxnId>,
    /// Why the drill was ended before the failover.
    pub(super) cut_short: Option<String>,
}

/// The report of a drill.
pub(super) fn judge(seen: &Seen<'_>) -> DrillReport {
    let DrillRecord { begun, request, actor, requested_ms, .. } = seen.record.clone();
    let lost = seen.acknowledged.difference(seen.applied).count() as u64;
    let end = seen.failover.and_then(|failover| failover.end.as_ref());
    let mut red: Vec<String> = seen.cut_short.iter().cloned().collect();
    match seen.failover {
        None => red.push("the failover of the canary cannot be read".to_owned()),
        Some(failover) => red.extend(of_failover(failover)),
    }
    red.extend(seen.world.map(|world| of_world(seen.record, world, end.is_some())).unwrap_or_default());
    if seen.acknowledged.is_empty() {
        red.push(format!("the canary of {} has committed nothing", request.from));
    }
    if lost > 0 {
        red.push(format!("{lost} acknowledged commits of {} are not at {}", request.from, request.to));
    }
    DrillReport {
        number: begun.number,
        at_ms: requested_ms,
        by: begun.by,
        actor,
        request,
        red,
        took_writes_ms: end.and_then(|end| end.recovery_ms),
        green_ms: end.and_then(|end| end.green_ms),
        lost,
        commits: seen.acknowledged.len() as u64,
        steps: seen.failover.map(steps).unwrap_or_default(),
    }
}

fn steps(failover: &Failover) -> Vec<DrillStep> {
    let took = |one: &lockstep_proto::failover::StepRecord| {
        let took_ms = one.ended_ms?.saturating_sub(one.began_ms?);
        Some(DrillStep { step: one.step, took_ms })
    };
    failover.steps.iter().filter_map(took).collect()
}

/// The faults that the record of the failover shows.
fn of_failover(failover: &Failover) -> Vec<String> {
    let mut red = Vec::new();
    let step = failover.current().map_or("its end", |step| step.step.name());
    match (&failover.held, &failover.end) {
        (Some(why), _) => red.push(format!("it was held before {step}: {why}")),
        (None, None) => red.push(format!("step {step} did not end")),
        (None, Some(_)) if failover.unserved => red.push("the target took no writes in time".to_owned()),
        (None, Some(end)) if failover.has(FailoverStep::Probe) && end.green_ms.is_none() => {
            let note = failover.steps.iter().find(|one| one.step == FailoverStep::Probe).map(|one| one.note.as_str());
            red.push(format!("the probes are red: {}", note.unwrap_or_default()));
        }
        (None, Some(_)) => {}
    }
    red
}

/// The faults that the roles and slots of the canary show.
fn of_world(record: &DrillRecord, world: &World, has_ended: bool) -> Vec<String> {
    let mut red = Vec::new();
    let late = world.committed(&record.request.from).into_iter().filter(|(_, late)| *late).count();
    if late > 0 {
        let from = &record.request.from;
        red.push(format!("{late} commits of {from} landed after its incarnation was poisoned: the fencing has failed"));
    }
    let stopped = match record.request.kind {
        FailoverKind::Planned => Role::Standby,
        FailoverKind::Forced => Role::Fenced,
    };
    let wanted: [(&SiteId, Role); 2] = [(&record.request.from, stopped), (&record.request.to, Role::Active)];
    for (site, role) in wanted.into_iter().filter(|_| has_ended) {
        let found = world.site(site).map(|found| found.role);
        if found != Some(role) {
            let found = found.map_or("absent", Role::name);
            red.push(format!("{site} is {found} and should be {}", role.name()));
        }
    }
    red
}
