//! The plan of a failover: its steps, blockers and warnings, and its hash. A pure function of the sites.

use std::collections::BTreeMap;

use lockstep_proto::SiteId;
use lockstep_proto::failover::{
    AtRisk, Failover, FailoverKind, FailoverPlan, FailoverStep, OUTSIDE_REFS, OutsideRefs, PlanRequest, PlannedStep,
    StepRecord,
};
use sha2::{Digest, Sha256};

use super::view::View;
use crate::seams::refdb::Role;

/// The consequence of the loss of the refdb's own Region, where its tables are in one.
pub const EXPOSURE: &str = "\
    the refdb is in one Region. While that Region lives, no failover loses anything that was acknowledged. If it is \
    lost for good, so is everything that no site has applied";

/// The consequence where the tables are in several Regions.
const SEVERAL_REGIONS: &str = "\
    the refdb is in several Regions. It outlives the loss of one of them; a site whose own Region is cut off from the \
    others takes no commits. Packs above 128 KiB are in the blob store, which may be in one Region";

/// The consequence of the loss of a Region of the refdb.
pub(super) fn exposure(view: &View) -> String {
    if view.is_in_several_regions { SEVERAL_REGIONS } else { EXPOSURE }.to_owned()
}

/// The slots by which a node may be behind and still be fit to take writes over. A busy node in order is behind by the
/// slots of a few seconds, because its marks reach the refdb with its heartbeat.
pub(super) const MOST_LAG_SLOTS: u64 = 10_000;

/// Why nodes that beat are not counted, and the remedy.
const TAKES_EVERYTHING: &str = "\
    those with a heartbeat still take everything from the refdb; wait until `lockstep sites` shows that one is done";

/// Plans a failover of `request`, in the state of `view`. `running` is the failover that is in progress, `went_back`
/// the reason why the refdb is known to be older than a node.
pub(super) fn plan(
    request: &PlanRequest,
    view: &View,
    running: Option<&Failover>,
    went_back: Option<&str>,
) -> FailoverPlan {
    let PlanRequest { kind, from, to, .. } = request.clone();
    let planned = |step| PlannedStep { step, text: text(step, request, view) };
    let steps = request.steps().into_iter().map(planned).collect();
    let behind = view.living(&to).map(|node| view.behind(node, &from)).min().unwrap_or(0);
    let mut plan = FailoverPlan {
        kind,
        from,
        to,
        sites: view.statuses(),
        steps,
        blockers: blockers(request, view, running),
        warnings: warnings(request, view),
        exposure: exposure(view),
        behind,
        at_risk: AtRisk::default(),
        estimate: None,
        outside_refs: outside_refs(),
        hash: String::new(),
    };
    plan.blockers.extend(went_back.map(|why| {
        format!("the refdb is older than a node, so it lacks acknowledged commits: {why}; restore or rebuild it")
    }));
    plan.hash = hash(&plan, request.max_loss);
    plan
}

/// The failover that a request begins, from these epochs of source and target. Nobody has asked for it yet: it has no
/// actor, no reason and no time.
pub(super) fn begun(number: u64, request: &PlanRequest, (from_epoch, to_epoch): (u64, u64)) -> Failover {
    let step = |step| StepRecord { step, began_ms: None, ended_ms: None, by: None, note: String::new() };
    Failover {
        number,
        kind: request.kind,
        from: request.from.clone(),
        to: request.to.clone(),
        from_epoch,
        to_epoch,
        to_was_active: false,
        actor: String::new(),
        reason: String::new(),
        requested_ms: 0,
        steps: request.steps().into_iter().map(step).collect(),
        pause_before: Vec::new(),
        paused: false,
        held: None,
        max_loss: request.max_loss,
        verified: BTreeMap::new(),
        behind: None,
        lacked: None,
        probed: BTreeMap::new(),
        aborting: false,
        unserved: false,
        end: None,
        audit: Vec::new(),
    }
}

/// The command that makes a site with this epoch a standby.
pub(super) fn to_standby(site: &SiteId, epoch: u64) -> String {
    format!("lockstep site role {site} standby --expect-epoch {epoch} --reason TEXT")
}

/// The command that switches Lockstep on at a site with this epoch.
pub(super) fn switch_on(site: &SiteId, role: Role, epoch: u64) -> String {
    format!("lockstep site mode {site} active --role {} --expect-epoch {epoch} --reason TEXT", role.name())
}

fn outside_refs() -> Vec<OutsideRefs> {
    let row = |[name, fate, note]: [&str; 3]| OutsideRefs { name: name.into(), fate: fate.into(), note: note.into() };
    OUTSIDE_REFS.map(row).to_vec()
}

fn text(step: FailoverStep, request: &PlanRequest, view: &View) -> String {
    let PlanRequest { kind, from, to, max_loss, .. } = request;
    let open = view.of_site(from).filter(|one| one.may_commit()).count();
    match (step, kind) {
        (FailoverStep::Verify, _) => {
            format!("the nodes of {to} compare their refs with the refdb; a difference holds the failover here")
        }
        (FailoverStep::CheckLoss, _) => {
            let most = max_loss.unwrap_or_default();
            format!("the failover holds here if {to} lacks more than {most} transactions of {from}")
        }
        (FailoverStep::Probe, _) => format!("the nodes of {to} are probed until every probe is green"),
        (FailoverStep::Stop, FailoverKind::Planned) => {
            format!("{from} becomes draining: its nodes end their commits and refuse new ones")
        }
        (FailoverStep::Stop, FailoverKind::Forced) => {
            format!("{from} becomes fenced: it opens no incarnation any more")
        }
        (FailoverStep::Settle, _) => format!("{open} open incarnations of {from} are frozen and poisoned"),
        (FailoverStep::CatchUp, FailoverKind::Planned) => {
            format!("the nodes of {to} apply everything that {from} committed; if they are late, the failover holds")
        }
        (FailoverStep::CatchUp, FailoverKind::Forced) => {
            format!("the nodes of {to} apply everything that {from} committed")
        }
        (FailoverStep::Promote, _) if view.role(to) == Some(Role::Active) => format!("{to} is active already"),
        (FailoverStep::Promote, _) => format!("{to} becomes active"),
        (FailoverStep::Serve, _) => format!("the nodes of {to} take writes"),
        (FailoverStep::StandBy, FailoverKind::Planned) => format!("{from} becomes standby"),
        (FailoverStep::StandBy, FailoverKind::Forced) => {
            // The step `stop` raises the epoch.
            let epoch = view.site(from).map_or(0, |site| site.epoch) + 1;
            format!("{from} stays fenced, until `{}`", to_standby(from, epoch))
        }
    }
}

/// The reasons why a failover cannot be executed.
pub(super) fn blockers(request: &PlanRequest, view: &View, running: Option<&Failover>) -> Vec<String> {
    let PlanRequest { kind, from, to, .. } = request;
    let mut blockers = Vec::new();
    for step in request.without.iter().filter(|step| !FailoverStep::OPTIONAL.contains(step)) {
        let optional = FailoverStep::OPTIONAL.map(FailoverStep::name).join(" and ");
        blockers.push(format!("step {} cannot be left out; only {optional} can", step.name()));
    }
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
    if let Some(site) = view.site(to).filter(|site| site.off) {
        let way = switch_on(to, Role::Standby, site.epoch);
        blockers.push(format!("Lockstep is off at {to}; switch it on first: `{way}`"));
    } else if let Some(site) = view.site(to).filter(|site| matches!(site.role, Role::Fenced | Role::Draining)) {
        let way = to_standby(to, site.epoch);
        blockers.push(format!("{to} is {}; make it a standby first: `{way}`", site.role.name()));
    }
    if view.living(to).next().is_none() && view.site(to).is_some() {
        blockers.push(match view.takes_everything(to) {
            true => format!("no node of {to} could take the writes yet: {TAKES_EVERYTHING}, or name another target"),
            false => {
                format!(
                    "no node of {to} has a heartbeat, so none could take the writes; start one, or name another target"
                )
            }
        });
    }
    if *kind == FailoverKind::Planned && view.living(from).next().is_none() && view.site(from).is_some() {
        blockers.push(match view.takes_everything(from) {
            true => format!("no node of {from} could end its commits in order yet: {TAKES_EVERYTHING}"),
            false => format!("no node of {from} has a heartbeat; use --forced"),
        });
    }
    blockers
}

fn warnings(request: &PlanRequest, view: &View) -> Vec<String> {
    let PlanRequest { kind, from, to, .. } = request;
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
    let behind = view.living(to).map(|node| (&node.node, view.behind(node, from)));
    warnings.extend(behind.filter(|(_, slots)| *slots > MOST_LAG_SLOTS).map(|(node, slots)| {
        format!("{node} is behind by {slots} slots of {from}, and `catch_up` waits for it; let it catch up first")
    }));
    warnings
}

fn dead<'a>(view: &'a View, site: &'a SiteId) -> impl Iterator<Item = &'a lockstep_proto::NodeId> {
    view.nodes.iter().filter(|node| node.site == *site && view.gone.contains(&node.node)).map(|node| &node.node)
}

/// The hash of everything that makes a plan the same plan: kind, source, target, roles, epochs, steps, `max_loss` and
/// blockers. Counts do not belong to it, because they change all the time.
pub(super) fn hash(plan: &FailoverPlan, max_loss: Option<u64>) -> String {
    let mut text = format!("{:?} {} {}\n", plan.kind, plan.from, plan.to);
    text += &max_loss.map(|most| format!("max loss {most}\n")).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lockstep_proto::Seq;
    use lockstep_proto::failover::Estimate;

    use super::*;
    use crate::seams::refdb::{IncarnationRecord, NodeRecord, SiteRecord};

    /// The plan of a failover from `a`, which is active, to `b`, which stands by.
    fn base() -> FailoverPlan {
        let site = |name: &str, role| SiteRecord::new(name.parse().unwrap(), role, 1);
        let view = View {
            sites: vec![site("a", Role::Active), site("b", Role::Standby)],
            nodes: vec![NodeRecord::first("a-0", "a"), NodeRecord::first("b-0", "b")],
            ..View::default()
        };
        let plan = plan(
            &PlanRequest::new(FailoverKind::Planned, "a".parse().unwrap(), "b".parse().unwrap()),
            &view,
            None,
            None,
        );
        assert!(plan.blockers.is_empty() && plan.hash == hash(&plan, None), "{plan:?}");
        plan
    }

    type Change = fn(&mut FailoverPlan);

    #[test]
    fn every_change_that_makes_another_plan_makes_another_hash() {
        let base = base();
        let changes: [(&str, Change); 10] = [
            ("the source", |plan| plan.from = "c".parse().unwrap()),
            ("the target", |plan| plan.to = "c".parse().unwrap()),
            ("the kind", |plan| plan.kind = FailoverKind::Forced),
            ("the role of a site", |plan| plan.sites[1].role = Role::Active),
            ("the epoch of the source", |plan| plan.sites[0].epoch += 1),
            ("the epoch of the target", |plan| plan.sites[1].epoch += 1),
            ("a site less", |plan| drop(plan.sites.pop())),
            ("a step less", |plan| drop(plan.steps.remove(0))),
            ("the order of the steps", |plan| plan.steps.swap(0, 1)),
            ("a blocker", |plan| plan.blockers.push("b is fenced".to_owned())),
        ];
        let mut hashes = BTreeSet::from([base.hash.clone()]);
        for (what, change) in changes {
            let mut other = base.clone();
            change(&mut other);
            assert!(hashes.insert(hash(&other, None)), "{what} is not in the hash");
        }
        for most in [0, 1] {
            assert!(hashes.insert(hash(&base, Some(most))), "max_loss {most} is not in the hash");
        }
    }

    #[test]
    fn counts_change_all_the_time_and_are_not_in_the_hash() {
        let base = base();
        let changes: [(&str, Change); 8] = [
            ("behind", |plan| plan.behind += 1),
            ("warnings", |plan| plan.warnings.push("a node is silent".to_owned())),
            ("at_risk", |plan| plan.at_risk.transactions = Some(7)),
            ("estimate", |plan| plan.estimate = Some(Estimate { writes_ms: 7, ..Estimate::default() })),
            ("the slots outside of the event log", |plan| plan.sites[0].unpublished += 1),
            ("the slots of a node", |plan| plan.sites[1].nodes[0].behind += 1),
            ("whether a node takes writes", |plan| plan.sites[0].nodes[0].takes_writes ^= true),
            ("the text of a step", |plan| plan.steps[0].text.push_str(", in 3 incarnations")),
        ];
        for (what, change) in changes {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(other, base, "{what}");
            assert_eq!(hash(&other, None), base.hash, "{what} is in the hash");
        }
    }

    #[test]
    fn each_living_node_of_the_target_that_is_far_behind_is_a_warning() {
        let site = |name: &str, role| SiteRecord::new(name.parse().unwrap(), role, 1);
        let open = IncarnationRecord::open("a-0.1".parse().unwrap(), "a".parse().unwrap(), 1, 8, 1);
        let mut view = View {
            sites: vec![site("a", Role::Active), site("b", Role::Standby)],
            nodes: ["a-0", "b-0", "b-1", "b-2"].map(|node| NodeRecord::first(node, &node[..1])).into(),
            incarnations: vec![IncarnationRecord { settled: vec![Seq(MOST_LAG_SLOTS + 1)], ..open }],
            gone: BTreeSet::from(["b-2".parse().unwrap()]),
            ..View::default()
        };
        view.nodes[1].low_water = view.ends(&"a".parse().unwrap());
        let warnings = |view: &View, kind| {
            let request = PlanRequest::new(kind, "a".parse().unwrap(), "b".parse().unwrap());
            let found = plan(&request, view, None, None).warnings;
            found.into_iter().filter(|one| one.contains("behind")).collect::<Vec<_>>()
        };
        let wanted = "b-1 is behind by 10001 slots of a, and `catch_up` waits for it; let it catch up first";
        for kind in [FailoverKind::Planned, FailoverKind::Forced] {
            assert_eq!(warnings(&view, kind), [wanted], "{kind:?}: b-0 has everything, and b-2 is not waited for");
        }
        view.incarnations[0].settled = vec![Seq(MOST_LAG_SLOTS)];
        assert_eq!(warnings(&view, FailoverKind::Planned), [""; 0], "a busy node is as far behind");
    }

    #[test]
    fn the_commands_of_a_plan_have_the_epoch_that_they_need() {
        let request = PlanRequest::new(FailoverKind::Forced, "a".parse().unwrap(), "b".parse().unwrap());
        let site = |name: &str, role, epoch| SiteRecord::new(name.parse().unwrap(), role, epoch);
        let mut view = View {
            sites: vec![site("a", Role::Active, 5), site("b", Role::Fenced, 7)],
            nodes: vec![NodeRecord::first("b-0", "b")],
            ..View::default()
        };
        let found = plan(&request, &view, None, None);
        let role = "lockstep site role b standby --expect-epoch 7 --reason TEXT";
        assert_eq!(found.blockers, [format!("b is fenced; make it a standby first: `{role}`")]);
        let stays = "a stays fenced, until `lockstep site role a standby --expect-epoch 6 --reason TEXT`";
        assert_eq!(found.steps.last().map(|step| step.text.as_str()), Some(stays));
        view.sites[1].off = true;
        let mode = "lockstep site mode b active --role standby --expect-epoch 7 --reason TEXT";
        assert_eq!(blockers(&request, &view, None), [format!("Lockstep is off at b; switch it on first: `{mode}`")]);
    }

    #[test]
    fn nodes_that_take_everything_from_the_refdb_are_not_said_to_be_dead() {
        let site = |name: &str, role| SiteRecord::new(name.parse().unwrap(), role, 1);
        let request = PlanRequest::new(FailoverKind::Planned, "a".parse().unwrap(), "b".parse().unwrap());
        let takes_all =
            |node: &str| NodeRecord { volume: NodeRecord::reconciling("v"), ..NodeRecord::first(node, &node[..1]) };
        let mut view = View {
            sites: vec![site("a", Role::Active), site("b", Role::Standby)],
            nodes: vec![takes_all("a-0"), takes_all("b-0")],
            ..View::default()
        };
        let found = blockers(&request, &view, None);
        assert_eq!(found.len(), 2, "{found:?}");
        for (blocker, site) in found.iter().zip(["of b", "of a"]) {
            assert!(blocker.contains(site) && blocker.contains("`lockstep sites`"), "{blocker}");
            assert!(!blocker.contains("no node of a has a heartbeat") && !blocker.contains("--forced"), "{blocker}");
        }
        view.gone = ["a-0", "b-0"].map(|node| node.parse().unwrap()).into();
        let found = blockers(&request, &view, None);
        assert!(found[0].contains("start one") && found[1].contains("--forced"), "{found:?}");
    }
}
