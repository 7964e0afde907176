//! Documents of the whole installation, and the declaration that the refdb went back.

use async_trait::async_trait;
use lockstep_proto::NodeId;
use serde::{Deserialize, Serialize};

use super::error::RefDbError;

/// A document of the whole installation: one record that each write replaces under the condition that nobody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// The locks of operators and bridges: a [`lockstep_proto::locks::Locks`]. Commits under a lock look at its text.
    Locks,
    /// The nodes that read shards for their sites: a [`lockstep_proto::sharing::ReaderLeases`].
    Readers,
    /// The capacity of the streams of all sites: a [`lockstep_proto::capacity::Capacities`].
    Capacity,
}

impl Document {
    /// All documents, the identity of the refdb first.
    pub const ALL: [Self; 11] = [
        Self::Identity,
        Self::FirstSites,
        Self::Keys,
        Self::Locks,
        Self::Failover,
        Self::History,
        Self::Drill,
        Self::DrillHistory,
        Self::SilentDrills,
        Self::Readers,
        Self::Capacity,
    ];

    /// The name in errors.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Failover => "the record of the failover",
            Self::History | Self::DrillHistory | Self::SilentDrills => "the history",
            Self::FirstSites => "the list of sites",
            Self::Identity => "the identity of the refdb",
            Self::Drill => "the drill",
            Self::Keys => "the keys of the sites",
            Self::Locks => "the list of locks",
            Self::Readers => "the leases of the readers",
            Self::Capacity => "the capacity of streams",
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

/// Reads and replaces documents, and declares that the refdb went back.
#[async_trait]
pub trait Documents: Send + Sync {
    /// A document. None if it was never written.
    async fn document(&self, which: Document) -> Result<Option<DocumentRecord>, RefDbError>;

    /// Writes a document, if its revision is the one after the stored revision (1 if there is none). Returns the stored
    /// record.
    async fn put_document(&self, which: Document, record: &DocumentRecord) -> Result<DocumentRecord, RefDbError>;

    /// The declaration that this refdb is older than a node. None if no node has declared it.
    async fn went_back(&self) -> Result<Option<WentBackRecord>, RefDbError>;

    /// Declares that this refdb is older than a node, if no node has declared it, and returns the stored declaration.
    async fn declare_went_back(&self, record: &WentBackRecord) -> Result<WentBackRecord, RefDbError>;
}
