//! Nodes: their records, which carry heartbeats and low-water marks, and their digests.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
pub use lockstep_proto::overview::MOST_DIGEST_BYTES;
use lockstep_proto::{Incarnation, LaneId, NodeId, ProjectName, Seq, SiteId, TxnId};

use super::error::RefDbError;

/// The record of a node: its identity, its heartbeat, and how far it has applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The name of the node.
    pub node: NodeId,
    /// The site of the node.
    pub site: SiteId,
    /// The id of the node's git volume.
    pub volume: String,
    /// The number of starts. A volume that was restored from a snapshot is behind it.
    pub starts: u64,
    /// The heartbeat, a number that the node raises. A node that sees it unchanged for a whole lease may adopt this
    /// node's journal.
    pub beat: u64,
    /// Whether the node was away beyond retention. If so, it must reconcile before it is ready, and nothing is kept for
    /// it.
    pub expelled: bool,
    /// The low-water mark of each lane, of any node: every slot below is durably applied (or skipped) here.
    pub low_water: BTreeMap<LaneId, Seq>,
    /// Per node, whose incarnations are meant: the highest number of which everything is applied here. Every slot of an
    /// incarnation up to this number counts as applied, unless `low_water` has its lane.
    pub whole: BTreeMap<NodeId, Incarnation>,
    /// The journal entries that this node needs although its marks have passed them.
    pub needs: Needs,
    /// Whether the node's program takes part in freeing names. A program of an earlier release does not.
    pub frees_names: bool,
    /// The revision of the list of operator locks that the node obeys: nothing that does not obey it is on its way from
    /// the node any more. 0 if the node has not read the list, and from programs of earlier releases.
    pub obeys_locks: u64,
    /// Whether the node's program follows a refdb that moves. A program of an earlier release does not.
    pub follows_moves: bool,
    /// Whether the node's program changes no lock of operators while the refdb moves. A program of an earlier release
    /// looks at no move, so a lock that it gives meanwhile may be lost.
    pub fences_locks: bool,
}

/// The most entries of each part of [`Needs`], so that a node's record stays below the limit of an item.
pub const MOST_NEEDS: usize = 100;

/// The journal entries that a node needs although its low-water marks have passed them. They are not collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The committed transactions that the node holds as quarantined, and those that wait behind them, each with its
    /// project. At most [`MOST_NEEDS`]: the marks do not pass any more.
    pub held: BTreeMap<TxnId, ProjectName>,
    /// The projects that the node could not bring up to date. At most [`MOST_NEEDS`].
    pub owed: BTreeSet<ProjectName>,
}

impl Needs {
    /// Whether the node lacks something of a project.
    #[must_use]
    pub fn of(&self, project: &ProjectName) -> bool {
        self.owed.contains(project) || self.held.values().any(|held| held == project)
    }
}

/// The end of the volume id of a node that reconciles.
const RECONCILES: &str = " reconciles";

impl NodeRecord {
    /// The volume id in a node's record until the node has reconciled. No volume has such an id, so a node that crashes
    /// in between reconciles again.
    #[must_use]
    pub fn reconciling(volume: &str) -> String {
        format!("{volume}{RECONCILES}")
    }

    /// The slot of a lane below which everything is applied at the node.
    #[must_use]
    pub fn mark(&self, lane: &LaneId) -> Seq {
        let incarnation = &lane.incarnation;
        let is_whole = self.whole.get(&incarnation.node).is_some_and(|whole| incarnation.number <= *whole);
        let unlisted = if is_whole { Seq(u64::MAX) } else { Seq(0) };
        self.low_water.get(lane).copied().unwrap_or(unlisted)
    }

    /// Whether the node has not reconciled yet. If so, its marks do not tell what it holds.
    #[must_use]
    pub fn reconciles(&self) -> bool {
        self.volume.ends_with(RECONCILES)
    }
}

#[cfg(test)]
impl NodeRecord {
    /// The record of a node after its first heartbeat. Tests replace the parts that they need otherwise.
    pub fn first(node: &str, site: &str) -> Self {
        Self {
            node: node.parse().unwrap(),
            site: site.parse().unwrap(),
            volume: "v".into(),
            starts: 1,
            beat: 1,
            expelled: false,
            low_water: BTreeMap::new(),
            whole: BTreeMap::new(),
            needs: Needs::default(),
            frees_names: true,
            obeys_locks: 0,
            follows_moves: true,
            fences_locks: true,
        }
    }
}

/// The answer to a conditional write of a node's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAnswer {
    /// The record was written.
    Written,
    /// The stored record is not the one that the writer expected: another volume, start or heartbeat, or expelled. This
    /// is the stored record.
    Differs(NodeRecord),
    /// There is no record, although the writer has seen one. Nobody removes records, so the refdb is an older one.
    Gone,
}

/// The digest of a node: a small summary of its state, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestRecord {
    /// The node that wrote it.
    pub node: NodeId,
    /// A [`lockstep_proto::overview::NodeDigest`] as JSON, of at most [`MOST_DIGEST_BYTES`].
    pub body: String,
}

/// Reads and changes the records of nodes, and their digests.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// The records of all nodes.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError>;

    /// Writes a node's record, if there is none and `previous` is none, or if the stored record has the volume, starts,
    /// heartbeat and expulsion of `previous`. So a late copy never takes a heartbeat back, and a heartbeat that went
    /// back is the sign of an older refdb.
    async fn put_node(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError>;

    /// The digests of all nodes that have written one, in the order of their names.
    async fn digests(&self) -> Result<Vec<DigestRecord>, RefDbError>;

    /// Writes a node's digest over its last one. A late copy may replace a newer digest. It tells its own time.
    async fn put_digest(&self, record: &DigestRecord) -> Result<(), RefDbError>;
}
