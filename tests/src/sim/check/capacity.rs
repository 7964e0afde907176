//! The number of shards of a stream changes within the rules of `UpdateShardCount`, and the stored history of its
//! autoscaler tells each change: before it is made, by its node, with both numbers.

use std::collections::BTreeMap;

use lockstep_proto::capacity::{Capacities, Scaling};
use lockstep_proto::{NodeId, SiteId};

use super::Verdict;

/// The changes that Kinesis allows in 24 hours.
const CHANGES: usize = 10;
const DAY_MS: u64 = 24 * 3_600_000;

/// A change of the number of open shards that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The node that made it. None if it was made before the run.
    pub by: Option<NodeId>,
    /// When it took effect, in milliseconds since 1970.
    pub at_ms: u64,
    /// The number of open shards before.
    pub from: u32,
    /// The number of open shards afterwards.
    pub to: u32,
}

/// The changes of all streams, and the document that their autoscalers keep.
#[derive(Default)]
pub struct Capacity {
    stored: Capacities,
    changes: BTreeMap<SiteId, Vec<Change>>,
}

impl Capacity {
    /// Notes a change that was made before the run.
    pub fn before(&mut self, site: &SiteId, at_ms: u64) {
        self.changes.entry(site.clone()).or_default().push(Change { by: None, at_ms, from: 0, to: 0 });
    }

    /// Judges a change at the moment at which it takes effect.
    ///
    /// # Errors
    /// It breaks a rule of Kinesis, or the stored history does not tell it.
    pub fn set(&mut self, site: &SiteId, change: Change) -> Verdict {
        let Change { by, at_ms, from, to } = change.clone();
        let changes = self.changes.entry(site.clone()).or_default();
        changes.push(change);
        if to == from || to > from.saturating_mul(2) || to.saturating_mul(2) < from {
            return Err(format!("the stream of {site} goes from {from} to {to} shards"));
        }
        let of_day = changes.iter().filter(|one| at_ms.saturating_sub(one.at_ms) < DAY_MS).count();
        if of_day > CHANGES {
            return Err(format!("the shards of {site} are set for the {of_day}th time in 24 hours"));
        }
        let (made, told) = (self.made(site, by.as_ref(), from, to), self.told(site, by.as_ref(), from, to).count());
        match made > told {
            true => Err(format!("{by:?} sets {from} shards of {site} to {to}, and the history does not tell it")),
            false => Ok(()),
        }
    }

    /// Judges the document when it is stored.
    ///
    /// # Errors
    /// A step counts as taken that was not, or the number of looks goes back.
    pub fn stored(&mut self, next: Capacities) -> Verdict {
        let before = std::mem::replace(&mut self.stored, next);
        for (site, own) in &self.stored.sites {
            let turn = before.sites.get(site).map_or(0, |own| own.turn);
            if own.turn < turn {
                return Err(format!("the looks at {site} go back from {turn} to {}", own.turn));
            }
            for step in own.history.iter().filter(|step| is_taken(step)) {
                let (by, from, to) = (Some(&step.by), step.from, step.to);
                let taken = self.told(site, by, from, to).filter(|step| is_taken(step)).count();
                if taken > self.made(site, by, from, to) {
                    return Err(format!(
                        "{} has not set {from} shards of {site} to {to} as its history tells",
                        step.by
                    ));
                }
            }
        }
        Ok(())
    }

    /// The node that looks after the stream of a site, as the document has it.
    #[must_use]
    pub fn holder(&self, site: &SiteId) -> Option<NodeId> {
        self.stored.sites.get(site)?.holder.clone()
    }

    /// The number of such changes that a node has made.
    fn made(&self, site: &SiteId, by: Option<&NodeId>, from: u32, to: u32) -> usize {
        let changes = self.changes.get(site).into_iter().flatten();
        changes.filter(|one| one.by.as_ref() == by && (one.from, one.to) == (from, to)).count()
    }

    /// The steps of the stored history that tell such a change. It has room for twice the changes of a day.
    fn told<'a>(
        &'a self,
        site: &SiteId,
        by: Option<&'a NodeId>,
        from: u32,
        to: u32,
    ) -> impl Iterator<Item = &'a Scaling> {
        let steps = self.stored.sites.get(site).map(|own| own.history.as_slice()).unwrap_or_default();
        steps.iter().filter(move |step| Some(&step.by) == by && (step.from, step.to) == (from, to) && !step.dry_run)
    }
}

fn is_taken(step: &Scaling) -> bool {
    step.outcome.as_deref() == Some("taken")
}

#[cfg(test)]
mod tests {
    use lockstep_proto::capacity::StreamCapacity;

    use super::*;

    fn site() -> SiteId {
        "a".parse().unwrap()
    }

    fn change(at_ms: u64, from: u32, to: u32) -> Change {
        Change { by: Some("a-0".parse().unwrap()), at_ms, from, to }
    }

    /// A document whose history has these steps of `a-0`, all with this outcome.
    fn told(steps: &[(u32, u32)], outcome: Option<&str>) -> Capacities {
        let step = |(from, to): &(u32, u32)| Scaling {
            at_ms: 1,
            by: "a-0".parse().unwrap(),
            from: *from,
            to: *to,
            why: String::new(),
            dry_run: false,
            outcome: outcome.map(str::to_owned),
        };
        let own = StreamCapacity { history: steps.iter().map(step).collect(), ..StreamCapacity::default() };
        Capacities { sites: [(site(), own)].into() }
    }

    #[test]
    fn a_change_needs_a_step_of_its_own_in_the_history_and_a_taken_step_a_change() {
        let mut capacity = Capacity::default();
        assert_eq!(capacity.stored(told(&[(1, 2)], None)), Ok(()));
        assert_eq!(capacity.set(&site(), change(7, 1, 2)), Ok(()));
        assert_eq!(capacity.stored(told(&[(1, 2)], Some("taken"))), Ok(()));
        assert!(capacity.set(&site(), change(8, 1, 2)).unwrap_err().contains("does not tell it"));
        assert!(capacity.stored(told(&[(2, 3)], Some("taken"))).unwrap_err().contains("has not set 2 shards"));
    }

    #[test]
    fn the_rules_of_kinesis_count_the_changes_of_24_hours() {
        let mut capacity = Capacity::default();
        assert!(capacity.set(&site(), change(1, 2, 5)).unwrap_err().contains("from 2 to 5"));
        assert!(capacity.set(&site(), change(2, 5, 2)).unwrap_err().contains("from 5 to 2"));
        (3..11).for_each(|at_ms| capacity.before(&site(), at_ms));
        assert_eq!(capacity.stored(told(&[(1, 2), (1, 2)], None)), Ok(()));
        assert!(capacity.set(&site(), change(11, 1, 2)).unwrap_err().contains("for the 11th time"));
        assert_eq!(capacity.set(&site(), change(DAY_MS + 3, 1, 2)), Ok(()));
    }
}
