//! The refdb: the global ref database, the only authority on the value of a ref.
//!
//! Every implementation keeps this contract (`tests/contract`):
//! - [`RefDb::commit`] is one atomic, conditional write of all refs and of the journal slot. Afterwards either all of
//!   it is true everywhere, or nothing of it.
//! - Every read is strong: it sees each write that was answered before it began.
//! - An error never means "absent" or "refused". [`RefDbError::Unknown`] means that the write may have happened, or may
//!   still happen. [`RefDbError::NotNow`] means that this very call did nothing.
//! - Versions never go back. A deleted ref keeps its item as a tombstone.
//! - A transaction of more commands than one write takes is committed under locks ([`staged`]). Each ref gets a lock
//!   that names the transaction ([`RefDb::lock`]). The slot is the commit point ([`RefDb::seal`]). The refs move
//!   afterwards ([`RefDb::flip`]). No other transaction moves or marks a locked ref.
//! - Once a slot is occupied (by a transaction or by poison), it never changes until it is collected. Poison is never
//!   collected, so a late copy of a poisoned transaction can never land.

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

/// The item of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefItem {
    /// The ref or pseudo-ref.
    pub key: RefKey,
    /// The version. [`Version::NONE`] if only a directory mark or a lock created the item.
    pub version: Version,
    /// The value. Absent for a tombstone.
    pub value: RefValue,
    /// The transaction that gave this version. None for [`Version::NONE`].
    pub txn: Option<TxnId>,
    /// Whether the name is marked as a directory. If so, no ref of this very name can be created.
    pub directory: bool,
    /// The transaction that has locked the ref, if there is one. If it is committed, it decides the value of the ref.
    pub lock: Option<TxnId>,
}

/// A transaction on its way to the refdb. Its bytes are encoded once.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// The transaction to commit.
    pub transaction: Transaction,
    /// The bytes for the slot: `transaction.encode()`.
    pub encoded: Bytes,
    /// Names that must not be live and become directories: the proper prefixes of created refs that this node has not
    /// seen marked yet. Sorted, no duplicates, none of them a command's own ref.
    pub directories: Vec<RefName>,
}

/// A part of a transaction that is committed under locks. It has at most as many items as one write takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The id of the transaction.
    pub txn: TxnId,
    /// The project of the transaction.
    pub project: ProjectKey,
    /// Some commands of the transaction.
    pub commands: Vec<Command>,
    /// Some directories of the transaction, as in [`CommitRequest`].
    pub directories: Vec<RefName>,
}

/// The answer to one copy of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// The write took effect. It is true everywhere.
    Committed,
    /// This copy did nothing, because of every obstacle in the list, which is never empty.
    Refused(Vec<Obstacle>),
    /// This copy did nothing, because another write to one of the items was in progress. Try again.
    Conflict,
}

/// An obstacle that a commit met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The slot is occupied: by this very transaction (an earlier copy landed), by another one, or by poison.
    Slot(SlotState),
    /// The ref does not have the version, value and transaction that the command builds on. This is final: versions
    /// never go back.
    Stale(RefItem),
    /// The item is locked by another transaction.
    Locked(RefItem),
    /// The ref's own name is marked as a directory: refs exist, or existed, below it.
    IsDirectory(RefName),
    /// A proper prefix of a created name is a live ref.
    PrefixIsLive(RefName),
}

/// The content of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// The slot is empty.
    Empty,
    /// The slot is poisoned. It can never hold a transaction.
    Poisoned,
    /// The slot holds a committed transaction: its id and its encoded bytes.
    Committed(TxnId, Bytes),
}

/// The role of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The site commits and applies.
    Active,
    /// The site applies only.
    Standby,
    /// The site ends the work that it has begun.
    Draining,
    /// The site does not commit.
    Fenced,
}

/// The record of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRecord {
    /// The name of the site.
    pub site: SiteId,
    /// The role of the site.
    pub role: Role,
    /// The epoch of the site. Every change of role raises it.
    pub epoch: u64,
}

/// The state of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncarnationState {
    /// The owner of the incarnation commits.
    Open,
    /// The settled marks are immutable. The node that froze the incarnation poisons and publishes its window.
    Frozen,
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
    /// The incarnation is frozen or drained: its owner must stop.
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

    /// Whether the node has not reconciled yet. If so, its marks do not tell what it holds.
    #[must_use]
    pub fn reconciles(&self) -> bool {
        self.volume.ends_with(RECONCILES)
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
    /// The stored record is not the one that the writer expected: another volume, another start, or expelled. This is
    /// the stored record.
    Differs(NodeRecord),
}

/// Why a call on the refdb failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefDbError {
    /// The call may have taken effect, or may still do so: a timeout, a lost connection, a server error.
    #[error("the refdb did not answer ({0}); the outcome is not known yet")]
    Unknown(String),
    /// The call had no effect: it was throttled, or the connection was refused. Try again later.
    #[error("the refdb cannot take the call now ({0}); nothing was changed, try again")]
    NotNow(String),
    /// The call had no effect, and a retry does not help: permissions, configuration, a malformed item.
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

/// The global ref database. The documentation of this module is its contract.
#[async_trait]
pub trait RefDb: Send + Sync {
    /// Creates the tables of the store if they are missing, and checks that the store can keep the contract. Called
    /// before the first other call. May be called again.
    async fn prepare(&self) -> Result<(), RefDbError> {
        Ok(())
    }

    /// The commit point: one round trip, for any number of refs.
    ///
    /// It succeeds if all of this holds: for every command the item has version `command.version - 1`, value
    /// `command.old`, transaction `command.predecessor` and no lock; no created ref (`old` absent, `new` not) is marked
    /// as a directory; no name in `directories` is live; and the slot is empty. Then every command's item gets its new
    /// value, version and transaction, every directory its mark, and the slot the bytes.
    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError>;

    /// Whether this transaction is committed in several steps. If so, an attempt that did not succeed may have left
    /// locks. Its slot must then be committed or poisoned; it is not free for another transaction.
    fn commits_in_steps(&self, _transaction: &Transaction) -> bool {
        false
    }

    /// Locks the refs of a part for its transaction, and marks its directories, all or nothing. The obstacles are those
    /// of a commit, except for the slot and for a lock of this very transaction.
    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError>;

    /// The commit point of a transaction under locks. Writes it into its slot if the slot is empty, and returns the
    /// content of the slot, which is never [`SlotState::Empty`].
    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError>;

    /// Moves the refs of a part that carry the lock of its transaction, and removes the locks. The transaction must be
    /// committed. Once this is answered, none of the refs carries the lock.
    async fn flip(&self, part: &Part) -> Result<(), RefDbError>;

    /// Removes the locks of a transaction from these refs. The transaction must be one that can never be committed.
    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError>;

    /// Reads items with strong consistency, in the order of `keys`. `None` where there is no item.
    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError>;

    /// Reads the items of a project with strong consistency, in key order, tombstones included: at most `limit` items,
    /// after `after`. Fewer than `limit` items mean that there are no more. The `@state` item is not among them: it
    /// belongs to the name, not to the incarnation ([`RefDb::projects`], [`RefDb::read`]).
    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError>;

    /// The `@state` items of all projects after `after`, in the order of their names, at most `limit`.
    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError>;

    /// Reads a slot with strong consistency.
    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError>;

    /// Poisons a slot if it is empty, and returns the content of the slot, which is never [`SlotState::Empty`].
    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError>;

    /// Removes committed slots that lie below every node's low-water mark. Poison stays.
    async fn collect(&self, slots: &[Slot]) -> Result<(), RefDbError>;

    /// Creates the site's record with epoch 1 if there is none, and returns the stored record.
    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError>;

    /// The records of all sites.
    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError>;

    /// Changes a site's role and raises its epoch, if the epoch is still `from.epoch`. Returns the stored record.
    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError>;

    /// Creates an incarnation's record, if the site's role is [`Role::Active`] and its epoch is `record.epoch`.
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

    /// Freezes an incarnation if it is open, and returns its record, whose settled marks are final.
    async fn freeze(&self, site: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError>;

    /// Sets a frozen incarnation to drained, with its final published marks (every slot below them is settled
    /// and in the event log).
    async fn drained(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError>;

    /// The records of all nodes.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError>;

    /// Writes a node's record, if there is none and `previous` is none, or if the stored record has the volume, starts
    /// and expulsion of `previous`.
    async fn put_node(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError>;

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
