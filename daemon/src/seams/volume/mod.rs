//! What a node remembers on its own volume, beside the repositories that it describes: the version map, the
//! checkpoints, the low-water marks, what is parked, what is quarantined, what Gerrit has not looked at yet, and stream events
//! on their way.
//!
//! The contract that every implementation keeps (`tests/contract`): [`NodeStore::commit`] is one durable
//! transaction, all of it or nothing after a power cut, and in effect for every read that begins after it
//! returned. The caller has synced the repositories first ([`crate::seams::git::Repositories::sync`]): what the store says
//! is on the disk.

pub mod disk;
mod forms;
mod intents;
mod keys;
pub mod lock;
mod marks;
pub mod memory;

pub use intents::MoveIntent;
pub use marks::{Difference, RefreshMark};

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::refresh::Subject;
use lockstep_proto::{LaneId, Oid, ProjectKey, ProjectName, RefKey, RefName, RefValue, Seq, SiteId, TxnId, Version};
use serde::{Deserialize, Serialize};

use crate::seams::eventlog::Position;

/// What this node knows of a ref: the entry of the version map. A tombstone is an entry with an absent value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// The version that is applied here.
    pub version: Version,
    /// Its value.
    pub value: RefValue,
    /// The transaction that gave it.
    pub txn: TxnId,
}

/// Names a shard for ever: a stream's name alone may come back with other content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardId {
    /// The stream's site.
    pub site: SiteId,
    /// [`crate::seams::eventlog::StreamInfo::created`].
    pub created: String,
    /// The shard's id in the stream.
    pub shard: String,
}

/// A record that waits or was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The encoded transaction as it came.
    pub bytes: Bytes,
    /// The project, as far as it could be read.
    pub project: String,
    /// Why it is held.
    pub reason: String,
    /// What it waits for: transactions, objects, a project. Empty for quarantine.
    pub waits_for: Vec<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// Where stream events lie that are on their way: numbered entries, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mailbox {
    /// Announcements of this node that are not known to be in the event log. Encoded.
    Outbox,
    /// The ids of those that are, the latest ones: a bridge that asks again is not answered with a second announcement.
    Sent,
    /// Announcements of other nodes that Gerrit has not confirmed. Encoded, behind the time of their arrival.
    Inbox,
}

/// Facts about the volume itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// Its id, made when it was first used.
    pub id: String,
    /// How often a sidecar started on it.
    pub starts: u64,
    /// The boot id of the machine at the last start; another one means that the machine was booted since.
    pub boot: String,
    /// Whether the last sidecar ended in an orderly way.
    pub clean: bool,
    /// Whether a reconciliation after an unclean boot is due or under way: the disk may be ahead of what is remembered.
    /// False again only at its end, so that a crash on the way begins it anew.
    #[serde(default)]
    pub reconciles: bool,
    /// Projects whose repositories are being brought back: they lack refs and objects until they are taken out of here.
    #[serde(default, rename = "revives")]
    pub restoring: BTreeSet<ProjectName>,
}

/// One durable step. Everything in it becomes true together; what it forgets, unparks, unquarantines or has refreshed goes
/// before what it adds, and of two entries for one key the later one stays.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// New entries of the version map.
    pub refs: Vec<(ProjectKey, RefKey, RefRecord)>,
    /// Names that are marked as directories in the refdb.
    pub directories: Vec<(ProjectKey, RefName)>,
    /// Checkpoints.
    pub checkpoints: Vec<(ShardId, Position)>,
    /// Checkpoints of shards that are gone.
    pub forget_shards: Vec<ShardId>,
    /// Low-water marks: every slot of the lane below is durably applied here.
    pub low_water: Vec<(LaneId, Seq)>,
    /// Low-water marks of lanes that are collected.
    pub forget_lanes: Vec<LaneId>,
    /// Parked: by the transaction's id.
    pub park: Vec<(String, Held)>,
    /// No longer parked.
    pub unpark: Vec<String>,
    /// Quarantined: by the transaction's id, or by the shard's position where it has none.
    pub quarantine: Vec<(String, Held)>,
    /// Taken out of quarantine by an operator.
    pub unquarantine: Vec<String>,
    /// Projects that are gone: the version map and the directory marks of these incarnations, `@state` excepted.
    pub forget_projects: Vec<ProjectKey>,
    /// What Gerrit has to look at.
    pub refresh: Vec<(Subject, RefreshMark)>,
    /// What Gerrit has looked at.
    pub refreshed: Vec<Subject>,
    /// Entries of the mailboxes.
    pub post: Vec<(Mailbox, u64, Bytes)>,
    /// Entries of the mailboxes that nobody needs any more.
    pub unpost: Vec<(Mailbox, u64)>,
    /// Which announcements of an origin were received, by its text, as JSON.
    pub received: BTreeMap<String, String>,
    /// The same of a block of an origin's numbers, a bit for each; none for one that is in its JSON now.
    pub received_blocks: BTreeMap<(String, u64), Option<Bytes>>,
    /// Origins of which no announcement can come again.
    pub forget_received: Vec<String>,
    /// The volume's facts.
    pub facts: Option<VolumeFacts>,
}

impl Changes {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty()
            && self.directories.is_empty()
            && self.checkpoints.is_empty()
            && self.forget_shards.is_empty()
            && self.low_water.is_empty()
            && self.forget_lanes.is_empty()
            && self.park.is_empty()
            && self.unpark.is_empty()
            && self.quarantine.is_empty()
            && self.unquarantine.is_empty()
            && self.forget_projects.is_empty()
            && self.refresh.is_empty()
            && self.refreshed.is_empty()
            && self.post.is_empty()
            && self.unpost.is_empty()
            && self.received.is_empty()
            && self.received_blocks.is_empty()
            && self.forget_received.is_empty()
            && self.facts.is_none()
    }
}

/// The store failed; what it did is not known, and the node must not go on with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node's own store failed while it tried to {op}: {why}")]
pub struct StoreError {
    /// What was tried.
    pub op: &'static str,
    /// The whole chain of causes.
    pub why: String,
}

/// The node's durable memory. The module's own documentation is the contract.
///
/// Reads are quick (one look-up in a memory-mapped or cached tree) and therefore not asynchronous.
#[async_trait]
pub trait NodeStore: Send + Sync {
    /// The version map's entry for a ref. `@state` is looked up by the project's name alone: its entry is the
    /// same for every incarnation of the key.
    fn reference(&self, project: &ProjectKey, key: &RefKey) -> Result<Option<RefRecord>, StoreError>;

    /// Entries of a project, `@state` excepted, in key order, behind `after`, at most `limit`.
    fn references(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<(RefKey, RefRecord)>, StoreError>;

    /// Every project with an `@state` entry.
    fn projects(&self) -> Result<Vec<(ProjectName, RefRecord)>, StoreError>;

    /// Whether an object is the value of any ref of the project in the version map.
    fn is_value(&self, project: &ProjectKey, oid: &Oid) -> Result<bool, StoreError>;

    /// Whether a name is known to be marked as a directory.
    fn is_directory(&self, project: &ProjectKey, name: &RefName) -> Result<bool, StoreError>;

    /// Every checkpoint.
    fn checkpoints(&self) -> Result<BTreeMap<ShardId, Position>, StoreError>;

    /// Every low-water mark.
    fn low_water(&self) -> Result<BTreeMap<LaneId, Seq>, StoreError>;

    /// Everything that is parked.
    fn parked(&self) -> Result<BTreeMap<String, Held>, StoreError>;

    /// Everything that is quarantined.
    fn quarantined(&self) -> Result<BTreeMap<String, Held>, StoreError>;

    /// How many records are parked, and how many quarantined; costs the same however many bytes they are.
    fn held_counts(&self) -> Result<(u64, u64), StoreError>;

    /// Everything that Gerrit has to look at.
    fn refresh_marks(&self) -> Result<Vec<(Subject, RefreshMark)>, StoreError>;

    /// Entries of a mailbox behind `after`, in the order of their numbers, at most `limit`.
    fn mail(&self, mailbox: Mailbox, after: Option<u64>, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// One entry of a mailbox; none when it is not there, or not durable yet.
    fn letter(&self, mailbox: Mailbox, number: u64) -> Result<Option<Bytes>, StoreError>;

    /// Which announcements of each origin were received.
    fn received(&self) -> Result<BTreeMap<String, String>, StoreError>;

    /// The same of blocks of each origin's numbers.
    fn received_blocks(&self) -> Result<BTreeMap<(String, u64), Bytes>, StoreError>;

    /// The volume's facts; empty ones for a new volume.
    fn facts(&self) -> Result<VolumeFacts, StoreError>;

    /// Notes moves that are about to be made, and answers the note's number. Not durable: it survives a crash of this
    /// process, not of the machine.
    fn record_intents(&self, moves: &[MoveIntent]) -> Result<u64, StoreError>;

    /// What was intents, in its order, and not settled; what was settled may be among it still.
    fn intents(&self) -> Result<Vec<MoveIntent>, StoreError>;

    /// The announcements up to this number are in the version map.
    fn end_intents(&self, until: u64) -> Result<(), StoreError>;

    /// Makes one step durable.
    async fn commit(&self, changes: Changes) -> Result<(), StoreError>;
}
