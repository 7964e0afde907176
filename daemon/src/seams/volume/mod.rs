//! The node's durable store on its own volume, beside the repositories that it describes. It holds the version map,
//! checkpoints, low-water marks, parked and quarantined transactions, refresh marks for Gerrit, and stream events in
//! transit.
//!
//! Every implementation keeps this contract (`tests/src/contract`): [`NodeStore::commit`] is one durable transaction.
//! After a power cut it is there completely or not at all, and it is visible to every read that begins after it
//! returned. The caller has synced the repositories first ([`crate::seams::git::Repositories::sync`]), so the state
//! that the store describes is on the disk.
//!
//! | file | content |
//! |---|---|
//! | `blobs_under_way` | the file of blobs whose transactions are not committed yet, without any fsync |
//! | `bound` | the refdb that the volume belongs to |
//! | `debt` | a project that this node cannot bring up to date |
//! | `disk` | the store in redb, on the volume |
//! | `encoding`, `keys` | values and keys on the disk, as bytes |
//! | `held` | a parked or quarantined record, with its kind |
//! | `intents` | the file of move intents, without any fsync |
//! | `line_file` | an append-only file of lines, without any fsync |
//! | `lock` | at most one sidecar per volume |
//! | `memory` | the store in memory, for tests and the simulator |
//! | `parked_pages` | reads parked records page by page |
//! | `refresh_marks` | one mark per subject that Gerrit must refresh |
//! | `registered` | how far this volume's node has come in the refdb |
//! | `requests` | committed requests, for callers that repeat them |
//! | `set_digest` | the digest of a project's entries in the version map |

mod blobs_under_way;
mod bound;
mod debt;
pub mod disk;
mod encoding;
mod held;
mod intents;
mod keys;
mod line_file;
pub mod lock;
pub mod memory;
mod parked_pages;
mod refresh_marks;
mod registered;
mod requests;
mod set_digest;

pub use blobs_under_way::BlobsUnderWay;
pub use bound::BoundTo;
pub use debt::{Debt, MOST_REFS};
pub use held::{DIFFERS, Held, HeldKind, NEVER_COMMITTED, not_signed};
pub use intents::MoveIntent;
pub use parked_pages::parked_pages;
pub use refresh_marks::{Difference, RefreshMark};
pub use registered::Registered;
pub use requests::{CommittedRequest, RequestKey, command_digest};
pub use set_digest::{DigestAt, SetDigest, build_all};

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::refresh::Subject;
use lockstep_proto::{LaneId, Oid, ProjectKey, ProjectName, RefKey, RefValue, Seq, SiteId, TxnId, Version};
use serde::{Deserialize, Serialize};

use crate::seams::eventlog::Position;

/// The version map's entry for one ref, as applied on this node. A tombstone is an entry with an absent value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// The version that is applied here.
    pub version: Version,
    /// The ref's value at that version.
    pub value: RefValue,
    /// The transaction that set the value.
    pub txn: TxnId,
}

/// A shard's unique name. A stream's name alone is not unique, because a stream may be created again with other
/// content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShardId {
    /// The site of the stream.
    pub site: SiteId,
    /// The creation time of the stream: [`crate::seams::eventlog::StreamInfo::created`].
    pub created: String,
    /// The shard's id in the stream.
    pub shard: String,
}

/// A store of stream events in transit, as numbered entries in the order of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mailbox {
    /// Encoded announcements of this node that are not known to be in the event log.
    Outbox,
    /// The ids of the latest announcements that are in the event log, so that a bridge that repeats an event causes no
    /// second announcement.
    Sent,
    /// Announcements of other nodes that Gerrit has not confirmed, each as its arrival time followed by the encoded
    /// announcement.
    Inbox,
}

/// Facts about the volume itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// The volume's id, created when it was first used.
    pub id: String,
    /// How often a sidecar has started on the volume.
    pub starts: u64,
    /// The machine's boot id at the last start. A different one means that the machine was booted since.
    pub boot: String,
    /// Whether the last sidecar ended in an orderly way.
    pub clean: bool,
    /// Whether the node must reconcile after an unclean boot, because the disk may be ahead of the store. It becomes
    /// false only when the reconciliation ends, so a crash during it starts it again.
    #[serde(default)]
    pub reconciles: bool,
    /// Projects whose repositories are being restored. They lack refs and objects until they are removed from this set.
    #[serde(default, rename = "revives")]
    pub restoring: BTreeSet<ProjectName>,
    /// Projects to which `init` writes, and of whose repositories a resync has taken garbled files away. They may lack
    /// objects and refs until they are removed from this set. Their refs on the disk may be writes of `init`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub mending: BTreeSet<ProjectName>,
    /// Projects whose repositories are from the time of another refdb, until the node has reconciled.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub of_other_refdb: BTreeSet<ProjectName>,
    /// The epoch at which the node's site was switched off, of the last such time from which this volume came back.
    /// Zero if there was none.
    #[serde(default, skip_serializing_if = "is_never")]
    pub came_back: u64,
}

/// A volume that never came back has the bytes of earlier releases.
fn is_never(epoch: &u64) -> bool {
    *epoch == 0
}

/// The move of a volume to another refdb. Everything that speaks of the one before is removed in the same step: the
/// version map with its digests, move intents, low-water marks, debts, committed requests, results of verifications,
/// and the numbers that were registered there.
/// The move intents are gone even if the step fails, so the facts must say before it that the node reconciles.
/// Checkpoints, refresh marks and events stay. Parked and quarantined records become records that were never committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebind {
    /// The projects whose `@state` stays: the new refdb has them too.
    pub keep: BTreeSet<ProjectName>,
}

/// One durable step; all its entries take effect together. A rebind comes first. Removals (forget, unpark,
/// unquarantine, refreshed and so on) are applied before additions. Of two entries for one key the later one wins.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// New entries of the version map.
    pub refs: Vec<(ProjectKey, RefKey, RefRecord)>,
    /// Checkpoints that replace the stored ones of their shards.
    pub checkpoints: Vec<(ShardId, Position)>,
    /// Shards that no longer exist and whose checkpoints are removed.
    pub forget_shards: Vec<ShardId>,
    /// Low-water marks: every slot of the lane below the position is durably applied here.
    pub low_water: Vec<(LaneId, Seq)>,
    /// Collected lanes whose low-water marks are removed.
    pub forget_lanes: Vec<LaneId>,
    /// Newly parked records, by transaction id.
    pub park: Vec<(String, Held)>,
    /// Transaction ids of records that are no longer parked.
    pub unpark: Vec<String>,
    /// Newly quarantined records, by transaction id, or by shard and position when they have none.
    pub quarantine: Vec<(String, Held)>,
    /// Records that an operator took out of quarantine.
    pub unquarantine: Vec<String>,
    /// Projects that this node cannot bring up to date, with their debts.
    pub owe: Vec<(ProjectName, Debt)>,
    /// Projects that are up to date again.
    pub repaid: Vec<ProjectName>,
    /// Incarnations of projects that no longer exist: their version map entries, except `@state`, are removed.
    pub forget_projects: Vec<ProjectKey>,
    /// New refresh marks: subjects that Gerrit must refresh.
    pub refresh: Vec<(Subject, RefreshMark)>,
    /// Subjects that Gerrit has refreshed, whose marks are removed.
    pub refreshed: Vec<Subject>,
    /// New entries of the mailboxes.
    pub post: Vec<(Mailbox, u64, Bytes)>,
    /// Mailbox entries that are no longer needed.
    pub unpost: Vec<(Mailbox, u64)>,
    /// Which announcements of each origin were received, as JSON, by the origin's text.
    pub received: BTreeMap<String, String>,
    /// Which announcements of a block of an origin's numbers were received, one bit per number; `None` for a block that
    /// the origin's JSON covers now.
    pub received_blocks: BTreeMap<(String, u64), Option<Bytes>>,
    /// Origins that can send no announcement any more.
    pub forget_received: Vec<String>,
    /// The volume moves to another refdb.
    pub rebind: Option<Rebind>,
    /// The refdb that the volume belongs to, with the sites as the node knew them last.
    pub bound: Option<BoundTo>,
    /// The new facts of the volume.
    pub facts: Option<VolumeFacts>,
    /// How far this volume's node has come in the refdb. A number that is lower than the stored one changes nothing.
    pub registered: Option<Registered>,
    /// Committed requests to remember, by their keys.
    pub requests: Vec<(RequestKey, CommittedRequest)>,
    /// Committed requests whose time is over.
    pub forget_requests: Vec<RequestKey>,
    /// Whether committed requests may be missing from now on.
    pub requests_gap: Option<bool>,
    /// The results of the last verifications, as JSON.
    pub verified: Option<String>,
}

impl Changes {
    /// Returns whether the step changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty()
            && self.checkpoints.is_empty()
            && self.forget_shards.is_empty()
            && self.low_water.is_empty()
            && self.forget_lanes.is_empty()
            && self.park.is_empty()
            && self.unpark.is_empty()
            && self.quarantine.is_empty()
            && self.unquarantine.is_empty()
            && self.owe.is_empty()
            && self.repaid.is_empty()
            && self.forget_projects.is_empty()
            && self.refresh.is_empty()
            && self.refreshed.is_empty()
            && self.post.is_empty()
            && self.unpost.is_empty()
            && self.received.is_empty()
            && self.received_blocks.is_empty()
            && self.forget_received.is_empty()
            && self.rebind.is_none()
            && self.bound.is_none()
            && self.facts.is_none()
            && self.registered.is_none()
            && self.requests.is_empty()
            && self.forget_requests.is_empty()
            && self.requests_gap.is_none()
            && self.verified.is_none()
    }
}

/// The store failed. It is unknown whether the operation took effect, so the node must not continue with this store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node's own store failed while it tried to {op}: {why}")]
pub struct StoreError {
    /// The attempted operation, as words for people.
    pub op: &'static str,
    /// The complete chain of causes.
    pub why: String,
}

/// The node's durable store. The contract is in the module's documentation.
///
/// Reads are quick (one look-up in a memory-mapped or cached tree) and therefore not asynchronous.
#[async_trait]
pub trait NodeStore: Send + Sync {
    /// Returns the version map's entry for a ref. `@state` is looked up by the project's name alone, and its entry is
    /// the same for every incarnation in the key.
    fn reference(&self, project: &ProjectKey, key: &RefKey) -> Result<Option<RefRecord>, StoreError>;

    /// Returns up to `limit` entries of a project after `after`, in key order, without `@state`.
    fn references(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<(RefKey, RefRecord)>, StoreError>;

    /// Returns the digest of a project's entries (without `@state`), and the entries of some keys, all of one moment.
    /// The store keeps the digest in the step that writes the entries.
    fn digest(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<DigestAt, StoreError>;

    /// Builds the digests of entries that an earlier release has written, up to `limit` entries per call. Returns
    /// whether all of them are built. Steps may be committed between two calls.
    async fn build_digests(&self, limit: usize) -> Result<bool, StoreError>;

    /// Returns every project with an `@state` entry.
    fn projects(&self) -> Result<Vec<(ProjectName, RefRecord)>, StoreError>;

    /// Returns whether an object is the value of any ref of the project in the version map.
    fn is_value(&self, project: &ProjectKey, oid: &Oid) -> Result<bool, StoreError>;

    /// Returns the checkpoint of every shard.
    fn checkpoints(&self) -> Result<BTreeMap<ShardId, Position>, StoreError>;

    /// Returns the low-water mark of every lane.
    fn low_water(&self) -> Result<BTreeMap<LaneId, Seq>, StoreError>;

    /// Returns up to `limit` parked records after the one with the id `after`, in the order of their ids. All of them
    /// together may not fit into memory.
    fn parked(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, Held)>, StoreError>;

    /// Returns every quarantined record by its id.
    fn quarantined(&self) -> Result<BTreeMap<String, Held>, StoreError>;

    /// Returns the debt of every project that has one.
    fn debts(&self) -> Result<BTreeMap<ProjectName, Debt>, StoreError>;

    /// Returns the numbers of parked and of quarantined records. The cost does not depend on the size of the records.
    fn held_counts(&self) -> Result<(u64, u64), StoreError>;

    /// Returns every subject that Gerrit must refresh, with its mark.
    fn refresh_marks(&self) -> Result<Vec<(Subject, RefreshMark)>, StoreError>;

    /// Returns up to `limit` entries of a mailbox after `after`, in the order of their numbers.
    fn mail(&self, mailbox: Mailbox, after: Option<u64>, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// Returns one entry of a mailbox; `None` when it does not exist or is not durable yet.
    fn letter(&self, mailbox: Mailbox, number: u64) -> Result<Option<Bytes>, StoreError>;

    /// Returns which announcements of each origin were received.
    fn received(&self) -> Result<BTreeMap<String, String>, StoreError>;

    /// Returns which announcements of each block of an origin's numbers were received.
    fn received_blocks(&self) -> Result<BTreeMap<(String, u64), Bytes>, StoreError>;

    /// Returns the volume's facts; default ones for a new volume.
    fn facts(&self) -> Result<VolumeFacts, StoreError>;

    /// Returns the refdb that the volume belongs to, with the sites as the node knew them last.
    fn bound(&self) -> Result<BoundTo, StoreError>;

    /// Returns how far this volume's node has come in the refdb; zeros for a new volume.
    fn registered(&self) -> Result<Registered, StoreError>;

    /// Returns the results of the last verifications, as JSON. `None` if nothing was verified yet.
    fn verified(&self) -> Result<Option<String>, StoreError>;

    /// Returns whether committed requests may be missing. A volume that moves to another refdb keeps the answer.
    fn requests_gap(&self) -> Result<bool, StoreError>;

    /// Returns a committed request.
    fn request(&self, key: &RequestKey) -> Result<Option<CommittedRequest>, StoreError>;

    /// Returns up to `limit` committed requests after `after`, in the order of their keys.
    fn requests(
        &self,
        after: Option<&RequestKey>,
        limit: usize,
    ) -> Result<Vec<(RequestKey, CommittedRequest)>, StoreError>;

    /// Records move intents, and returns the number of the record. The record survives a crash of this process, but not
    /// of the machine.
    fn record_intents(&self, moves: &[MoveIntent]) -> Result<u64, StoreError>;

    /// Returns the recorded move intents in their order. Ended ones may be among them.
    fn intents(&self) -> Result<Vec<MoveIntent>, StoreError>;

    /// Ends the move intents up to this number. Their moves must be durable in the version map.
    fn end_intents(&self, until: u64) -> Result<(), StoreError>;

    /// Notes a blob that is about to be put, or to be sent with this transaction. The note survives a crash of
    /// this process, but not of the machine.
    fn note_blob(&self, key: &str, txn: Option<&TxnId>) -> Result<(), StoreError>;

    /// Ends the note of a blob: it is deleted, or its transaction is committed. An unknown key is not an error.
    fn end_blob(&self, key: &str) -> Result<(), StoreError>;

    /// Returns the noted blobs.
    fn blobs_under_way(&self) -> Result<BlobsUnderWay, StoreError>;

    /// Forgets all noted blobs: the notes may be of another moment than the rest of the volume.
    fn forget_blobs(&self) -> Result<(), StoreError>;

    /// Writes a copy of the store at one moment into a new file. The store goes on meanwhile. Blocks.
    fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        Err(StoreError { op: "copy the store", why: format!("{}: this store is in memory", path.display()) })
    }

    /// Makes one step durable.
    async fn commit(&self, changes: Changes) -> Result<(), StoreError>;
}
