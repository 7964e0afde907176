//! The state of the sites, as the refdb has it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::failover::{SiteNode, SiteStatus};
use lockstep_proto::{LaneId, NodeId, Seq, SiteId, Slot, TxnId};

use crate::seams::refdb::{FailoverDb, IncarnationRecord, IncarnationState, NodeRecord, RefDbError, Role, SiteRecord};

/// Records of all sites, nodes and incarnations. They were read one after the other: a decision holds only if it holds
/// for records that are a little older.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// The sites of the list.
    pub(super) sites: Vec<SiteRecord>,
    /// The sites that were removed from the list.
    pub(super) removed: Vec<SiteRecord>,
    pub(super) incarnations: Vec<IncarnationRecord>,
    pub(super) nodes: Vec<NodeRecord>,
    /// The nodes whose heartbeat stands still.
    pub(super) gone: BTreeSet<NodeId>,
    /// Whether the refdb outlives the loss of a Region.
    pub(super) is_in_several_regions: bool,
}

impl View {
    /// Reads all records. `gone` are the nodes whose heartbeat stands still.
    pub(super) async fn read(refdb: &FailoverDb, gone: BTreeSet<NodeId>) -> Result<Self, RefDbError> {
        // The slots of the incarnations come first, so that the marks of the nodes are at least as new.
        let (sites, incarnations) = (refdb.sites.sites().await?, refdb.incarnations().await?);
        let (removed, sites) = sites.into_iter().partition(|site| site.removed);
        let (nodes, is_in_several_regions) = (refdb.nodes.nodes().await?, refdb.sites.is_in_several_regions());
        Ok(Self { sites, removed, incarnations, nodes, gone, is_in_several_regions })
    }

    /// The record of a site, in the list or removed.
    pub(super) fn record(&self, site: &SiteId) -> Option<&SiteRecord> {
        self.sites.iter().chain(&self.removed).find(|one| one.site == *site)
    }

    /// Whether a site is in the list, and a node has started for it or an operator has added it.
    pub(super) fn lists(&self, site: &SiteId) -> bool {
        self.site(site).is_some()
    }

    pub(super) fn site(&self, site: &SiteId) -> Option<&SiteRecord> {
        self.sites.iter().find(|one| one.site == *site)
    }

    pub(super) fn role(&self, site: &SiteId) -> Option<Role> {
        self.site(site).map(|one| one.role)
    }

    /// The nodes of a site whose heartbeat moves, and that have taken everything from the refdb that they missed.
    pub(super) fn living(&self, site: &SiteId) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.iter().filter(move |one| one.site == *site && self.lives(one) && !one.reconciles())
    }

    /// Whether all nodes of a site whose heartbeat moves still take everything from the refdb, and there is one.
    pub(super) fn takes_everything(&self, site: &SiteId) -> bool {
        let mut beating = self.nodes.iter().filter(|one| one.site == *site && self.lives(one)).peekable();
        beating.peek().is_some() && beating.all(NodeRecord::reconciles)
    }

    pub(super) fn lives(&self, node: &NodeRecord) -> bool {
        !node.expelled && !self.gone.contains(&node.node)
    }

    /// The incarnations of a site.
    pub(super) fn of_site(&self, site: &SiteId) -> impl Iterator<Item = &IncarnationRecord> {
        self.incarnations.iter().filter(move |one| one.site == *site)
    }

    /// Whether a node has an incarnation that is open under the epoch of its site.
    pub(super) fn takes_writes(&self, node: &NodeRecord) -> bool {
        let epoch = self.site(&node.site).filter(|site| site.role == Role::Active).map(|site| site.epoch);
        let open = |one: &&IncarnationRecord| one.id.node == node.node && one.state == IncarnationState::Open;
        self.of_site(&node.site).filter(open).any(|one| Some(one.epoch) == epoch)
    }

    /// The nodes that take writes.
    pub(super) fn nodes_that_write(&self) -> BTreeSet<NodeId> {
        let writing = self.nodes.iter().filter(|node| self.lives(node) && self.takes_writes(node));
        writing.map(|node| node.node.clone()).collect()
    }

    /// The number of slots of a site that a node has not durably applied. In an open incarnation, slots above the
    /// settled mark do not count.
    pub(super) fn behind(&self, node: &NodeRecord, site: &SiteId) -> u64 {
        self.of_site(site).flat_map(bounds).map(|(lane, bound)| bound.0.saturating_sub(node.mark(&lane).0)).sum()
    }

    /// The number of slots of `from` that the living node of `to` which is behind most has not durably applied.
    pub(super) fn most_behind(&self, to: &SiteId, from: &SiteId) -> u64 {
        self.living(to).map(|node| self.behind(node, from)).max().unwrap_or(0)
    }

    /// The end of the settled slots of each lane of a site.
    pub(super) fn ends(&self, site: &SiteId) -> BTreeMap<LaneId, Seq> {
        self.of_site(site).flat_map(bounds).collect()
    }

    /// The slots of `from` that no node of `site` has durably applied. Nodes that are dead count only if all are. In an
    /// open incarnation, slots above the settled mark do not count. Quarantined transactions count, although the marks
    /// have passed them. None if it is not known: every node reconciles, is expelled, or owes a project.
    pub(super) fn lacking(&self, site: &SiteId, from: &SiteId) -> Option<Lacking> {
        let living: Vec<&NodeRecord> = self.living(site).collect();
        let nodes = || self.nodes.iter().filter(|node| node.site == *site);
        let mut nodes: Vec<&NodeRecord> = if living.is_empty() { nodes().collect() } else { living };
        let had_nodes = !nodes.is_empty();
        nodes.retain(|node| !node.expelled && !node.reconciles() && node.needs.owed.is_empty());
        if had_nodes && nodes.is_empty() {
            return None;
        }
        let applied = |lane: &LaneId| nodes.iter().map(|node| node.mark(lane)).max().unwrap_or_default();
        let ends = self.ends(from).into_iter();
        let above = ends.map(|(lane, end)| (applied(&lane), lane, end)).filter(|(applied, _, end)| applied < end);
        let held: BTreeSet<&TxnId> = nodes.iter().flat_map(|node| node.needs.held.keys()).collect();
        let of_source = |txn: &TxnId| {
            let maker = &txn.slot.lane.incarnation.node;
            self.nodes.iter().any(|node| node.site == *from && node.node == *maker)
        };
        let has = |node: &NodeRecord, txn: &TxnId| {
            node.mark(&txn.slot.lane) > txn.slot.seq && !node.needs.held.contains_key(txn)
        };
        let below = held.into_iter().filter(|txn| {
            of_source(txn) && applied(&txn.slot.lane) > txn.slot.seq && !nodes.iter().any(|node| has(node, txn))
        });
        Some(Lacking {
            above: above.map(|(applied, lane, end)| (lane, applied, end)).collect(),
            held: below.map(|txn| txn.slot.clone()).collect(),
        })
    }

    /// The number of these slots.
    pub(super) fn missing(&self, site: &SiteId, from: &SiteId) -> Option<u64> {
        self.lacking(site, from).map(|lacking| lacking.count())
    }

    /// The status of each site.
    pub(super) fn statuses(&self) -> Vec<SiteStatus> {
        self.sites.iter().map(|site| self.status(site)).collect()
    }

    /// The status of one site.
    pub(super) fn status(&self, site: &SiteRecord) -> SiteStatus {
        let others = || self.sites.iter().filter(|other| other.site != site.site);
        let node = |node: &NodeRecord| SiteNode {
            node: node.node.clone(),
            lives: self.lives(node),
            expelled: node.expelled,
            takes_writes: self.takes_writes(node),
            behind: others().map(|other| self.behind(node, &other.site)).sum(),
            bootstrap: None,
        };
        let nodes = self.nodes.iter().filter(|node| node.site == site.site).map(node).collect();
        let unpublished = self.of_site(&site.site).filter(|one| one.state != IncarnationState::Drained);
        SiteStatus {
            site: site.site.clone(),
            role: site.role,
            epoch: site.epoch,
            off: site.off,
            nodes,
            unpublished: unpublished.map(unpublished_slots).sum(),
        }
    }
}

/// The slots of a site that no node of another site has durably applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacking {
    /// Per lane: the first slot that is lacking, and the end.
    above: Vec<(LaneId, Seq, Seq)>,
    /// Slots of transactions that every node holds as quarantined, or that lie below its marks and not another's.
    held: BTreeSet<Slot>,
}

impl Lacking {
    /// The number of slots.
    pub(super) fn count(&self) -> u64 {
        self.above.iter().map(|(_, from, end)| end.0 - from.0).sum::<u64>() + self.held.len() as u64
    }

    /// The number of transactions that the nodes have set aside: no catching up brings them.
    pub(super) fn set_aside(&self) -> u64 {
        self.held.len() as u64
    }

    /// The slots: those of quarantined transactions first.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        let above = self.above.iter().flat_map(|(lane, from, end)| (from.0..end.0).map(|seq| lane.slot(Seq(seq))));
        self.held.iter().cloned().chain(above)
    }
}

/// The end of the slots that may be committed in each lane: of the window if nothing can land there any more, and else
/// of the settled slots.
fn bounds(one: &IncarnationRecord) -> Vec<(LaneId, Seq)> {
    let ends = if one.may_commit() { one.settled.clone() } else { one.ends() };
    one.id.lanes(ends).collect()
}

/// The number of an incarnation's slots that the event log does not have.
fn unpublished_slots(one: &IncarnationRecord) -> u64 {
    let bounds = bounds(one).into_iter().zip(&one.published);
    bounds.map(|((_, bound), published)| bound.0.saturating_sub(published.0)).sum()
}
