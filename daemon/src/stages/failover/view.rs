//! The state of the sites, as the refdb has it.

use std::collections::BTreeSet;

use lockstep_proto::failover::{SiteNode, SiteStatus};
use lockstep_proto::{LaneId, NodeId, Seq, SiteId};

use crate::seams::refdb::{IncarnationRecord, IncarnationState, NodeRecord, RefDb, RefDbError, Role, SiteRecord};

/// Records of all sites, nodes and incarnations. They were read one after the other: a decision holds only if it holds
/// for records that are a little older.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) sites: Vec<SiteRecord>,
    pub(super) incarnations: Vec<IncarnationRecord>,
    pub(super) nodes: Vec<NodeRecord>,
    /// The nodes whose heartbeat stands still.
    pub(super) gone: BTreeSet<NodeId>,
}

impl View {
    /// Reads all records. `gone` are the nodes whose heartbeat stands still.
    pub(super) async fn read(refdb: &RefDb, gone: BTreeSet<NodeId>) -> Result<Self, RefDbError> {
        // The slots of the incarnations come first, so that the marks of the nodes are at least as new.
        let (sites, incarnations) = (refdb.registry.sites().await?, refdb.incarnations().await?);
        Ok(Self { sites, incarnations, nodes: refdb.registry.nodes().await?, gone })
    }

    pub(super) fn site(&self, site: &SiteId) -> Option<&SiteRecord> {
        self.sites.iter().find(|one| one.site == *site)
    }

    pub(super) fn role(&self, site: &SiteId) -> Option<Role> {
        self.site(site).map(|one| one.role)
    }

    /// The nodes of a site whose heartbeat moves.
    pub(super) fn living(&self, site: &SiteId) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.iter().filter(move |one| one.site == *site && self.lives(one))
    }

    fn lives(&self, node: &NodeRecord) -> bool {
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

    /// The number of slots of a site that a node has not durably applied. In an open incarnation, slots above the
    /// settled mark do not count.
    pub(super) fn behind(&self, node: &NodeRecord, site: &SiteId) -> u64 {
        self.of_site(site).flat_map(bounds).map(|(lane, bound)| bound.0.saturating_sub(node.mark(&lane).0)).sum()
    }

    /// The status of each site.
    pub(super) fn statuses(&self) -> Vec<SiteStatus> {
        self.sites.iter().map(|site| self.status(site)).collect()
    }

    fn status(&self, site: &SiteRecord) -> SiteStatus {
        let others = || self.sites.iter().filter(|other| other.site != site.site);
        let node = |node: &NodeRecord| SiteNode {
            node: node.node.clone(),
            lives: self.lives(node),
            takes_writes: self.takes_writes(node),
            behind: others().map(|other| self.behind(node, &other.site)).sum(),
        };
        let nodes = self.nodes.iter().filter(|node| node.site == site.site).map(node).collect();
        let unpublished = self.of_site(&site.site).filter(|one| one.state != IncarnationState::Drained);
        SiteStatus {
            site: site.site.clone(),
            role: site.role,
            epoch: site.epoch,
            nodes,
            unpublished: unpublished.map(unpublished_slots).sum(),
        }
    }
}

/// The end of what may be committed in each lane: of the window if nothing can land there any more, and else of the
/// settled slots.
fn bounds(one: &IncarnationRecord) -> Vec<(LaneId, Seq)> {
    let ends = if one.may_commit() { one.settled.clone() } else { one.ends() };
    one.id.lanes(ends).collect()
}

/// The number of an incarnation's slots that the event log does not have.
fn unpublished_slots(one: &IncarnationRecord) -> u64 {
    let bounds = bounds(one).into_iter().zip(&one.published);
    bounds.map(|((_, bound), published)| bound.0.saturating_sub(published.0)).sum()
}
