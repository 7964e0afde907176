//! The registry: sites, nodes and incarnations, and the Gerrit of the installation.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
pub use lockstep_proto::overview::MOST_DIGEST_BYTES;
use lockstep_proto::{Incarnation, IncarnationId, LaneId, NodeId, ProjectName, Seq, SiteId, TxnId};
use serde::{Deserialize, Serialize};

use super::error::RefDbError;
use super::rebuilt::{RebuildAnswer, Rebuilt};
use super::site_record::{Role, SiteAnswer, SiteRecord};

/// The state of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncarnationState {
    /// The owner of the incarnation commits.
    Open,
    /// The settled marks are immutable. The node that froze the incarnation poisons its window.
    Frozen,
    /// Nothing can be committed in the incarnation any more: every slot up to [`IncarnationRecord::ends`] is committed
    /// or poisoned. Some committed slots may not be published yet.
    Poisoned,
    /// Every slot of the incarnation is settled and published.
    Drained,
}

/// The record of an incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationRecord {
    /// The id: node and number.
    pub id: IncarnationId,
    /// The site of the node.
    pub site: SiteId,
    /// The site's epoch when the incarnation was opened.
    pub epoch: u64,
    /// The state: open, frozen or drained.
    pub state: IncarnationState,
    /// The number of slots above its settled mark that each lane may use.
    pub window: u64,
    /// The settled mark of each lane: every slot below is committed or poisoned. The length is the number of lanes.
    pub settled: Vec<Seq>,
    /// The published mark of each lane: every slot below is in the event log.
    pub published: Vec<Seq>,
}

impl IncarnationRecord {
    /// A new incarnation: open, with nothing settled in any of its lanes.
    #[must_use]
    pub fn open(id: IncarnationId, site: SiteId, epoch: u64, window: u64, lanes: usize) -> Self {
        let (settled, published) = (vec![Seq(0); lanes], vec![Seq(0); lanes]);
        Self { id, site, epoch, state: IncarnationState::Open, window, settled, published }
    }

    /// The end of each lane's window: the owner cannot use a slot from there on. They are final once it is frozen.
    #[must_use]
    pub fn ends(&self) -> Vec<Seq> {
        self.settled.iter().map(|settled| Seq(settled.0 + self.window)).collect()
    }

    /// Whether the owner may still commit, or a copy of a commit that it sent may still land.
    #[must_use]
    pub fn may_commit(&self) -> bool {
        matches!(self.state, IncarnationState::Open | IncarnationState::Frozen)
    }
}

/// The answer to the opening of an incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenAnswer {
    /// The incarnation is open.
    Opened,
    /// The site's role or epoch does not allow it. This is the record of the site.
    NotAllowed(SiteRecord),
    /// The node has, or had, an incarnation with this number or a higher one.
    Exists,
}

/// The answer to a write of marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkAnswer {
    /// The marks were written.
    Written,
    /// The incarnation is frozen, poisoned or drained: its owner must stop.
    NotOpen(IncarnationState),
}

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
        }
    }
}

/// The identity of this installation's Gerrit: the values that its servers have in common at every site. The first
/// Gerrit that is accepted sets them, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GerritRecord {
    /// `gerrit.serverId`, 1 to 128 bytes.
    pub server_id: String,
    /// The project from which all others inherit.
    pub all_projects: ProjectName,
    /// The project of accounts and groups.
    pub all_users: ProjectName,
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

/// The declaration of a node that this refdb is older than the node itself, because it was restored from a backup. It
/// stops the commits of every node. It disappears with the refdb that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WentBackRecord {
    /// The node that declares it.
    pub by: NodeId,
    /// The fact that the node knows and the refdb does not, for people.
    pub why: String,
    /// The node's wall clock at that time, in milliseconds since 1970.
    pub since_ms: u64,
}

/// A document of the whole installation: one record that each write replaces under the condition that nobody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Document {
    /// The failover that is in progress, or else the last one: a [`lockstep_proto::failover::Failover`].
    Failover,
    /// Past failovers and changes of role: a [`lockstep_proto::history::History`].
    History,
    /// The sites with which the list of sites began: a JSON list of names. It is written once.
    FirstSites,
    /// Which refdb this is: a [`lockstep_proto::rebuild::RefdbIdentity`].
    Identity,
    /// The drill that is in progress, or was the last one, with the state of its canary.
    Drill,
    /// Past drills: a [`lockstep_proto::drill::Drills`].
    DrillHistory,
    /// Past silent drills: a [`lockstep_proto::silent::SilentDrills`].
    SilentDrills,
    /// The public keys of the sites: a [`lockstep_proto::keys::SiteKeys`].
    Keys,
}

impl Document {
    /// The name in errors.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Failover => "the record of the failover",
            Self::History | Self::DrillHistory | Self::SilentDrills => "the history",
            Self::FirstSites => "the list of sites",
            Self::Identity => "the identity of the refdb",
            Self::Drill => "the drill",
            Self::Keys => "the keys of the sites",
        }
    }
}

/// The stored state of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRecord {
    /// The number of writes of this document, from 1.
    pub revision: u64,
    /// The document as JSON.
    pub body: String,
}

/// The digest of a node: a small summary of its state, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestRecord {
    /// The node that wrote it.
    pub node: NodeId,
    /// A [`lockstep_proto::overview::NodeDigest`] as JSON, of at most [`MOST_DIGEST_BYTES`].
    pub body: String,
}

/// Reads and changes the records of sites, nodes and incarnations by conditional writes.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Checks that the store can keep the contract. Creates its tables if they are missing and `may_create` is true;
    /// otherwise missing tables are an error. Called before the first other call. May be called again.
    async fn prepare(&self, may_create: bool) -> Result<(), RefDbError> {
        let _ = may_create;
        Ok(())
    }

    /// Writes items of a refdb that is being rebuilt, all or none, if the document of the identity has this revision.
    /// At most [`REBUILT_ITEMS`](super::REBUILT_ITEMS) items, none of them twice. An item that is there with a higher
    /// version or epoch stays as it is. So a repetition, a late copy, and a second run that knows less do no harm.
    async fn rebuild(&self, items: &[Rebuilt], revision: u64) -> Result<RebuildAnswer, RefDbError>;

    /// Creates the site's record with epoch 1 if there is none, and returns the stored record.
    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError>;

    /// The records of all sites.
    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError>;

    /// Changes a site's role and raises its epoch, if the epoch is still `from.epoch`. Returns the stored record.
    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError>;

    /// Writes a site's record as an operator asks: the whole of `to`, whose epoch is one above that of `from`. One
    /// write has all conditions: the stored record still has the epoch of `from` (none: there is no record), and the
    /// failover document still has the revision `failover` (0: there is none). So no failover begins unseen beside it.
    async fn change_site(
        &self,
        from: Option<&SiteRecord>,
        to: &SiteRecord,
        failover: u64,
    ) -> Result<SiteAnswer, RefDbError>;

    /// Writes the failover document as [`Registry::put_document`] does, if each of these sites still has its epoch, in
    /// one write. Returns the stored document. None if a site has another epoch: then nothing was changed.
    async fn begin_failover(
        &self,
        record: &DocumentRecord,
        sites: &[SiteRecord],
    ) -> Result<Option<DocumentRecord>, RefDbError>;

    /// Keeps every program that does not free names from opening an incarnation at the site, for ever. Role and epoch
    /// stay.
    async fn shut_out_earlier(&self, site: &SiteId) -> Result<(), RefDbError>;

    /// Creates an incarnation's record, if the site's role is [`Role::Active`], its epoch is `record.epoch`, and the
    /// site is neither removed nor switched off.
    async fn open_incarnation(&self, record: &IncarnationRecord) -> Result<OpenAnswer, RefDbError>;

    /// Every incarnation of a site that is not forgotten, drained ones included, in the order of their ids. The read is
    /// strongly consistent.
    async fn incarnations(&self, site: &SiteId) -> Result<Vec<IncarnationRecord>, RefDbError>;

    /// The highest number that an incarnation of this node ever had. Zero if there was none.
    async fn last_incarnation(&self, site: &SiteId, node: &NodeId) -> Result<u64, RefDbError>;

    /// Writes both marks of an open incarnation's lanes. Marks never go back: a lower mark is ignored.
    async fn mark(
        &self,
        site: &SiteId,
        id: &IncarnationId,
        settled: &[Seq],
        published: &[Seq],
    ) -> Result<MarkAnswer, RefDbError>;

    /// Writes the record of an open incarnation as it is. Unlike [`Registry::mark`], which sends nothing if no mark is
    /// raised, this is always a write: it shows that the store takes writes of this node.
    async fn touch(&self, site: &SiteId, id: &IncarnationId) -> Result<MarkAnswer, RefDbError>;

    /// Freezes an incarnation if it is open, and returns its record, whose settled marks are final.
    async fn freeze(&self, site: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError>;

    /// Sets a frozen incarnation to poisoned: every slot up to its [`IncarnationRecord::ends`] is occupied. A poisoned
    /// or drained incarnation stays as it is.
    async fn poisoned(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError>;

    /// Raises the published marks of a frozen or poisoned incarnation, on behalf of its owner. Marks never go back. A
    /// drained incarnation stays as it is.
    async fn raise_published(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError>;

    /// Sets a frozen or poisoned incarnation to drained, with its final published marks (every slot below them is
    /// settled and in the event log).
    async fn drained(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError>;

    /// The records of all nodes.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError>;

    /// Writes a node's record, if there is none and `previous` is none, or if the stored record has the volume, starts,
    /// heartbeat and expulsion of `previous`. So a late copy never takes a heartbeat back, and a heartbeat that went
    /// back is the sign of an older refdb.
    async fn put_node(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError>;

    /// The declaration that this refdb is older than a node. None if no node has declared it.
    async fn went_back(&self) -> Result<Option<WentBackRecord>, RefDbError>;

    /// Declares that this refdb is older than a node, if no node has declared it, and returns the stored declaration.
    async fn declare_went_back(&self, record: &WentBackRecord) -> Result<WentBackRecord, RefDbError>;

    /// A document. None if it was never written.
    async fn document(&self, which: Document) -> Result<Option<DocumentRecord>, RefDbError>;

    /// Writes a document, if its revision is the one after the stored revision (1 if there is none). Returns the stored
    /// record.
    async fn put_document(&self, which: Document, record: &DocumentRecord) -> Result<DocumentRecord, RefDbError>;

    /// The digests of all nodes that have written one, in the order of their names.
    async fn digests(&self) -> Result<Vec<DigestRecord>, RefDbError>;

    /// Writes a node's digest over its last one. A late copy may replace a newer digest. It tells its own time.
    async fn put_digest(&self, record: &DigestRecord) -> Result<(), RefDbError>;

    /// Removes the records of drained incarnations whose slots are collected.
    async fn forget_incarnations(&self, site: &SiteId, ids: &[IncarnationId]) -> Result<(), RefDbError>;

    /// The identity of the installation's Gerrit. None if no Gerrit was accepted yet.
    async fn gerrit(&self) -> Result<Option<GerritRecord>, RefDbError>;

    /// Writes the identity if there is none, and returns the stored one.
    async fn enroll_gerrit(&self, record: &GerritRecord) -> Result<GerritRecord, RefDbError>;

    /// Every claimed `gerrit.instanceId`, with the node that has it.
    async fn instances(&self) -> Result<BTreeMap<String, NodeId>, RefDbError>;

    /// Gives an instance id (1 to 128 bytes) to a node, if no node has it, or if the node itself or `from` has it.
    /// Returns the node that has it then.
    async fn claim_instance(&self, instance: &str, node: &NodeId, from: Option<&NodeId>) -> Result<NodeId, RefDbError>;

    /// Takes an instance id from a node, if the node has it.
    async fn release_instance(&self, instance: &str, node: &NodeId) -> Result<(), RefDbError>;
}
