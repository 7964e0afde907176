//! The next action of a failover. A pure function of the failover, the sites, and the time that the current step has
//! taken.

use std::time::Duration;

use lockstep_proto::IncarnationId;
use lockstep_proto::failover::{Failover, FailoverKind, FailoverOutcome, FailoverStep};

use super::view::View;
use crate::seams::refdb::{Role, SiteRecord};

/// How long the driver waits inside a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long the source of a planned failover may take to end its own incarnations.
    pub(super) settle: Duration,
    /// How long a forced failover waits for nodes of the target that are behind. A planned one waits three times as
    /// long.
    pub(super) catch_up: Duration,
    /// How long the last nodes of the target may take to open their incarnations.
    pub(super) serve: Duration,
}

impl Patience {
    /// How long the nodes of the target may be behind. Nothing that they lack is lost, and no site takes writes
    /// meanwhile.
    fn catch_up(&self, kind: FailoverKind) -> Duration {
        match kind {
            FailoverKind::Planned => self.catch_up * 3,
            FailoverKind::Forced => self.catch_up,
        }
    }
}

/// The next action of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing can be done now, for this reason.
    Wait(String),
    /// Begin the current step: note its time.
    Begin,
    /// Hold the failover before the current step, as the operator has asked.
    Hold,
    /// Change the role of a site.
    ChangeRole(SiteRecord, Role),
    /// Freeze and poison these incarnations of the source.
    Fence(Vec<IncarnationId>),
    /// The current step is complete, with this result.
    Next(String),
    /// No node of the target takes writes in time. The failover goes on, so that another one can follow.
    Unserved(String),
    /// The failover has ended.
    End(FailoverOutcome),
}

/// Decides what to do next in a failover that is in progress. `waited` is the time since this driver saw the current
/// step begin.
pub(super) fn decide(failover: &Failover, view: &View, waited: Duration, patience: &Patience) -> Decision {
    if failover.aborting {
        return abort(failover, view);
    }
    let Some(current) = failover.current() else { return Decision::End(FailoverOutcome::Done) };
    if current.began_ms.is_none() {
        return match () {
            () if failover.paused => Decision::Wait("paused by an operator".to_owned()),
            () if failover.pause_before.contains(&current.step) => Decision::Hold,
            () => Decision::Begin,
        };
    }
    match current.step {
        FailoverStep::Stop => stop(failover, view),
        FailoverStep::Settle => settle(failover, view, waited, patience),
        FailoverStep::CatchUp => catch_up(failover, view, waited, patience),
        FailoverStep::Promote => promote(failover, view),
        FailoverStep::Serve => serve(failover, view, waited, patience),
        FailoverStep::StandBy => stand_by(failover, view),
    }
}

/// The role of the source while the failover is in progress.
pub(super) fn stopped(kind: FailoverKind) -> Role {
    match kind {
        FailoverKind::Planned => Role::Draining,
        FailoverKind::Forced => Role::Fenced,
    }
}

/// Whether the source has the role and the epoch that this failover gave it. An old record may meet the sites of a
/// later failover, which have later epochs.
fn is_stopped(failover: &Failover, site: &SiteRecord) -> bool {
    site.epoch == failover.from_epoch + 1 && site.role == stopped(failover.kind)
}

/// Gives the source its role back. Its nodes then open new incarnations. The epoch is raised even if the role had not
/// changed yet, so that a late copy of the change has no effect.
fn abort(failover: &Failover, view: &View) -> Decision {
    match view.site(&failover.from) {
        Some(site) if site.epoch == failover.from_epoch || is_stopped(failover, site) => {
            Decision::ChangeRole(site.clone(), Role::Active)
        }
        _ => Decision::End(FailoverOutcome::Aborted),
    }
}

fn stop(failover: &Failover, view: &View) -> Decision {
    let wanted = stopped(failover.kind);
    match view.site(&failover.from) {
        Some(site) if site.epoch == failover.from_epoch => Decision::ChangeRole(site.clone(), wanted),
        Some(site) if is_stopped(failover, site) => Decision::Next(format!("{} is {}", site.site, wanted.name())),
        Some(site) => changed(site),
        None => Decision::Wait(format!("site {} is not enrolled", failover.from)),
    }
}

/// The wait when somebody else has changed the role of a site.
fn changed(site: &SiteRecord) -> Decision {
    let (site, role, epoch) = (&site.site, site.role.name(), site.epoch);
    Decision::Wait(format!("the role of {site} was changed by somebody else: it is {role}, epoch {epoch}; abort"))
}

fn settle(failover: &Failover, view: &View, waited: Duration, patience: &Patience) -> Decision {
    let open = || view.of_site(&failover.from).filter(|one| one.may_commit());
    if let Some(site) = view.site(&failover.from).filter(|_| open().any(|one| one.epoch > failover.from_epoch)) {
        return changed(site);
    }
    let open: Vec<IncarnationId> = open().map(|one| one.id.clone()).collect();
    if open.is_empty() {
        let all = view.of_site(&failover.from).count();
        return Decision::Next(format!("nothing can be committed in any of {all} incarnations of {}", failover.from));
    }
    if failover.kind == FailoverKind::Planned && waited < patience.settle {
        return Decision::Wait(format!("{} nodes of {} are ending their commits", open.len(), failover.from));
    }
    Decision::Fence(open)
}

fn catch_up(failover: &Failover, view: &View, waited: Duration, patience: &Patience) -> Decision {
    let nodes: Vec<_> = view.living(&failover.to).collect();
    let behind =
        nodes.iter().map(|node| (&node.node, view.behind(node, &failover.from))).filter(|(_, slots)| *slots > 0);
    let behind: Vec<String> = behind.map(|(node, slots)| format!("{node} is behind by {slots} slots")).collect();
    match () {
        () if nodes.is_empty() => Decision::Wait(format!("no node of {} has a heartbeat", failover.to)),
        () if behind.is_empty() => {
            Decision::Next(format!("{} nodes of {} hold everything of {}", nodes.len(), failover.to, failover.from))
        }
        () if waited >= patience.catch_up(failover.kind) => {
            Decision::Next(format!("not caught up yet: {}; nothing is lost, they go on", behind.join(", ")))
        }
        () => Decision::Wait(behind.join(", ")),
    }
}

fn promote(failover: &Failover, view: &View) -> Decision {
    match view.site(&failover.to) {
        Some(site) if site.role == Role::Active => Decision::Next(format!("{} is active", site.site)),
        Some(site) if site.epoch == failover.to_epoch => Decision::ChangeRole(site.clone(), Role::Active),
        Some(site) => changed(site),
        None => Decision::Wait(format!("site {} is not enrolled", failover.to)),
    }
}

fn serve(failover: &Failover, view: &View, waited: Duration, patience: &Patience) -> Decision {
    let living = view.living(&failover.to).count();
    let serving = view.living(&failover.to).filter(|node| view.takes_writes(node)).count();
    let text = format!("{serving} of {living} nodes of {} take writes", failover.to);
    match () {
        () if serving > 0 && serving == living => Decision::Next(text),
        () if waited < patience.serve => Decision::Wait(text),
        () if serving == 0 => Decision::Unserved(text),
        () => Decision::Next(text),
    }
}

fn stand_by(failover: &Failover, view: &View) -> Decision {
    match view.site(&failover.from) {
        Some(site) if failover.kind == FailoverKind::Planned && is_stopped(failover, site) => {
            Decision::ChangeRole(site.clone(), Role::Standby)
        }
        Some(site) => Decision::Next(format!("{} is {}", site.site, site.role.name())),
        None => Decision::Next(format!("{} is not enrolled", failover.from)),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::Incarnation;

    use super::*;
    use crate::seams::refdb::{IncarnationRecord, IncarnationState};
    use crate::stages::failover::plan::steps;

    const PATIENCE: Patience =
        Patience { settle: Duration::from_secs(9), catch_up: Duration::from_secs(9), serve: Duration::from_secs(9) };

    /// A failover from `a` (epoch 1) to `b` (epoch 2), in which the first `done` steps are complete and the next one
    /// has begun.
    fn failover(kind: FailoverKind, done: usize) -> Failover {
        let mut steps = steps();
        steps.iter_mut().take(done).for_each(|step| (step.began_ms, step.ended_ms) = (Some(1), Some(2)));
        steps.iter_mut().skip(done).take(1).for_each(|step| step.began_ms = Some(2));
        Failover {
            number: 1,
            kind,
            from: "a".parse().unwrap(),
            to: "b".parse().unwrap(),
            from_epoch: 1,
            to_epoch: 2,
            actor: String::new(),
            reason: String::new(),
            requested_ms: 0,
            steps,
            pause_before: Vec::new(),
            paused: false,
            aborting: false,
            unserved: false,
            end: None,
            audit: Vec::new(),
        }
    }

    fn site(name: &str, role: Role, epoch: u64) -> SiteRecord {
        SiteRecord { site: name.parse().unwrap(), role, epoch }
    }

    fn view(a: SiteRecord, b: SiteRecord) -> View {
        View { sites: vec![a, b], ..View::default() }
    }

    fn incarnation(epoch: u64, state: IncarnationState) -> IncarnationRecord {
        IncarnationRecord {
            id: lockstep_proto::IncarnationId { node: "a-0".parse().unwrap(), number: Incarnation(epoch) },
            site: "a".parse().unwrap(),
            epoch,
            state,
            window: 1,
            settled: Vec::new(),
            published: Vec::new(),
        }
    }

    fn next(failover: &Failover, view: &View) -> Decision {
        decide(failover, view, Duration::ZERO, &PATIENCE)
    }

    #[test]
    fn every_change_of_role_starts_from_an_epoch_of_this_failover() {
        let (a, b) = (site("a", Role::Active, 1), site("b", Role::Standby, 2));
        let stop = failover(FailoverKind::Planned, 0);
        assert_eq!(next(&stop, &view(a.clone(), b.clone())), Decision::ChangeRole(a, Role::Draining));
        let draining = site("a", Role::Draining, 2);
        let promote = failover(FailoverKind::Planned, 3);
        assert_eq!(next(&promote, &view(draining.clone(), b.clone())), Decision::ChangeRole(b, Role::Active));
        let last = failover(FailoverKind::Planned, 5);
        let active = site("b", Role::Active, 3);
        assert_eq!(next(&last, &view(draining.clone(), active)), Decision::ChangeRole(draining, Role::Standby));
    }

    /// A driver that was paused with an old record reads the sites of a later failover. It must change nothing there.
    #[test]
    fn an_old_record_changes_nothing_in_a_later_failover() {
        let b = site("b", Role::Active, 3);
        for kind in [FailoverKind::Planned, FailoverKind::Forced] {
            let later = view(site("a", stopped(kind), 4), b.clone());
            for done in 0..6 {
                let old = failover(kind, done);
                for aborting in [false, true] {
                    let decision = next(&Failover { aborting, ..old.clone() }, &later);
                    let acts = matches!(decision, Decision::ChangeRole(..) | Decision::Fence(_));
                    assert!(!acts, "{kind:?}, {done} steps, aborting {aborting}: {decision:?}");
                }
            }
        }
        let mut again = view(site("a", Role::Active, 3), b);
        again.incarnations = vec![incarnation(3, IncarnationState::Open)];
        let settle = failover(FailoverKind::Forced, 1);
        assert!(matches!(next(&settle, &again), Decision::Wait(_)), "incarnations of a later epoch are not fenced");
    }

    #[test]
    fn the_target_is_promoted_only_after_the_source_has_settled() {
        let mut settling = view(site("a", Role::Fenced, 2), site("b", Role::Standby, 2));
        settling.incarnations = vec![incarnation(1, IncarnationState::Frozen)];
        let settle = failover(FailoverKind::Forced, 1);
        assert!(matches!(next(&settle, &settling), Decision::Fence(_)));
        settling.incarnations = vec![incarnation(1, IncarnationState::Poisoned)];
        assert!(matches!(next(&settle, &settling), Decision::Next(_)));
    }

    #[test]
    fn a_target_without_a_node_that_serves_does_not_hold_the_failover_for_ever() {
        let view = view(site("a", Role::Fenced, 2), site("b", Role::Active, 3));
        let serve = failover(FailoverKind::Forced, 4);
        assert!(matches!(next(&serve, &view), Decision::Wait(_)));
        let late = decide(&serve, &view, Duration::from_secs(10), &PATIENCE);
        assert!(matches!(late, Decision::Unserved(_)), "{late:?}");
    }
}
