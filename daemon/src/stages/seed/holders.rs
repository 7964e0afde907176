//! Decides whether another site holds a project: a node there has applied every transaction that gave a ref its value.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{IncarnationId, LaneId, ProjectKey, ProjectName, RefKey, Seq, SiteId};

use super::job::{Failure, Run};
use crate::seams::refdb::NodeRecord;

impl Run {
    /// The nodes of other sites that lack transactions of the project, as text; none when another site holds the
    /// project.
    pub(super) async fn waits_for(&self, key: &ProjectKey) -> Result<Option<String>, Failure> {
        let refdb = &self.seeder.refdb;
        let mut lanes = self.last_slots(key)?;
        let mut known: BTreeSet<IncarnationId> = BTreeSet::new();
        for site in refdb.sites.sites().await? {
            known.extend(refdb.incarnations.incarnations(&site.site).await?.into_iter().map(|one| one.id));
        }
        // The registry forgets an incarnation when every node has applied all of its journal.
        lanes.retain(|lane, _| known.contains(&lane.incarnation));
        Ok(waits_for(&self.seeder.site, &key.name, &lanes, &refdb.nodes.nodes().await?))
    }

    /// Per lane, the last slot whose transaction gave a ref of the project its present value.
    fn last_slots(&self, key: &ProjectKey) -> Result<BTreeMap<LaneId, Seq>, Failure> {
        let versions = &self.seeder.materializer.versions;
        let mut last: BTreeMap<LaneId, Seq> = BTreeMap::new();
        let mut note = |slot: lockstep_proto::Slot| {
            let seq = last.entry(slot.lane).or_default();
            *seq = (*seq).max(slot.seq);
        };
        versions.get(key, &RefKey::State)?.into_iter().for_each(|record| note(record.txn.slot));
        versions.visit(key, |_, record| note(record.txn.slot))?;
        Ok(last)
    }
}

/// The nodes of other sites that lack slots of these lanes, as text; none when at least one node lacks nothing.
fn waits_for(
    site: &SiteId,
    project: &ProjectName,
    lanes: &BTreeMap<LaneId, Seq>,
    nodes: &[NodeRecord],
) -> Option<String> {
    let others = nodes.iter().filter(|node| node.site != *site && !node.expelled);
    let mut waiting = Vec::new();
    for node in others {
        let mark = |lane: &LaneId| node.mark(lane);
        let lacks: u64 = lanes.iter().map(|(lane, last)| (last.0 + 1).saturating_sub(mark(lane).0)).sum();
        if lacks == 0 && !node.reconciles() && !node.needs.of(project) {
            return None;
        }
        waiting.push(format!("{} of site {} ({lacks} transactions behind)", node.node, node.site));
    }
    Some(match waiting.is_empty() {
        true => "a node of another site, but there is none; `--alone` opens the project without one".to_owned(),
        false => waiting.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(site: &str, mark: Option<u64>) -> NodeRecord {
        NodeRecord {
            low_water: mark.into_iter().map(|mark| ("n.1.0".parse().unwrap(), Seq(mark))).collect(),
            ..NodeRecord::first(&format!("{site}-0"), site)
        }
    }

    #[test]
    fn only_a_node_of_another_site_that_is_past_all_of_it_counts() {
        let (here, lanes) = ("here".parse().unwrap(), BTreeMap::from([("n.1.0".parse().unwrap(), Seq(4))]));
        let waits = |nodes: &[NodeRecord]| waits_for(&here, &"p".parse().unwrap(), &lanes, nodes);
        assert!(waits(&[]).unwrap().contains("--alone"));
        assert!(waits(&[node("here", Some(9))]).unwrap().contains("--alone"), "a sibling is lost with this site");
        assert!(waits(&[node("there", None)]).unwrap().contains("there-0 of site there (5 transactions behind)"));
        assert!(waits(&[node("there", Some(4))]).is_some(), "the mark is below the last slot");
        assert_eq!(waits(&[node("there", Some(4)), node("third", Some(5))]), None);
        let mut degraded = node("there", Some(5));
        degraded.needs.owed.insert("p".parse().unwrap());
        assert!(waits(&[degraded]).is_some(), "its marks have passed a project that it could not bring up to date");
        let expelled = NodeRecord { expelled: true, ..node("there", Some(5)) };
        assert!(waits(&[expelled]).is_some());
        let mut reconciles = node("there", Some(5));
        reconciles.volume = NodeRecord::reconciling(&reconciles.volume);
        assert!(waits(&[reconciles]).is_some(), "a node that reconciles has nothing yet");
    }
}
