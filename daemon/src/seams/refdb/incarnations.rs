//! Incarnations: their records, which decide whether their owners may commit.

use async_trait::async_trait;
use lockstep_proto::{IncarnationId, NodeId, Seq, SiteId};
use serde::{Deserialize, Serialize};

use super::error::RefDbError;
use super::sites::SiteRecord;

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

/// The record of an incarnation. A backup has it as it is: a new field needs a default for the files of before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Reads and changes the records of incarnations.
#[async_trait]
pub trait Incarnations: Send + Sync {
    /// Creates an incarnation's record, if the site's role is [`Role::Active`](super::Role::Active), its epoch is
    /// `record.epoch`, and the site is neither removed nor switched off. While the document of the identity says that
    /// the refdb moves, or has moved, the call does nothing, and answers [`RefDbError::NotNow`].
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

    /// Writes the record of an open incarnation as it is. Unlike [`Incarnations::mark`], which sends nothing if no mark
    /// is raised, this is always a write: it shows that the store takes writes of this node.
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

    /// Removes the records of drained incarnations whose slots are collected.
    async fn forget_incarnations(&self, site: &SiteId, ids: &[IncarnationId]) -> Result<(), RefDbError>;
}
