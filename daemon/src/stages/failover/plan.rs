//! The plan of a failover: its steps, blockers and warnings, and its hash. A pure function of the sites.

use lockstep_proto::SiteId;
use lockstep_proto::failover::{
    Failover, FailoverKind, FailoverPlan, FailoverStep, PlanRequest, PlannedStep, StepRecord,
};
use sha2::{Digest, Sha256};

use super::view::View;
use crate::seams::refdb::Role;

/// Plans a failover of `request`, in the state of `view`. `running` is the failover that is in progress.
pub(super) fn plan(request: &PlanRequest, view: &View, running: Option<&Failover>) -> FailoverPlan {
    let PlanRequest { kind, from, to } = request.clone();
    let steps = FailoverStep::ALL.map(|step| PlannedStep { step, text: text(step, request, view) }).to_vec();
    let behind = view.living(&to).map(|node| view.behind(node, &from)).min().unwrap_or(0);
    let mut plan = FailoverPlan {
        kind,
        from,
        to,
        sites: view.statuses(),
        steps,
        blockers: blockers(request, view, running),
        warnings: warnings(request, view),
        behind,
        hash: String::new(),
    };
    plan.hash = hash(&plan);
    plan
}

/// The failover that a plan begins.
pub(super) fn steps() -> Vec<StepRecord> {
    let step = |step| StepRecord { step, began_ms: None, ended_ms: None, by: None, note: String::new() };
    FailoverStep::ALL.map(step).to_vec()
}

fn text(step: FailoverStep, request: &PlanRequest, view: &View) -> String {
    let PlanRequest { kind, from, to } = request;
    let open = view.of_site(from).filter(|one| one.may_commit()).count();
    match (step, kind) {
        (FailoverStep::Stop, FailoverKind::Planned) => {
            format!("{from} becomes draining: its nodes end their commits and refuse new ones")
        }
        (FailoverStep::Stop, FailoverKind::Forced) => {
            format!("{from} becomes fenced: it opens no incarnation any more")
        }
        (FailoverStep::Settle, _) => format!("{open} open incarnations of {from} are frozen and poisoned"),
        (FailoverStep::CatchUp, _) => format!("the nodes of {to} apply everything that {from} committed"),
        (FailoverStep::Promote, _) if view.role(to) == Some(Role::Active) => format!("{to} is active already"),
        (FailoverStep::Promote, _) => format!("{to} becomes active"),
        (FailoverStep::Serve, _) => format!("the nodes of {to} take writes"),
        (FailoverStep::StandBy, FailoverKind::Planned) => format!("{from} becomes standby"),
        (FailoverStep::StandBy, FailoverKind::Forced) => {
            format!("{from} stays fenced, until `lockstep site role {from} standby`")
        }
    }
}

fn blockers(request: &PlanRequest, view: &View, running: Option<&Failover>) -> Vec<String> {
    let PlanRequest { kind, from, to } = request;
    let mut blockers = Vec::new();
    if from == to {
        blockers.push(format!("source and target are both {from}; name another target"));
    }
    blockers.extend(running.map(|one| {
        format!("failover {} from {} to {} is in progress; wait for its end, or abort it", one.number, one.from, one.to)
    }));
    for site in [from, to] {
        if view.site(site).is_none() {
            blockers.push(format!("site {site} is not in the refdb; `lockstep sites` lists the sites"));
        }
    }
    if let Some(role) = view.role(from).filter(|role| *role != Role::Active) {
        blockers.push(format!(
            "{from} is {}, so it takes no writes that could be moved; name the active site as the source",
            role.name()
        ));
    }
    if let Some(role) = view.role(to).filter(|role| matches!(role, Role::Fenced | Role::Draining)) {
        blockers.push(format!("{to} is {}; make it a standby first: `lockstep site role {to} standby`", role.name()));
    }
    if view.living(to).next().is_none() && view.site(to).is_some() {
        blockers.push(format!(
            "no node of {to} has a heartbeat, so none could take the writes; start one, or name another target"
        ));
    }
    if *kind == FailoverKind::Planned && view.living(from).next().is_none() && view.site(from).is_some() {
        blockers.push(format!("no node of {from} has a heartbeat; use --forced"));
    }
    blockers
}

fn warnings(request: &PlanRequest, view: &View) -> Vec<String> {
    let PlanRequest { kind, from, to } = request;
    let mut warnings = Vec::new();
    let serving = view.living(from).count();
    if *kind == FailoverKind::Forced && serving > 0 {
        warnings.push(format!(
            "{serving} nodes of {from} have a heartbeat; a planned failover would end their commits in order"
        ));
    }
    let silent: Vec<String> = dead(view, to).map(|node| node.to_string()).collect();
    if !silent.is_empty() {
        warnings.push(format!("these nodes of {to} have no heartbeat and are not waited for: {}", silent.join(", ")));
    }
    warnings
}

fn dead<'a>(view: &'a View, site: &'a SiteId) -> impl Iterator<Item = &'a lockstep_proto::NodeId> {
    view.nodes.iter().filter(|node| node.site == *site && view.gone.contains(&node.node)).map(|node| &node.node)
}

/// The hash of everything that makes a plan the same plan: kind, source, target, roles, epochs, steps and blockers.
/// Counts do not belong to it, because they change all the time.
fn hash(plan: &FailoverPlan) -> String {
    let mut text = format!("{:?} {} {}\n", plan.kind, plan.from, plan.to);
    for site in &plan.sites {
        text += &format!("{} {:?} {}\n", site.site, site.role, site.epoch);
    }
    for step in &plan.steps {
        text += &format!("{}\n", step.step.name());
    }
    for blocker in &plan.blockers {
        text += &format!("{blocker}\n");
    }
    hex::encode(&Sha256::digest(text.as_bytes())[..8])
}
