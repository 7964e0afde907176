//! Tests of the next action of a failover.

use lockstep_proto::failover::{AtRisk, PlanRequest, ProbeResult, VerifiedAt};
use lockstep_proto::{Incarnation, Seq};

use super::*;
use crate::seams::refdb::{IncarnationRecord, IncarnationState};
use crate::stages::failover::plan::begun;

const NINE: Duration = Duration::from_secs(9);
const PATIENCE: Patience = Patience { verify: NINE, settle: NINE, catch_up: NINE, serve: NINE, probe: NINE };

/// A failover from `a` (epoch 1) to `b` (epoch 2) with all steps. The steps before `step` are complete, and `step` has
/// begun.
pub(in crate::stages::failover) fn failover(kind: FailoverKind, step: FailoverStep) -> Failover {
    let request =
        PlanRequest { max_loss: Some(1), ..PlanRequest::new(kind, "a".parse().unwrap(), "b".parse().unwrap()) };
    let mut failover = begun(1, &request, (1, 2));
    let steps = &mut failover.steps;
    let done = steps.iter().position(|one| one.step == step).unwrap();
    steps.iter_mut().take(done).for_each(|step| (step.began_ms, step.ended_ms) = (Some(1), Some(2)));
    steps.iter_mut().skip(done).take(1).for_each(|step| step.began_ms = Some(2));
    failover
}

/// `b` is active in epoch 3. Both of its nodes live, and `b-0` takes writes.
pub(in crate::stages::failover) fn promoted() -> View {
    View {
        sites: vec![site("b", Role::Active, 3)],
        nodes: vec![NodeRecord::first("b-0", "b"), NodeRecord::first("b-1", "b")],
        incarnations: vec![IncarnationRecord::open("b-0.1".parse().unwrap(), "b".parse().unwrap(), 3, 8, 0)],
        ..View::default()
    }
}

fn site(name: &str, role: Role, epoch: u64) -> SiteRecord {
    SiteRecord::new(name.parse().unwrap(), role, epoch)
}

fn view(a: SiteRecord, b: SiteRecord) -> View {
    View { sites: vec![a, b], ..View::default() }
}

fn incarnation(epoch: u64, state: IncarnationState) -> IncarnationRecord {
    let id = IncarnationId { node: "a-0".parse().unwrap(), number: Incarnation(epoch) };
    IncarnationRecord { state, ..IncarnationRecord::open(id, "a".parse().unwrap(), epoch, 1, 0) }
}

fn next(failover: &Failover, view: &View) -> Decision {
    decide(failover, view, Duration::ZERO, &PATIENCE)
}

#[test]
fn every_change_of_role_starts_from_an_epoch_of_this_failover() {
    let (a, b) = (site("a", Role::Active, 1), site("b", Role::Standby, 2));
    let stop = failover(FailoverKind::Planned, FailoverStep::Stop);
    assert_eq!(next(&stop, &view(a.clone(), b.clone())), Decision::ChangeRole(a, Role::Draining));
    let draining = site("a", Role::Draining, 2);
    let promote = failover(FailoverKind::Planned, FailoverStep::Promote);
    assert_eq!(next(&promote, &view(draining.clone(), b.clone())), Decision::ChangeRole(b, Role::Active));
    let last = failover(FailoverKind::Planned, FailoverStep::StandBy);
    let active = site("b", Role::Active, 3);
    assert_eq!(next(&last, &view(draining.clone(), active)), Decision::ChangeRole(draining, Role::Standby));
}

/// A driver that was paused with an old record reads the sites of a later failover. It must change nothing there.
#[test]
fn an_old_record_changes_nothing_in_a_later_failover() {
    let b = site("b", Role::Active, 3);
    for kind in [FailoverKind::Planned, FailoverKind::Forced] {
        let later = view(site("a", stopped(kind), 4), b.clone());
        for step in begun(1, &PlanRequest::new(kind, "a".parse().unwrap(), "b".parse().unwrap()), (1, 2)).steps {
            let old = failover(kind, step.step);
            for aborting in [false, true] {
                let decision = next(&Failover { aborting, ..old.clone() }, &later);
                let acts = matches!(decision, Decision::ChangeRole(..) | Decision::Fence(_));
                assert!(!acts, "{kind:?}, {step:?}, aborting {aborting}: {decision:?}");
            }
        }
    }
    let mut again = view(site("a", Role::Active, 3), b);
    again.incarnations = vec![incarnation(3, IncarnationState::Open)];
    let settle = failover(FailoverKind::Forced, FailoverStep::Settle);
    assert!(matches!(next(&settle, &again), Decision::Wait(_)), "incarnations of a later epoch are not fenced");
}

/// Where all sites are active, a failover changes the role of its source alone.
#[test]
fn a_target_that_is_active_already_keeps_its_role_and_its_epoch() {
    for kind in [FailoverKind::Planned, FailoverKind::Forced] {
        let both = view(site("a", stopped(kind), 2), site("b", Role::Active, 2));
        let promote = failover(kind, FailoverStep::Promote);
        assert_eq!(next(&promote, &both), Decision::Next("b was active already".to_owned()));
        for step in promote.steps.iter().map(|one| one.step) {
            let decision = next(&failover(kind, step), &both);
            let of_target = matches!(&decision, Decision::ChangeRole(site, _) if site.site.as_str() == "b");
            assert!(!of_target, "{kind:?}, {step:?}: {decision:?}");
        }
    }
}

#[test]
fn the_target_is_promoted_only_after_the_source_has_settled() {
    let mut settling = view(site("a", Role::Fenced, 2), site("b", Role::Standby, 2));
    settling.incarnations = vec![incarnation(1, IncarnationState::Frozen)];
    let settle = failover(FailoverKind::Forced, FailoverStep::Settle);
    assert!(matches!(next(&settle, &settling), Decision::Fence(_)));
    settling.incarnations = vec![incarnation(1, IncarnationState::Poisoned)];
    assert!(matches!(next(&settle, &settling), Decision::Next(_)));
}

/// A planned failover may wait: its source is well. A forced one goes on, because nothing that is behind is lost.
#[test]
fn a_planned_failover_is_held_and_a_forced_one_goes_on_when_the_target_does_not_catch_up_in_time() {
    let behind = |kind| {
        let mut behind = View { nodes: pair().nodes, ..view(site("a", stopped(kind), 2), site("b", Role::Standby, 2)) };
        let ended = IncarnationRecord { settled: vec![Seq(3)], ..incarnation(1, IncarnationState::Poisoned) };
        behind.incarnations = vec![ended];
        behind
    };
    let moment = Duration::from_millis(1);
    for (kind, limit) in [(FailoverKind::Planned, 3 * NINE), (FailoverKind::Forced, NINE)] {
        let (step, behind) = (failover(kind, FailoverStep::CatchUp), behind(kind));
        let slots = behind.behind(&behind.nodes[1], &"a".parse().unwrap());
        assert!(slots >= 3, "the window of a poisoned incarnation counts: {slots}");
        let words = format!("b-0 is behind by {slots} slots");
        assert_eq!(decide(&step, &behind, limit - moment, &PATIENCE), Decision::Wait(words.clone()));
        let late = decide(&step, &behind, limit, &PATIENCE);
        let wanted = match kind {
            FailoverKind::Planned => Decision::Held(format!(
                "not caught up after 27 s: {words}; they go on, and a resume promotes b as it is then; no site takes \
                 writes meanwhile"
            )),
            FailoverKind::Forced => Decision::Next(format!("not caught up yet: {words}; nothing is lost, they go on")),
        };
        assert_eq!(late, wanted);
    }
    let mut among_active = behind(FailoverKind::Planned);
    among_active.sites[1].role = Role::Active;
    let held = decide(&failover(FailoverKind::Planned, FailoverStep::CatchUp), &among_active, 3 * NINE, &PATIENCE);
    assert!(matches!(&held, Decision::Held(why) if why.ends_with("promotes b as it is then")), "{held:?}");
}

/// One node of the target that holds everything is enough: the others must not keep every writer waiting.
#[test]
fn a_planned_failover_goes_on_without_a_late_node_if_another_one_holds_everything() {
    let (source, target) = ("a".parse().unwrap(), "b".parse().unwrap());
    let mut two = View { nodes: pair().nodes, ..view(site("a", Role::Draining, 2), site("b", Role::Standby, 2)) };
    two.nodes.push(NodeRecord::first("b-1", "b"));
    two.incarnations = vec![IncarnationRecord { settled: vec![Seq(3)], ..incarnation(1, IncarnationState::Poisoned) }];
    two.nodes[1].low_water = two.ends(&source);
    let slots = two.behind(&two.nodes[2], &source);
    assert_eq!((two.behind(&two.nodes[1], &source), two.missing(&target, &source)), (0, Some(0)));
    let step = failover(FailoverKind::Planned, FailoverStep::CatchUp);
    let late = format!("b-1 is behind by {slots} slots");
    let early = decide(&step, &two, NINE - Duration::from_millis(1), &PATIENCE);
    assert_eq!(early, Decision::Wait(late.clone()));
    let note = format!("not caught up yet: {late}; nothing is lost, they go on");
    assert_eq!(decide(&step, &two, NINE, &PATIENCE), Decision::Next(note));
    // The marks of the only node that has caught up say nothing about a project that it owes.
    two.nodes[1].needs.owed.insert("p".parse().unwrap());
    assert!(matches!(decide(&step, &two, NINE, &PATIENCE), Decision::Wait(_)));
    assert!(matches!(decide(&step, &two, 3 * NINE, &PATIENCE), Decision::Held(_)));
    // Two nodes that hold everything only together: neither of them could serve at once.
    two.nodes[1].needs.owed.clear();
    two.incarnations[0].settled = vec![Seq(3), Seq(3)];
    let lanes: Vec<_> = two.ends(&source).into_iter().collect();
    assert_eq!(lanes.len(), 2);
    two.nodes[1].low_water = lanes[..1].iter().cloned().collect();
    two.nodes[2].low_water = lanes[1..].iter().cloned().collect();
    assert_eq!(two.missing(&target, &source), Some(0));
    assert!(matches!(decide(&step, &two, 3 * NINE, &PATIENCE), Decision::Held(_)));
}

#[test]
fn a_planned_failover_without_a_living_target_is_held_at_the_limit_and_a_forced_one_waits() {
    let mut dead = View { nodes: pair().nodes, ..view(site("a", Role::Draining, 2), site("b", Role::Standby, 2)) };
    dead.gone.insert("b-0".parse().unwrap());
    let (moment, limit) = (Duration::from_millis(1), 3 * NINE);
    let planned = failover(FailoverKind::Planned, FailoverStep::CatchUp);
    let waits = Decision::Wait("no node of b has a heartbeat".to_owned());
    assert_eq!(decide(&planned, &dead, limit - moment, &PATIENCE), waits);
    let held = "no node of b has a heartbeat; 27 s have passed; start one and resume, or abort; no site takes writes \
                meanwhile";
    assert_eq!(decide(&planned, &dead, limit, &PATIENCE), Decision::Held(held.to_owned()));
    let forced = failover(FailoverKind::Forced, FailoverStep::CatchUp);
    assert_eq!(decide(&forced, &dead, limit, &PATIENCE), waits, "its source is gone: there is nothing to abort to");
}

#[test]
fn a_target_without_a_node_that_serves_does_not_hold_the_failover_for_ever() {
    let view = view(site("a", Role::Fenced, 2), site("b", Role::Active, 3));
    let serve = failover(FailoverKind::Forced, FailoverStep::Serve);
    assert!(matches!(next(&serve, &view), Decision::Wait(_)));
    let late = decide(&serve, &view, Duration::from_secs(10), &PATIENCE);
    assert!(matches!(late, Decision::Unserved(_)), "{late:?}");
}

/// Sites `a` (active) and `b` (standby), with one living node each.
fn pair() -> View {
    let nodes = vec![NodeRecord::first("a-0", "a"), NodeRecord::first("b-0", "b")];
    View { nodes, ..view(site("a", Role::Active, 1), site("b", Role::Standby, 2)) }
}

fn equal() -> VerifiedAt {
    VerifiedAt { projects: 1, refs: 2, mismatches: 0, failures: 0, examples: Vec::new() }
}

#[test]
fn every_living_node_of_the_target_verifies_before_the_source_is_stopped() {
    let mut verify = failover(FailoverKind::Planned, FailoverStep::Verify);
    let mut two = pair();
    two.nodes.push(NodeRecord::first("b-1", "b"));
    verify.verified.insert("b-0".parse().unwrap(), equal());
    assert!(matches!(next(&verify, &two), Decision::Wait(why) if why.contains("b-1 has not compared")));
    two.gone.insert("b-1".parse().unwrap());
    assert!(matches!(next(&verify, &two), Decision::Next(_)), "a dead node is not waited for");
    assert!(!failover(FailoverKind::Forced, FailoverStep::Stop).has(FailoverStep::Verify));
}

#[test]
fn a_difference_and_a_verification_that_does_not_end_hold_the_failover() {
    let mut verify = failover(FailoverKind::Planned, FailoverStep::Verify);
    let late = decide(&verify, &pair(), NINE, &PATIENCE);
    assert!(matches!(&late, Decision::Held(why) if why.starts_with("b-0 had not compared")), "{late:?}");
    for found in [VerifiedAt { mismatches: 1, ..equal() }, VerifiedAt { failures: 1, ..equal() }] {
        verify.verified.insert("b-0".parse().unwrap(), found);
        assert!(matches!(next(&verify, &pair()), Decision::Held(_)));
    }
}

#[test]
fn an_abort_before_the_source_was_stopped_changes_no_role() {
    let verify = Failover { aborting: true, ..failover(FailoverKind::Planned, FailoverStep::Verify) };
    assert_eq!(next(&verify, &pair()), Decision::End(FailoverOutcome::Aborted));
    let stopping = Failover { aborting: true, ..failover(FailoverKind::Planned, FailoverStep::Stop) };
    assert!(matches!(next(&stopping, &pair()), Decision::ChangeRole(_, Role::Active)));
}

#[test]
fn more_than_the_accepted_loss_and_an_unknown_one_hold_the_failover() {
    let mut check = failover(FailoverKind::Forced, FailoverStep::CheckLoss);
    assert!(matches!(next(&check, &pair()), Decision::Held(_)), "nothing was counted");
    for (count, goes_on) in [(None, false), (Some(0), true), (Some(1), true), (Some(2), false)] {
        check.lacked = Some(AtRisk { transactions: count, ..AtRisk::default() });
        assert_eq!(matches!(next(&check, &pair()), Decision::Next(_)), goes_on, "{count:?}");
    }
}

#[test]
fn red_probes_are_waited_for_and_do_not_hold_the_failover_for_ever() {
    let mut probe = failover(FailoverKind::Forced, FailoverStep::Probe);
    let mut serving = pair();
    serving.sites[1] = site("b", Role::Active, 3);
    serving.incarnations = promoted().incarnations;
    assert!(matches!(next(&probe, &serving), Decision::Wait(_)), "not probed yet");
    let probes = |red: Option<&str>| vec![ProbeResult { probe: "push".into(), red: red.map(str::to_owned) }];
    probe.probed.insert("b-0".parse().unwrap(), ProbedAt { green_ms: None, probes: probes(Some("denied")) });
    let late = decide(&probe, &serving, NINE, &PATIENCE);
    assert!(matches!(next(&probe, &serving), Decision::Wait(_)));
    assert!(matches!(&late, Decision::Next(note) if note.contains("RED: push at b-0: denied")), "{late:?}");
    probe.probed.insert("b-0".parse().unwrap(), ProbedAt { green_ms: Some(7), probes: probes(None) });
    assert!(matches!(next(&probe, &serving), Decision::Next(note) if note == "1 of 1 nodes of b are green"));
}
