//! The end of a failover: its outcome and its recovery times. Pure functions.

use lockstep_proto::NodeId;
use lockstep_proto::failover::{Failover, FailoverEnd, FailoverOutcome, FailoverStep};

use super::view::View;

/// Ends a failover, with the recovery times that its steps show.
pub(super) fn end(failover: &mut Failover, now_ms: u64, outcome: FailoverOutcome) {
    let serving = failover.steps.iter().find(|step| step.step == FailoverStep::Serve).and_then(|step| step.ended_ms);
    let recovery_ms = serving.filter(|_| outcome == FailoverOutcome::Done && !failover.unserved);
    let from_ms = failover.counted_from_ms();
    let recovery_ms = recovery_ms.map(|at_ms| at_ms.saturating_sub(from_ms));
    let green_ms = all_green_ms(failover).map(|at_ms| at_ms.saturating_sub(from_ms));
    // Zero by construction, and not by a count: an acknowledged transaction is in the refdb, nodes of the target that
    // lack it take it from there, and no driver acts while the refdb is known to be older than a node. The transactions
    // that the refdb alone had at the promotion are in `Failover::lacked`.
    failover.end = Some(FailoverEnd { outcome, at_ms: now_ms, recovery_ms, green_ms, lost: 0 });
}

/// Keeps the probes of the nodes that the step `probe` counts: those that take writes. A node that died, or that takes
/// no writes yet, makes no failover red that was green by the step.
pub(super) fn keep_counted(failover: &mut Failover, view: &View) {
    let counted: Vec<&NodeId> =
        view.living(&failover.to).filter(|node| view.takes_writes(node)).map(|node| &node.node).collect();
    failover.probed.retain(|node, _| counted.contains(&node));
}

/// When the last node that was probed became green. None if one is red, or if none was probed.
fn all_green_ms(failover: &Failover) -> Option<u64> {
    let each: Option<Vec<u64>> = failover.probed.values().map(|probed| probed.green_ms).collect();
    each?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use lockstep_proto::failover::{FailoverKind, ProbeResult, ProbedAt};

    use super::super::decide::tests::{failover, promoted};
    use super::*;

    fn probed(green_ms: Option<u64>) -> ProbedAt {
        let red = green_ms.is_none().then(|| "this node takes no commits".to_owned());
        ProbedAt { green_ms, probes: vec![ProbeResult { probe: "commit".to_owned(), red }] }
    }

    #[test]
    fn the_nodes_that_the_step_counts_decide_whether_the_failover_is_green() {
        let mut probe = failover(FailoverKind::Forced, FailoverStep::Probe);
        probe.probed.insert("b-0".parse().unwrap(), probed(Some(70)));
        probe.probed.insert("b-1".parse().unwrap(), probed(None));
        let green = |failover: &Failover| {
            let mut failover = failover.clone();
            end(&mut failover, 100, FailoverOutcome::Done);
            failover.end.unwrap().green_ms
        };
        assert_eq!(green(&probe), None, "b-1 is red");
        keep_counted(&mut probe, &promoted());
        assert_eq!(green(&probe), Some(70), "b-1 takes no writes, and no user");
    }

    #[test]
    fn the_time_of_an_operator_before_the_stop_is_no_recovery_time() {
        let mut serve = failover(FailoverKind::Planned, FailoverStep::StandBy);
        for (at, step) in (1..).zip(&mut serve.steps) {
            let waits = if step.step == FailoverStep::Verify { 0 } else { 1_800_000 };
            (step.began_ms, step.ended_ms) = (Some(waits + at), Some(waits + at + 1));
        }
        end(&mut serve, 1_900_000, FailoverOutcome::Done);
        let steps = serve.steps.len() as u64;
        let recovery_ms = serve.end.unwrap().recovery_ms.unwrap();
        assert!(recovery_ms <= steps, "{recovery_ms} ms: verify held it for half an hour, and writes went on");
    }
}
