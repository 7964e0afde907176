//! The judgement of a transaction from facts that were read before. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use lockstep_proto::{NodeId, ProjectName, SiteId, Slot, TxnId};

use crate::seams::refdb::{NodeRecord, SlotState};

/// The fate of a transaction, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its slot holds it: these bytes.
    Committed(Bytes),
    /// This node remembers that it was committed in this project. Its slot was collected since, so every node that
    /// counted then has applied it.
    Collected(ProjectName),
    /// It was not committed, and never will be: the reason.
    Refused(String),
    /// Its slot is empty and not collected: it may still be committed.
    Open,
    /// Its slot may have been collected, and this node does not remember it.
    Forgotten,
}

/// Judges a transaction by the content of its slot. `gone` says that the slot may have been collected before it was
/// read: then other content proves nothing. `remembered` is the project in which this node remembers it as committed.
pub(super) fn fate(txn: &TxnId, slot: SlotState, gone: bool, remembered: Option<ProjectName>) -> Fate {
    match slot {
        SlotState::Committed(id, bytes) if id == *txn => Fate::Committed(bytes),
        _ if gone => remembered.map_or(Fate::Forgotten, Fate::Collected),
        SlotState::Committed(other, _) => Fate::Refused(format!("its slot holds {other}")),
        SlotState::Poisoned => Fate::Refused("its slot is poisoned".to_owned()),
        SlotState::Empty => Fate::Open,
    }
}

/// A committed transaction at the nodes of a site, other than the node that asks.
pub(super) struct Elsewhere<'a> {
    /// The site whose nodes are asked.
    pub site: &'a SiteId,
    /// The node that asks. It judges itself otherwise.
    pub own: &'a NodeId,
    /// The slot of the transaction.
    pub slot: &'a Slot,
    /// The project of the transaction.
    pub project: &'a ProjectName,
    /// Whether the slot was collected.
    pub is_collected: bool,
}

impl Elsewhere<'_> {
    /// The reason why a living node of the site does not show the transaction, by the records of the nodes. None if
    /// all of them show it. `gone` are the nodes whose heartbeat stands still.
    pub(super) fn missing(&self, nodes: &[NodeRecord], gone: &BTreeSet<NodeId>) -> Option<String> {
        let lives = |one: &&NodeRecord| one.site == *self.site && !one.expelled && !gone.contains(&one.node);
        let mut living = nodes.iter().filter(lives).peekable();
        if living.peek().is_none() {
            return Some(format!("no node of site {} has a heartbeat", self.site));
        }
        living.filter(|one| one.node != *self.own).find_map(|one| self.missing_at(one))
    }

    fn missing_at(&self, one: &NodeRecord) -> Option<String> {
        let node = &one.node;
        if one.reconciles() {
            return Some(format!("node {node} still takes its state from the refdb"));
        }
        if !self.is_collected && one.mark(&self.slot.lane) <= self.slot.seq {
            return Some(format!("node {node} has not durably applied it yet"));
        }
        let lacks = one.needs.of(self.project);
        lacks.then(|| format!("project {} is degraded at node {node}", self.project))
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::Seq;

    use super::*;

    fn txn() -> TxnId {
        "a-0.1.0.7.00000000000000aa".parse().unwrap()
    }

    #[test]
    fn a_slot_tells_the_fate_and_content_that_may_be_younger_proves_nothing() {
        let (bytes, other) = (Bytes::from_static(b"it"), "a-0.1.0.7.00000000000000bb".parse().unwrap());
        let own = SlotState::Committed(txn(), bytes.clone());
        let other = SlotState::Committed(other, Bytes::new());
        let project: ProjectName = "p".parse().unwrap();
        for gone in [false, true] {
            assert_eq!(fate(&txn(), own.clone(), gone, None), Fate::Committed(bytes.clone()));
        }
        assert_eq!(fate(&txn(), SlotState::Empty, false, None), Fate::Open);
        for slot in [other, SlotState::Poisoned] {
            assert!(matches!(fate(&txn(), slot.clone(), false, None), Fate::Refused(_)), "{slot:?}");
            assert_eq!(fate(&txn(), slot.clone(), true, None), Fate::Forgotten, "late content: {slot:?}");
            assert_eq!(fate(&txn(), slot, true, Some(project.clone())), Fate::Collected(project.clone()));
        }
        assert_eq!(fate(&txn(), SlotState::Empty, true, Some(project.clone())), Fate::Collected(project));
        assert_eq!(fate(&txn(), SlotState::Empty, true, None), Fate::Forgotten);
    }

    #[test]
    fn a_site_shows_it_when_each_of_its_living_nodes_does() {
        let (slot, project) = (txn().slot, "p".parse().unwrap());
        let (site, own) = ("b".parse().unwrap(), "a-0".parse().unwrap());
        let ask = Elsewhere { site: &site, own: &own, slot: &slot, project: &project, is_collected: false };
        let at = |name: &str, mark: u64| {
            let mut record = NodeRecord::first(name, "b");
            record.low_water.insert(slot.lane.clone(), Seq(mark));
            record
        };
        let mut nodes = vec![NodeRecord::first("c-0", "c")];
        let dead = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<NodeId>>();
        let none = dead(&[]);
        assert!(ask.missing(&nodes, &none).unwrap().contains("no node of site b"));
        nodes.extend([at("b-0", 8), at("b-1", 7)]);
        assert!(ask.missing(&nodes, &none).unwrap().contains("b-1 has not durably applied it"));
        assert_eq!(ask.missing(&nodes, &dead(&["b-1"])), None, "a dead node serves nobody");
        assert!(ask.missing(&nodes, &dead(&["b-0", "b-1"])).is_some());
        assert_eq!(Elsewhere { is_collected: true, ..ask }.missing(&nodes, &none), None);
        nodes[2].expelled = true;
        assert_eq!(ask.missing(&nodes, &none), None);
        nodes[1].needs.owed.insert(project.clone());
        assert!(ask.missing(&nodes, &none).unwrap().contains("degraded at node b-0"));
        nodes[1].volume = NodeRecord::reconciling("v");
        assert!(ask.missing(&nodes, &none).unwrap().contains("b-0 still takes its state"));
    }

    #[test]
    fn the_node_that_asks_judges_itself() {
        let (slot, project) = (txn().slot, "p".parse().unwrap());
        let (site, own) = ("a".parse().unwrap(), "a-0".parse().unwrap());
        let ask = Elsewhere { site: &site, own: &own, slot: &slot, project: &project, is_collected: false };
        assert_eq!(ask.missing(&[NodeRecord::first("a-0", "a")], &BTreeSet::new()), None);
    }
}
