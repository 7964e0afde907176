//! The work at the target that goes on beside a failover which is done. A pure function of the digests in the refdb.
//!
//! Refreshes of a Gerrit and notices to receivers are no steps, because no write waits for them. A digest counts only
//! if its node wrote it after it began to take writes: the node writes one at that moment, with the refreshes of all
//! that it has applied until then.

use lockstep_proto::failover::{Failover, FailoverOutcome, FollowUp, Role};

use super::overview::{Aged, is_of_earlier_start};
use super::view::View;
use crate::seams::refdb::{NodeRecord, SiteRecord};

/// The work at the target of a failover. None unless the failover is done and its target is still active.
pub(super) fn follow_up(failover: &Failover, view: &View, digests: &[Aged]) -> Option<FollowUp> {
    let is_done = failover.end.as_ref().is_some_and(|end| end.outcome == FailoverOutcome::Done);
    let site = view.site(&failover.to).filter(|site| is_done && site.role == Role::Active)?;
    let mut found = FollowUp::default();
    for node in view.living(&site.site) {
        let own = digests.iter().find(|aged| aged.digest.node == node.node);
        let Some(own) = own.filter(|aged| is_of_now(aged, node, site, view)) else {
            found.unknown.push(node.node.clone());
            continue;
        };
        if let Some(refresh) = &own.digest.refresh {
            found.refreshes = Some(found.refreshes.unwrap_or(0) + refresh.due);
        }
        if let Some(receivers) = &own.digest.receivers {
            found.receivers += receivers.all;
            found.told += receivers.told;
        }
    }
    Some(found)
}

/// Whether a digest tells about the present, and about the present epoch. A node that takes writes must have said so.
fn is_of_now(aged: &Aged, node: &NodeRecord, site: &SiteRecord, view: &View) -> bool {
    let is_fresh = !aged.is_old && !is_of_earlier_start(aged, node);
    is_fresh && aged.digest.epoch == site.epoch && (aged.digest.incarnation.is_some() || !view.takes_writes(node))
}

#[cfg(test)]
mod tests {
    use lockstep_proto::NodeId;
    use lockstep_proto::failover::{FailoverEnd, FailoverKind, FailoverStep};
    use lockstep_proto::overview::NodeDigest;
    use serde_json::json;

    use super::super::decide::tests::{failover, promoted};
    use super::*;

    fn done(outcome: FailoverOutcome) -> Failover {
        let mut done = failover(FailoverKind::Forced, FailoverStep::StandBy);
        done.end = Some(FailoverEnd { outcome, at_ms: 9, recovery_ms: None, green_ms: None, lost: 0 });
        done
    }

    fn b_0() -> NodeId {
        "b-0".parse().unwrap()
    }

    /// A digest with refreshes that are due, and with one of two receivers told.
    fn digest(node: &str, epoch: u64, incarnation: Option<u64>, due: u64) -> Aged {
        let digest: NodeDigest = serde_json::from_value(json!({
            "format": 1, "site": "b", "node": node, "at_ms": 7, "epoch": epoch, "incarnation": incarnation,
            "refresh": {"due": due}, "receivers": {"all": 2, "told": 1},
        }))
        .unwrap();
        Aged { digest, age_ms: 1_000, is_old: false }
    }

    #[test]
    fn refreshes_and_receivers_of_all_living_nodes_of_the_target_are_counted() {
        let digests = [digest("b-0", 3, Some(1), 4), digest("b-1", 3, None, 3), digest("c-0", 3, None, 100)];
        let found = follow_up(&done(FailoverOutcome::Done), &promoted(), &digests).unwrap();
        assert_eq!(found, FollowUp { refreshes: Some(7), receivers: 4, told: 2, unknown: Vec::new() });
        assert!(!found.is_refreshed());
        let drained = [digest("b-0", 3, Some(1), 0), digest("b-1", 3, None, 0)];
        assert!(follow_up(&done(FailoverOutcome::Done), &promoted(), &drained).unwrap().is_refreshed());
        let without = drained.map(|one| Aged { digest: NodeDigest { refresh: None, ..one.digest }, ..one });
        let found = follow_up(&done(FailoverOutcome::Done), &promoted(), &without).unwrap();
        assert!(found.is_refreshed() && found.refreshes.is_none(), "no Gerrit: {found:?}");
    }

    /// A standby whose queue was empty before it caught up must not pass as refreshed.
    #[test]
    fn a_digest_of_the_time_before_the_promotion_says_nothing_about_refreshes() {
        let fine = || digest("b-1", 3, None, 0);
        let of_old_epoch = digest("b-0", 2, Some(1), 0);
        let not_serving = digest("b-0", 3, None, 0);
        let old = Aged { is_old: true, ..digest("b-0", 3, Some(1), 0) };
        for late in [of_old_epoch, not_serving, old] {
            let found = follow_up(&done(FailoverOutcome::Done), &promoted(), &[late.clone(), fine()]).unwrap();
            assert_eq!(found.unknown, [b_0()], "{late:?}");
            assert!(!found.is_refreshed(), "{late:?}");
        }
        let missing = follow_up(&done(FailoverOutcome::Done), &promoted(), &[fine()]).unwrap();
        assert_eq!(missing.unknown, [b_0()]);
    }

    #[test]
    fn nothing_follows_a_failover_that_was_aborted_or_whose_target_is_not_active_any_more() {
        let digests = [digest("b-0", 3, Some(1), 4)];
        assert_eq!(follow_up(&done(FailoverOutcome::Aborted), &promoted(), &digests), None);
        let mut later = promoted();
        later.sites[0].role = Role::Standby;
        assert_eq!(follow_up(&done(FailoverOutcome::Done), &later, &digests), None);
    }
}
