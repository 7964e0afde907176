//! A node's low-water marks in the bounded form in which its record in the refdb has them.
//!
//! Each start of any node adds an incarnation with its lanes. While one node is away, nothing is collected and no
//! incarnation is forgotten, so a list of lanes would grow without bound. Incarnations of which everything is applied
//! need no list: one number per node covers them ([`NodeRecord::whole`](crate::seams::refdb::NodeRecord::whole)).

use std::collections::BTreeMap;

use lockstep_proto::{Incarnation, LaneId, NodeId, Seq};

use crate::seams::refdb::{IncarnationRecord, IncarnationState};

/// The most lanes in a node's record. At 100 bytes each they take half of an item.
const MOST_LANES: usize = 2_000;

/// Low-water marks as a node's record has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The mark of each lane that `whole` does not cover.
    pub low_water: BTreeMap<LaneId, Seq>,
    /// Per node, the highest number of an incarnation of which everything is applied. Every slot of an incarnation up
    /// to it counts as applied, unless `low_water` has its lane.
    pub whole: BTreeMap<NodeId, Incarnation>,
}

/// Condenses marks. `listed` are the incarnations that are not forgotten, as the refdb listed them at any time: the
/// record of a drained incarnation is final, and a later one has a higher number.
#[must_use]
pub fn extent(marks: &BTreeMap<LaneId, Seq>, listed: &[IncarnationRecord]) -> Extent {
    let mark = |lane: &LaneId| marks.get(lane).copied().unwrap_or_default();
    let is_whole = |one: &&IncarnationRecord| {
        one.state == IncarnationState::Drained
            && one.id.lanes(one.published.iter().copied()).all(|(lane, published)| mark(&lane) >= published)
    };
    let mut extent = Extent::default();
    for one in listed.iter().filter(is_whole) {
        let last = extent.whole.entry(one.id.node.clone()).or_insert(one.id.number);
        *last = (*last).max(one.id.number);
    }
    for one in listed.iter().filter(|one| !is_whole(one)) {
        // Its lanes are listed even without a mark, because `whole` may cover its number.
        extent.low_water.extend(one.id.lanes(one.published.iter()).map(|(lane, _)| (lane.clone(), mark(&lane))));
    }
    let covers =
        |lane: &LaneId| extent.whole.get(&lane.incarnation.node).is_some_and(|last| lane.incarnation.number <= *last);
    let above = marks.iter().filter(|(lane, _)| !covers(lane)).map(|(lane, mark)| (lane.clone(), *mark));
    let above: Vec<_> = above.collect();
    extent.low_water.extend(above);
    extent.bounded(MOST_LANES)
}

impl Extent {
    /// Drops the oldest incarnations beyond `most` lanes. A lane that is dropped counts as not applied, so its journal
    /// is kept.
    fn bounded(mut self, most: usize) -> Self {
        while self.low_water.len() > most {
            let mut counts: BTreeMap<&NodeId, usize> = BTreeMap::new();
            for lane in self.low_water.keys() {
                *counts.entry(&lane.incarnation.node).or_default() += 1;
            }
            let Some(node) = counts.into_iter().max_by_key(|(_, count)| *count).map(|(node, _)| node.clone()) else {
                return self;
            };
            let of_node = self.low_water.keys().filter(|lane| lane.incarnation.node == node);
            let Some(oldest) = of_node.map(|lane| lane.incarnation.number).min() else { return self };
            self.low_water.retain(|lane, _| lane.incarnation.node != node || lane.incarnation.number != oldest);
            if self.whole.get(&node).is_some_and(|last| *last >= oldest) {
                self.whole.insert(node, Incarnation(oldest.0.saturating_sub(1)));
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::IncarnationId;

    use super::*;
    use crate::seams::refdb::NodeRecord;

    const LANES: usize = 4;

    fn incarnation(number: u64, state: IncarnationState) -> IncarnationRecord {
        IncarnationRecord {
            id: IncarnationId { node: "n".parse().unwrap(), number: Incarnation(number) },
            site: "s".parse().unwrap(),
            epoch: 1,
            state,
            window: 8,
            settled: vec![Seq(5); LANES],
            published: vec![Seq(5); LANES],
        }
    }

    fn marks(records: &[IncarnationRecord], mark: u64) -> BTreeMap<LaneId, Seq> {
        records.iter().flat_map(|one| one.id.lanes(one.published.iter()).map(|(lane, _)| (lane, Seq(mark)))).collect()
    }

    fn record(extent: Extent) -> NodeRecord {
        NodeRecord { low_water: extent.low_water, whole: extent.whole, ..NodeRecord::first("m", "s") }
    }

    fn lane(number: u64) -> LaneId {
        format!("n.{number}.0").parse().unwrap()
    }

    #[test]
    fn thousands_of_restarts_that_are_applied_take_one_entry() {
        let mut listed: Vec<_> = (1..=3_000).map(|number| incarnation(number, IncarnationState::Drained)).collect();
        listed.push(incarnation(3_001, IncarnationState::Open));
        let extent = extent(&marks(&listed, 5), &listed);
        assert_eq!((extent.low_water.len(), extent.whole.len()), (LANES, 1));
        let record = record(extent);
        assert!(record.mark(&lane(1)) >= Seq(5) && record.mark(&lane(3_000)) >= Seq(5));
        assert_eq!((record.mark(&lane(3_001)), record.mark(&lane(3_002))), (Seq(5), Seq(0)));
    }

    #[test]
    fn an_incarnation_that_is_not_applied_is_listed_below_the_number_that_covers_the_others() {
        let mut listed: Vec<_> = (1..=9).map(|number| incarnation(number, IncarnationState::Drained)).collect();
        listed[3].state = IncarnationState::Frozen;
        let mut known = marks(&listed, 5);
        known.retain(|lane, _| lane.incarnation.number != Incarnation(6));
        known.insert(lane(2), Seq(4));
        let record = record(extent(&known, &listed));
        assert_eq!(record.mark(&lane(2)), Seq(4), "one slot is missing");
        assert_eq!(record.mark(&lane(4)), Seq(5), "a frozen incarnation may still grow");
        assert_eq!(record.mark(&lane(6)), Seq(0), "nothing was seen of it");
        assert!(record.mark(&lane(5)) >= Seq(5) && record.mark(&lane(9)) >= Seq(5));
    }

    #[test]
    fn marks_of_incarnations_that_the_list_does_not_have_yet_stay() {
        let listed = [incarnation(1, IncarnationState::Drained)];
        let known = marks(&[listed[0].clone(), incarnation(2, IncarnationState::Open)], 5);
        let record = record(extent(&known, &listed));
        assert_eq!(record.mark(&lane(2)), Seq(5));
    }

    #[test]
    fn beyond_the_bound_the_oldest_count_as_not_applied() {
        let listed: Vec<_> = (1..=1_000).map(|number| incarnation(number, IncarnationState::Frozen)).collect();
        let mut all = listed.clone();
        all.push(incarnation(1_001, IncarnationState::Drained));
        let extent = extent(&marks(&all, 5), &all);
        assert!(extent.low_water.len() <= MOST_LANES);
        let record = record(extent);
        assert_eq!(record.mark(&lane(1)), Seq(0));
        assert_eq!(record.mark(&lane(1_000)), Seq(5));
    }
}
