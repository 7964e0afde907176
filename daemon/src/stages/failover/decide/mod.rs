//! The next action of a failover. A pure function of the failover, the sites, and the time that the current step has
//! taken.

use std::time::Duration;

use lockstep_proto::failover::{Failover, FailoverKind, FailoverOutcome, FailoverStep, ProbedAt};
use lockstep_proto::{IncarnationId, NodeId};

use super::view::View;
use crate::seams::refdb::{NodeRecord, Role, SiteRecord};

/// How long the driver waits inside a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long the nodes of the target may take to compare their refs. The source takes writes meanwhile.
    pub(super) verify: Duration,
    /// How long the source of a planned failover may take to end its own incarnations.
    pub(super) settle: Duration,
    /// How long a failover waits for nodes of the target that are behind. A planned one waits three times as long
    /// while the target lacks something, and is held then.
    pub(super) catch_up: Duration,
    /// How long the last nodes of the target may take to open their incarnations.
    pub(super) serve: Duration,
    /// How long the probes of the target may be red before the failover goes on without them.
    pub(super) probe: Duration,
}

impl Patience {
    /// How long the nodes of the target may be behind. Nothing that they lack is lost, and the source takes no writes
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
    /// The current step is complete, and the failover pauses before the next one for this reason: an operator resumes
    /// or aborts it.
    Held(String),
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
            () if failover.paused => Decision::Wait(match &failover.held {
                Some(why) => format!("held: {why}; resume or abort it"),
                None => "paused by an operator".to_owned(),
            }),
            () if failover.pause_before.contains(&current.step) => Decision::Hold,
            () => Decision::Begin,
        };
    }
    match current.step {
        FailoverStep::Verify => verify(failover, view, waited, patience),
        FailoverStep::CheckLoss => check_loss(failover),
        FailoverStep::Probe => probe(failover, view, waited, patience),
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
/// changed yet, so that a late copy of the change has no effect. If the step that changes it has not begun, nobody has
/// sent such a change, and none can follow the record of the abort.
fn abort(failover: &Failover, view: &View) -> Decision {
    if !failover.has_begun(FailoverStep::Stop) {
        return Decision::End(FailoverOutcome::Aborted);
    }
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
    // One node that holds everything can take the writes over: the others keep no user waiting.
    let suffices = behind.len() < nodes.len() && view.missing(&failover.to, &failover.from) == Some(0);
    let limit = if suffices { patience.catch_up } else { patience.catch_up(failover.kind) };
    match () {
        () if nodes.is_empty() => nobody_catches_up(failover, view, waited, patience),
        () if behind.is_empty() => {
            Decision::Next(format!("{} nodes of {} hold everything of {}", nodes.len(), failover.to, failover.from))
        }
        () if waited < limit => Decision::Wait(behind.join(", ")),
        () if failover.kind == FailoverKind::Planned && !suffices => {
            Decision::Held(left_behind(failover, view, &behind, patience))
        }
        () => Decision::Next(format!("not caught up yet: {}; nothing is lost, they go on", behind.join(", "))),
    }
}

/// Why a planned failover is held after its catch-up: it promotes no target by itself that lacks something, or of which
/// no node has caught up.
fn left_behind(failover: &Failover, view: &View, behind: &[String], patience: &Patience) -> String {
    let (to, waited) = (&failover.to, patience.catch_up(failover.kind).as_secs());
    format!(
        "not caught up after {waited} s: {}; they go on, and a resume promotes {to} as it is then{}",
        behind.join(", "),
        meanwhile(view)
    )
}

/// The decision while no node of the target is there to catch up. A planned failover is held after a while.
fn nobody_catches_up(failover: &Failover, view: &View, waited: Duration, patience: &Patience) -> Decision {
    let (to, limit) = (&failover.to, patience.catch_up(failover.kind));
    if failover.kind == FailoverKind::Forced || waited < limit {
        return Decision::Wait(format!("no node of {to} has a heartbeat"));
    }
    Decision::Held(format!(
        "no node of {to} has a heartbeat; {} s have passed; start one and resume, or abort{}",
        limit.as_secs(),
        meanwhile(view)
    ))
}

/// The end of the reason of a hold, if no site takes writes.
fn meanwhile(view: &View) -> &'static str {
    let takes_writes = view.sites.iter().any(|site| site.role == Role::Active);
    if takes_writes { "" } else { "; no site takes writes meanwhile" }
}

/// Every living node of the target must have compared its refs and found them equal.
fn verify(failover: &Failover, view: &View, waited: Duration, patience: &Patience) -> Decision {
    if let Some((node, found)) = failover.verified.iter().find(|(_, found)| !found.is_equal()) {
        let (differ, failed, examples) = (found.mismatches, found.failures, found.examples.join("; "));
        return Decision::Held(format!(
            "{differ} refs of {node} differ from the refdb, and {failed} projects could not be compared: {examples}"
        ));
    }
    let nodes: Vec<_> = view.living(&failover.to).map(|node| &node.node).collect();
    let left: Vec<_> = nodes.iter().filter(|node| !failover.verified.contains_key(**node)).collect();
    let names = || left.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let refs: u64 = failover.verified.values().map(|found| found.refs).sum();
    match () {
        () if nodes.is_empty() => Decision::Wait(format!("no node of {} has a heartbeat", failover.to)),
        () if left.is_empty() => {
            Decision::Next(format!("{refs} refs are equal to the refdb at {} nodes of {}", nodes.len(), failover.to))
        }
        () if waited >= patience.verify => Decision::Held(format!(
            "{} had not compared all refs with the refdb after {} s",
            names(),
            patience.verify.as_secs()
        )),
        () => Decision::Wait(format!(
            "{} has not compared all refs with the refdb yet (see `lockstep verify` there); {} takes writes",
            names(),
            failover.from
        )),
    }
}

/// Holds the count of the last step against the bound of the request. A count that is not known is above each bound.
fn check_loss(failover: &Failover) -> Decision {
    let most = failover.max_loss.unwrap_or(u64::MAX);
    let (from, to) = (&failover.from, &failover.to);
    let lacked = failover.lacked.as_ref();
    let at_most = if lacked.is_some_and(|lacked| lacked.at_most) { "at most " } else { "" };
    match lacked.and_then(|lacked| lacked.transactions) {
        Some(count) if count <= most => Decision::Next(format!("{to} lacks {at_most}{count} transactions of {from}")),
        Some(count) => Decision::Held(format!(
            "{to} lacked {at_most}{count} transactions of {from} when catch_up ended, and --max-loss is {most}; \
             they are in the refdb alone"
        )),
        None => {
            let why = lacked.and_then(|lacked| lacked.unknown.as_deref()).unwrap_or("they were not counted");
            Decision::Held(format!(
                "it is not known which transactions of {from} {to} lacks (--max-loss {most}): {why}"
            ))
        }
    }
}

/// Every node of the target that takes writes must be green. A red probe stops no failover: the target takes writes.
fn probe(failover: &Failover, view: &View, waited: Duration, patience: &Patience) -> Decision {
    let serving: Vec<_> = view.living(&failover.to).filter(|node| view.takes_writes(node)).collect();
    let is_green = |node: &&&NodeRecord| failover.probed.get(&node.node).is_some_and(|one| one.green_ms.is_some());
    let green = serving.iter().filter(is_green).count();
    let counts = |node: &NodeId| serving.iter().any(|one| one.node == *node);
    let probed = failover.probed.iter().filter(|(node, _)| counts(node));
    let red: Vec<String> = probed.flat_map(|(node, probed)| red(node, probed)).collect();
    let text = format!("{green} of {} nodes of {} are green{}", serving.len(), failover.to, listed(&red));
    match () {
        () if failover.unserved => Decision::Next("not probed: no node takes writes".to_owned()),
        () if !serving.is_empty() && green == serving.len() => Decision::Next(text),
        () if waited >= patience.probe => Decision::Next(text),
        () => Decision::Wait(text),
    }
}

/// The red probes of a node.
fn red(node: &NodeId, probed: &ProbedAt) -> Vec<String> {
    let probes = probed.probes.iter();
    probes.filter_map(|one| one.red.as_ref().map(|why| format!("{} at {node}: {why}", one.probe))).collect()
}

fn listed(red: &[String]) -> String {
    if red.is_empty() { String::new() } else { format!("; RED: {}", red.join("; ")) }
}

fn promote(failover: &Failover, view: &View) -> Decision {
    match view.site(&failover.to) {
        Some(site) if site.role == Role::Active && site.epoch == failover.to_epoch => {
            Decision::Next(format!("{} was active already", site.site))
        }
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
pub(super) mod tests;
