//! The refdb: the global ref database, the only authority on what a ref is.
//!
//! The contract that every implementation keeps (`tests/contract`):
//! - [`RefDb::commit`] is one atomic, conditional write of all refs and of the journal slot. Either all of it is
//!   true everywhere afterwards, or nothing of it.
//! - Every read is strong: it sees each write that was answered before it began.
//! - An error is never "absent" and never "refused". [`RefDbError::Unknown`] means that the write may have
//!   happened, or may yet happen; [`RefDbError::NotNow`] means that this very call did nothing.
//! - Versions never go back; a deleted ref keeps its item as a tombstone.
//! - A transaction of more commands than one write takes is committed under locks ([`staged`]): each ref gets a lock that
//!   names it ([`RefDb::lock`]), the slot is its commit point ([`RefDb::seal`]), and the refs move afterwards
//!   ([`RefDb::flip`]). A locked ref is moved and marked by nobody else.
//! - A slot, once occupied (by a transaction or by poison), never changes until it is collected, and poison is
//!   never collected: a late copy of a poisoned transaction can never land.

pub mod dynamo;
pub mod memory;
mod rules;
pub mod staged;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{
    Command, IncarnationId, LaneId, NodeId, ProjectKey, ProjectName, RefKey, RefName, RefValue, Seq, SiteId, Slot,
    Transaction, TxnId, Version,
};
use serde::{Deserialize, Serialize};

/// A ref's item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefItem {
    /// The ref or pseudo-ref.
    pub key: RefKey,
    /// Its version; [`Version::NONE`] when only a directory mark or a lock made the item.
    pub version: Version,
    /// Its value; absent for a tombstone.
    pub value: RefValue,
    /// The transaction that gave this version; none for [`Version::NONE`].
    pub txn: Option<TxnId>,
    /// Whether the name is marked as a directory: no ref of this very name can be created.
    pub directory: bool,
    /// The transaction that has locked it, if one has: when that is committed, the ref is what it says.
    pub lock: Option<TxnId>,
}

/// A transaction on its way to the refdb. Its bytes are made once.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// What it says.
    pub transaction: Transaction,
    /// What is written into the slot: `transaction.encode()`.
    pub encoded: Bytes,
    /// Names that must not be live and become directories: the proper prefixes of created refs that this node
    /// has not seen marked yet. Sorted, no duplicates, none of them a command's own ref.
    pub directories: Vec<RefName>,
}

/// A part of a transaction that is committed under locks: at most as many items as one write takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The transaction.
    pub txn: TxnId,
    /// Its project.
    pub project: ProjectKey,
    /// Some of its commands.
    pub commands: Vec<Command>,
    /// Some of its directories, as in [`CommitRequest`].
    pub directories: Vec<RefName>,
}

/// The answer to one copy of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// It is true everywhere.
    Committed,
    /// This copy did nothing, because of every obstacle listed (never empty).
    Refused(Vec<Obstacle>),
    /// This copy did nothing, because another write to one of the items was under way: try again.
    Conflict,
}

/// What stood against a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The slot is occupied: by this very transaction (an earlier copy landed), by another one, or by poison.
    Slot(SlotState),
    /// The ref has another version, value or transaction than the command's predecessor. Final: versions never
    /// go back.
    Stale(RefItem),
    /// The ref has a lock.
    Locked(RefItem),
    /// The ref's own name is marked as a directory: live names lie, or lay, below it.
    IsDirectory(RefName),
    /// A proper prefix of a created name is a live ref.
    PrefixIsLive(RefName),
}

/// What is in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Nothing (yet).
    Empty,
    /// Poison: nothing ever will be.
    Poisoned,
    /// A committed transaction: its id and its encoded bytes.
    Committed(TxnId, Bytes),
}

/// What a site may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Commits and applies.
    Active,
    /// Applies only.
    Standby,
    /// Ends what it has begun.
    Draining,
    /// Does not commit.
    Fenced,
}

/// A site's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRecord {
    /// The site.
    pub site: SiteId,
    /// What it may do.
    pub role: Role,
    /// Raised by every change of role.
    pub epoch: u64,
}

/// The life of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncarnationState {
    /// Its owner commits.
    Open,
    /// Its settled marks are immutable: its window is being poisoned and published by whoever froze it.
    Frozen,
    /// Every slot of it is settled and published.
    Drained,
}

/// An incarnation's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationRecord {
    /// Node and number.
    pub id: IncarnationId,
    /// The node's site.
    pub site: SiteId,
    /// The site's epoch at its birth.
    pub epoch: u64,
    /// Open, frozen or drained.
    pub state: IncarnationState,
    /// How many slots above its settled mark each lane may use.
    pub window: u64,
    /// Per lane: every slot below is committed or poisoned. Its length is the number of lanes.
    pub settled: Vec<Seq>,
    /// Per lane: every slot below is in the event log.
    pub published: Vec<Seq>,
}

/// The answer to a birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenAnswer {
    /// The incarnation is open.
    Opened,
    /// The site's role or epoch is another one; here is what it is.
    NotAllowed(SiteRecord),
    /// There is an incarnation of this number already.
    Exists,
}

/// The answer to a write of marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkAnswer {
    /// Written.
    Written,
    /// The incarnation is frozen or drained: its owner must stop.
    NotOpen(IncarnationState),
}

/// A node's record: who it is, that it lives, and how far it has applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// The node.
    pub node: NodeId,
    /// Its site.
    pub site: SiteId,
    /// The id of its git volume.
    pub volume: String,
    /// Raised at each start; a volume restored from a snapshot is behind it.
    pub starts: u64,
    /// Raised by each heartbeat. Who watches it unchanged for a whole lease may adopt the node's journal.
    pub beat: u64,
    /// Away beyond retention: it must reconcile before it is ready, and nothing is kept for it.
    pub expelled: bool,
    /// Per lane of any node: every slot below is durably applied (or skipped) here.
    pub low_water: BTreeMap<LaneId, Seq>,
}

/// Ends the name of the volume of a node that reconciles.
const RECONCILES: &str = " reconciles";

impl NodeRecord {
    /// What a node's record says of its volume until the node has reconciled: no volume has such an id, so a crash on the
    /// way begins it anew.
    #[must_use]
    pub fn reconciling(volume: &str) -> String {
        format!("{volume}{RECONCILES}")
    }

    /// Whether the node has not reconciled yet: its marks say nothing of what it holds.
    #[must_use]
    pub fn reconciles(&self) -> bool {
        self.volume.ends_with(RECONCILES)
    }
}

/// The Gerrit of this installation: what its servers have in common at every site. The first one that is accepted says it,
/// for ever.
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
    /// Written.
    Written,
    /// The record is not what the writer thought: another volume, another start, or expelled. Here it is.
    Differs(NodeRecord),
}

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefDbError {
    /// The call may have taken effect, or may yet: a timeout, a lost connection, a server error.
    #[error("the refdb did not answer ({0}); what it did is not known yet")]
    Unknown(String),
    /// The call had no effect: throttled, or the connection was refused. Try again later.
    #[error("the refdb does not take it now ({0}); nothing was changed, try again")]
    NotNow(String),
    /// The call had no effect and will not have one: permissions, configuration, a malformed item.
    #[error("the refdb refuses the call ({0}); a retry does not help")]
    Broken(String),
}

impl RefDbError {
    /// Whether the call may have taken effect.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// The global ref database. The module's own documentation is the contract.
#[async_trait]
pub trait RefDb: Send + Sync {
    /// Makes what the store needs if it is absent, and checks that it can keep the contract. Called before the first
    /// other call; may be called again.
    async fn prepare(&self) -> Result<(), RefDbError> {
        Ok(())
    }

    /// The commit point: one round trip, whatever the number of refs.
    ///
    /// Succeeds when for every command the item has version `command.version - 1`, value `command.old`,
    /// transaction `command.predecessor` and no lock; when a created ref (`old` absent, `new` not) is not marked
    /// as a directory; when no name in `directories` is live; and when the slot is empty. Then every command's
    /// item gets its new value, version and transaction, every directory its mark, and the slot the bytes.
    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError>;

    /// Whether this transaction is committed in several steps. Then an attempt that did not succeed may have left locks, and its
    /// slot must be settled: it cannot be given to another one as if it had not been used.
    fn commits_in_steps(&self, _transaction: &Transaction) -> bool {
        false
    }

    /// Locks the refs of a part for its transaction, and marks its directories, all or nothing. What stands against it is
    /// what would stand against a commit, but for the slot and for a lock of this very transaction.
    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError>;

    /// The commit point of a transaction under locks: writes it into its slot if that is empty, and answers what is in it
    /// then: never [`SlotState::Empty`].
    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError>;

    /// Moves the refs of a part that carry the lock of its transaction, which is committed, and takes the locks away. When
    /// it is answered, none of them carries it.
    async fn flip(&self, part: &Part) -> Result<(), RefDbError>;

    /// Takes the locks of a transaction, which is not committed and never will be, from these refs.
    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError>;

    /// Reads items, strongly, in the order of `keys`; `None` where there is no item.
    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError>;

    /// Reads the items of a project in key order, tombstones included, strongly: at most `limit`, behind
    /// `after`. Fewer than `limit` means that there are no more. The `@state` item is not among them: it belongs
    /// to the name, not to the incarnation ([`RefDb::projects`], [`RefDb::read`]).
    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError>;

    /// The `@state` items of all projects behind `after`, in the order of their names, at most `limit`.
    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError>;

    /// Reads a slot, strongly.
    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError>;

    /// Poisons a slot if it is empty, and answers what is in it then: never [`SlotState::Empty`].
    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError>;

    /// Removes committed slots that every node is past. Poison stays.
    async fn collect(&self, slots: &[Slot]) -> Result<(), RefDbError>;

    /// Creates the site's record with epoch 1, if there is none, and answers what it is.
    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError>;

    /// Every site's record.
    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError>;

    /// Changes a site's role and raises its epoch, if the epoch is still `from.epoch`; answers what it is then.
    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError>;

    /// Creates an incarnation's record, if the site's role is [`Role::Active`] and its epoch `record.epoch`.
    async fn open_incarnation(&self, record: &IncarnationRecord) -> Result<OpenAnswer, RefDbError>;

    /// Every incarnation of a site that is not forgotten, drained ones included, strongly, in the order of their ids.
    async fn incarnations(&self, site: &SiteId) -> Result<Vec<IncarnationRecord>, RefDbError>;

    /// The highest number that an incarnation of this node ever had; zero for none.
    async fn last_incarnation(&self, site: &SiteId, node: &NodeId) -> Result<u64, RefDbError>;

    /// Writes both marks of an open incarnation's lanes. Marks never go back: a lower one is ignored.
    async fn mark(
        &self,
        site: &SiteId,
        id: &IncarnationId,
        settled: &[Seq],
        published: &[Seq],
    ) -> Result<MarkAnswer, RefDbError>;

    /// Freezes an incarnation if it is open, and answers its record, whose settled marks are final.
    async fn freeze(&self, site: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError>;

    /// Sets a frozen incarnation to drained, with its final published marks (every slot below them is settled
    /// and in the event log).
    async fn drained(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError>;

    /// Every node's record.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError>;

    /// Writes a node's record if there is none and `previous` is none, or if the stored one has the volume,
    /// starts and expulsion of `previous`.
    async fn put_node(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError>;

    /// Removes drained incarnations whose slots are collected, by id.
    async fn forget_incarnations(&self, site: &SiteId, ids: &[IncarnationId]) -> Result<(), RefDbError>;

    /// What the servers of the installation's Gerrit have in common; none when none was accepted yet.
    async fn gerrit(&self) -> Result<Option<GerritRecord>, RefDbError>;

    /// Writes that record, if there is none, and answers what it is then.
    async fn enroll_gerrit(&self, record: &GerritRecord) -> Result<GerritRecord, RefDbError>;

    /// Every claimed `gerrit.instanceId`, with the node that has it.
    async fn instances(&self) -> Result<BTreeMap<String, NodeId>, RefDbError>;

    /// Gives an instance id (1 to 128 bytes) to a node, if nobody has it, or the node itself, or `from`; answers who has it
    /// then.
    async fn claim_instance(&self, instance: &str, node: &NodeId, from: Option<&NodeId>) -> Result<NodeId, RefDbError>;

    /// Takes an instance id from a node, if the node has it.
    async fn release_instance(&self, instance: &str, node: &NodeId) -> Result<(), RefDbError>;
}
