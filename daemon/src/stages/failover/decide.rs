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
    /// How long a forced failover waits for nodes of the target that are behind.
    pub(super) catch_up: Duration,
    /// How long the last nodes of the target may take to open their incarnations.
    pub(super) serve: Duration,
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

/// Gives the source its role back. Its nodes then open new incarnations. The epoch is raised even if the role had not
/// changed yet, so that a late copy of the change has no effect.
fn abort(failover: &Failover, view: &View) -> Decision {
    match view.site(&failover.from) {
        Some(site) if site.epoch == failover.from_epoch || site.role == stopped(failover.kind) => {
            Decision::ChangeRole(site.clone(), Role::Active)
        }
        _ => Decision::End(FailoverOutcome::Aborted),
    }
}

fn stop(failover: &Failover, view: &View) -> Decision {
    let wanted = stopped(failover.kind);
    match view.site(&failover.from) {
        Some(site) if site.epoch == failover.from_epoch => Decision::ChangeRole(site.clone(), wanted),
        Some(site) if site.role == wanted => Decision::Next(format!("{} is {}", site.site, name(wanted))),
        Some(site) => changed(site),
        None => Decision::Wait(format!("site {} is not enrolled", failover.from)),
    }
}

/// The wait when somebody else has changed the role of a site.
fn changed(site: &SiteRecord) -> Decision {
    let (site, role, epoch) = (&site.site, name(site.role), site.epoch);
    Decision::Wait(format!("the role of {site} was changed by somebody else: it is {role}, epoch {epoch}; abort"))
}

fn settle(failover: &Failover, view: &View, waited: Duration, patience: &Patience) -> Decision {
    let open: Vec<IncarnationId> =
        view.of_site(&failover.from).filter(|one| one.may_commit()).map(|one| one.id.clone()).collect();
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
        () if failover.kind == FailoverKind::Forced && waited >= patience.catch_up => {
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
        () if serving > 0 && (serving == living || waited >= patience.serve) => Decision::Next(text),
        () => Decision::Wait(text),
    }
}

fn stand_by(failover: &Failover, view: &View) -> Decision {
    match (failover.kind, view.site(&failover.from)) {
        (FailoverKind::Planned, Some(site)) if site.role == Role::Draining => {
            Decision::ChangeRole(site.clone(), Role::Standby)
        }
        (_, Some(site)) => Decision::Next(format!("{} is {}", site.site, name(site.role))),
        (_, None) => Decision::Next(format!("{} is not enrolled", failover.from)),
    }
}

/// The name of a role, for people.
pub(super) fn name(role: Role) -> &'static str {
    match role {
        Role::Active => "active",
        Role::Standby => "standby",
        Role::Draining => "draining",
        Role::Fenced => "fenced",
    }
}
