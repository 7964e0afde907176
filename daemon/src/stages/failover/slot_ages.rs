//! Measures for how long a node lacks slots that are settled. It does so through the refdb: a node whose streams are
//! cut sees no transaction that it could count, and would take itself for caught up.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_proto::{LaneId, NodeId, Seq, SiteId};
use tokio::time::Instant;

use super::view::View;
use crate::seams::refdb::{NodeRecord, RefDb, RefDbError};

/// The standing of a node by its own record in the refdb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The number of starts of the node.
    pub starts: u64,
    /// How long it has lacked slots of each site. At most the time between two looks less than the truth.
    pub ages: BTreeMap<SiteId, Duration>,
}

/// Remembers, per site, the settled slots that the node is to reach next, and since when. Busy sites always have newer
/// slots: so the age is not the time since the node lacked nothing.
#[derive(Debug, Default)]
pub struct SlotAges(BTreeMap<SiteId, Target>);

#[derive(Debug)]
struct Target {
    ends: BTreeMap<LaneId, Seq>,
    since: Instant,
}

impl SlotAges {
    /// Looks at the refdb. None if the node has no record there.
    ///
    /// # Errors
    /// The refdb does not answer.
    pub async fn look(&mut self, refdb: &RefDb, node: &NodeId) -> Result<Option<Standing>, RefDbError> {
        let view = View::read(&refdb.for_failover(), Default::default()).await?;
        let record = view.nodes.iter().find(|one| one.node == *node);
        Ok(record.map(|record| Standing { starts: record.starts, ages: self.of(&view, record, Instant::now()) }))
    }

    fn of(&mut self, view: &View, node: &NodeRecord, now: Instant) -> BTreeMap<SiteId, Duration> {
        let mut age = |site: &SiteId| {
            let ends = view.ends(site);
            let target = self.0.entry(site.clone()).or_insert_with(|| Target { ends: ends.clone(), since: now });
            // The registry forgets lanes of which every node has applied everything.
            let lacks = |(lane, end): (&LaneId, &Seq)| ends.contains_key(lane) && node.mark(lane) < *end;
            if !target.ends.iter().any(lacks) {
                *target = Target { ends, since: now };
            }
            now - target.since
        };
        view.sites.iter().map(|site| (site.site.clone(), age(&site.site))).collect()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::{Incarnation, IncarnationId, Lane};

    use super::*;
    use crate::seams::refdb::{IncarnationRecord, Role, SiteRecord};

    fn id() -> IncarnationId {
        IncarnationId { node: "a-0".parse().unwrap(), number: Incarnation(1) }
    }

    fn view(settled: u64) -> View {
        View {
            sites: vec![SiteRecord::new("a".parse().unwrap(), Role::Active, 1)],
            incarnations: vec![IncarnationRecord {
                settled: vec![Seq(settled)],
                published: vec![Seq(settled)],
                ..IncarnationRecord::open(id(), "a".parse().unwrap(), 1, 8, 1)
            }],
            ..View::default()
        }
    }

    fn reader(mark: u64) -> NodeRecord {
        NodeRecord { low_water: [(id().lane(Lane(0)), Seq(mark))].into(), ..NodeRecord::first("b-0", "b") }
    }

    #[test]
    fn a_node_that_stands_still_grows_old_and_one_that_follows_a_busy_site_does_not() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let age = |ages: &mut SlotAges, settled, mark, seconds| {
            ages.of(&view(settled), &reader(mark), at(seconds))[&"a".parse().unwrap()].as_secs()
        };
        let mut busy = SlotAges::default();
        let seen: Vec<u64> = (0..6).map(|look| age(&mut busy, 100 * (look + 1), 100 * look, 10 * look)).collect();
        assert_eq!(seen, [0, 0, 0, 0, 0, 0], "it has reached the slots of the look before");
        let mut cut = SlotAges::default();
        let seen: Vec<u64> = (0..6).map(|look| age(&mut cut, 100 + look, 99, 10 * look)).collect();
        assert_eq!(seen, [0, 10, 20, 30, 40, 50]);
        assert_eq!(age(&mut cut, 200, 150, 60), 0);
    }
}
