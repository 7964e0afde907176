//! The canary of a drill: two sites, their incarnations, nodes and slots, in one document of the refdb.
//!
//! Every change is a conditional write of that document, so the roles and slots of the canary are decided by the real
//! refdb. Nothing else of the refdb is touched. A drill that was killed leaves this document, which the next one
//! replaces.

use std::collections::BTreeMap;

use lockstep_proto::drill::{DrillBegun, DrillRequest};
use lockstep_proto::failover::Role;
use lockstep_proto::{Incarnation, IncarnationId, Lane, LaneId, NodeId, Seq, SiteId, Slot, TxnId};
use serde::{Deserialize, Serialize};

use crate::seams::refdb::{IncarnationRecord, IncarnationState, Needs, NodeRecord, SiteRecord};

/// The slots above its settled mark that a canary's lane may use.
pub(super) const WINDOW: u64 = 8;
/// The node of the canary at the source, and that at the target.
const NODES: [&str; 2] = ["canary-source", "canary-target"];

/// The document of the drill that is in progress, or was the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DrillRecord {
    /// The number, the driving node, and when it was written last.
    pub(super) begun: DrillBegun,
    /// The request of the operator or the schedule.
    pub(super) request: DrillRequest,
    /// The identity of the operator, or of the schedule.
    pub(super) actor: String,
    /// When it was requested, in milliseconds since 1970.
    pub(super) requested_ms: u64,
    /// The canary. None when the drill has ended.
    pub(super) world: Option<World>,
}

/// The state of the canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct World {
    sites: Vec<(SiteId, Role, u64)>,
    incarnations: Vec<CanaryIncarnation>,
    /// The node of each site, and the slots of the source that it has applied.
    nodes: Vec<(NodeId, SiteId, u64)>,
    /// The content of each occupied slot, with the number of the change that has put it there.
    slots: BTreeMap<Slot, (u64, Option<TxnId>)>,
    /// The number of changes.
    changes: u64,
    /// The number of the change that has poisoned the incarnation of the source. Nothing may land there afterwards.
    poisoned: Option<u64>,
    /// The record of the failover, with its revision.
    pub(super) failover: Option<(u64, String)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CanaryIncarnation {
    id: IncarnationId,
    site: SiteId,
    epoch: u64,
    state: IncarnationState,
    settled: u64,
}

/// The node of the canary at the source.
pub(super) fn source_node() -> Option<NodeId> {
    NODES[0].parse().ok()
}

/// The node of the canary at the target.
pub(super) fn target_node() -> Option<NodeId> {
    NODES[1].parse().ok()
}

impl World {
    /// The canary of a new drill: the source is active, the target stands by.
    pub(super) fn new(from: &SiteId, to: &SiteId) -> Self {
        let nodes = source_node().map(|node| (node, from.clone(), 0));
        let nodes = nodes.into_iter().chain(target_node().map(|node| (node, to.clone(), 0)));
        Self {
            sites: vec![(from.clone(), Role::Active, 1), (to.clone(), Role::Standby, 1)],
            nodes: nodes.collect(),
            ..Self::default()
        }
    }

    pub(super) fn site(&self, site: &SiteId) -> Option<SiteRecord> {
        self.sites().into_iter().find(|one| one.site == *site)
    }

    pub(super) fn sites(&self) -> Vec<SiteRecord> {
        let record = |(site, role, epoch): &(SiteId, Role, u64)| SiteRecord::new(site.clone(), *role, *epoch);
        self.sites.iter().map(record).collect()
    }

    /// Changes a role and raises the epoch, if the epoch is still that of `from`. Answers the stored record.
    pub(super) fn change_role(&mut self, from: &SiteRecord, role: Role) -> Option<SiteRecord> {
        self.changes += 1;
        let stored = self.sites.iter_mut().find(|(site, _, _)| *site == from.site)?;
        if stored.2 == from.epoch {
            (stored.1, stored.2) = (role, stored.2 + 1);
        }
        self.site(&from.site)
    }

    pub(super) fn incarnations(&self, site: &SiteId) -> Vec<IncarnationRecord> {
        let record = |one: &CanaryIncarnation| IncarnationRecord {
            id: one.id.clone(),
            site: one.site.clone(),
            epoch: one.epoch,
            state: one.state,
            window: WINDOW,
            settled: vec![Seq(one.settled)],
            published: vec![Seq(one.settled)],
        };
        self.incarnations.iter().filter(|one| one.site == *site).map(record).collect()
    }

    /// Opens the next incarnation of a site's node, if the site is active and has none at its epoch. Answers the open
    /// one.
    pub(super) fn open(&mut self, site: &SiteId) -> Option<IncarnationRecord> {
        let own = self.site(site).filter(|own| own.role == Role::Active)?;
        let is_open = |one: &IncarnationRecord| one.epoch == own.epoch && one.state == IncarnationState::Open;
        if let Some(open) = self.incarnations(site).into_iter().find(is_open) {
            return Some(open);
        }
        let node = self.nodes.iter().find(|(_, of, _)| of == site).map(|(node, _, _)| node.clone())?;
        let number = Incarnation(self.incarnations(site).len() as u64 + 1);
        self.changes += 1;
        self.incarnations.push(CanaryIncarnation {
            id: IncarnationId { node, number },
            site: site.clone(),
            epoch: own.epoch,
            state: IncarnationState::Open,
            settled: 0,
        });
        self.incarnations(site).into_iter().find(is_open)
    }

    /// Moves an incarnation on to a state. One that is further stays as it is. Answers its record.
    pub(super) fn close(&mut self, id: &IncarnationId, state: IncarnationState) -> Option<IncarnationRecord> {
        let one = self.incarnations.iter_mut().find(|one| one.id == *id)?;
        let is_later = match state {
            IncarnationState::Open => false,
            IncarnationState::Frozen => one.state == IncarnationState::Open,
            IncarnationState::Poisoned => one.state == IncarnationState::Frozen,
            IncarnationState::Drained => one.state == IncarnationState::Poisoned,
        };
        if is_later {
            one.state = state;
            self.changes += 1;
            if state == IncarnationState::Poisoned {
                self.poisoned = Some(self.changes);
            }
        }
        let site = one.site.clone();
        self.incarnations(&site).into_iter().find(|one| one.id == *id)
    }

    /// Raises the settled mark of an open incarnation. Answers its state.
    pub(super) fn raise_settled(&mut self, id: &IncarnationId, settled: u64) -> Option<IncarnationState> {
        let one = self.incarnations.iter_mut().find(|one| one.id == *id)?;
        if one.state == IncarnationState::Open && settled > one.settled {
            one.settled = settled;
        }
        Some(one.state)
    }

    /// The content of a slot: none if it is empty, and an inner none if it is poisoned.
    pub(super) fn slot(&self, slot: &Slot) -> Option<Option<TxnId>> {
        self.slots.get(slot).map(|(_, content)| content.clone())
    }

    /// Puts a transaction or poison into a slot if it is empty. Answers its content.
    pub(super) fn fill(&mut self, slot: &Slot, content: Option<TxnId>) -> Option<TxnId> {
        self.changes += 1;
        self.slots.entry(slot.clone()).or_insert((self.changes, content)).1.clone()
    }

    /// The committed transactions of a site, in the order of their slots, each with whether it landed after its
    /// incarnation was poisoned.
    pub(super) fn committed(&self, site: &SiteId) -> Vec<(TxnId, bool)> {
        let of_site =
            |slot: &Slot| self.incarnations.iter().any(|one| one.site == *site && one.id == slot.lane.incarnation);
        let committed = self.slots.iter().filter(|(slot, _)| of_site(slot));
        let late = |at: &u64| self.poisoned.is_some_and(|poisoned| *at > poisoned);
        committed.filter_map(|(_, (at, content))| Some((content.clone()?, late(at)))).collect()
    }

    pub(super) fn nodes(&self) -> Vec<NodeRecord> {
        let source = self.sites.first().map(|(site, _, _)| site);
        let lanes: Vec<LaneId> =
            self.incarnations.iter().filter(|one| Some(&one.site) == source).map(|one| one.id.lane(Lane(0))).collect();
        let record = |(node, site, applied): &(NodeId, SiteId, u64)| NodeRecord {
            node: node.clone(),
            site: site.clone(),
            volume: "canary".to_owned(),
            starts: 1,
            beat: self.changes,
            expelled: false,
            low_water: lanes.iter().map(|lane| (lane.clone(), Seq(*applied))).collect(),
            whole: BTreeMap::new(),
            needs: Needs::default(),
            frees_names: true,
            obeys_locks: 0,
            follows_moves: true,
            fences_locks: true,
        };
        self.nodes.iter().map(record).collect()
    }

    /// Notes how many slots of the source the node of a site has applied.
    pub(super) fn applied(&mut self, site: &SiteId, slots: u64) {
        for (_, of, applied) in &mut self.nodes {
            if of == site {
                *applied = slots.max(*applied);
            }
        }
    }
}
