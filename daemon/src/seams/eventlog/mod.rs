//! The event log: the ordered, replayable stream of a site's committed transactions. One stream a site.
//!
//! The contract that every implementation keeps (`tests/contract`):
//! - [`EventLog::append`] answers each record by itself; a record whose answer is lost may be there, once or
//!   more often. Duplicates and reordering are harmless to the readers.
//! - Within a shard, positions grow; reading behind a position gives every later record, once, in order.
//! - A shard that was split or merged ends; its children name it as their parent. Readers read parents first.
//! - A position that is no longer kept is [`EventLogError::Trimmed`], never silently moved forward.
//! - A stream has an identity of its own (`StreamInfo::created`): one that was deleted and made again under its
//!   name is another stream.

pub mod deliver;
pub mod kinesis;
pub mod limits;
pub mod memory;
pub mod routed;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::SiteId;
use serde::{Deserialize, Serialize};

/// A record to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Records of one key stay in one shard: the project's name.
    pub partition_key: String,
    /// An encoded transaction.
    pub data: Bytes,
}

/// A stream as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Tells this stream from an earlier one of the same name.
    pub created: String,
    /// Its shards, closed ones that are still kept included, in the order of their ids.
    pub shards: Vec<ShardInfo>,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its id.
    pub id: String,
    /// The shards that it came from (none, one after a split, two after a merge). A parent that is not listed
    /// in the stream is no longer kept.
    pub parents: Vec<String>,
}

/// Where to read from in a shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The oldest record that is kept.
    Start,
    /// Behind the record with this sequence number.
    After(String),
    /// The shard's end was reached: there is nothing more, ever.
    End,
}

/// Records that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Sequence number and data, in order.
    pub records: Vec<(String, Bytes)>,
    /// Whether the shard has ended: it is closed, and every record was read.
    pub ended: bool,
    /// Whether there is more to read even if no record was answered: a service may answer nothing for a while.
    pub behind: bool,
}

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// The stream or the service cannot be reached, or throttles. Try again later.
    #[error("the event log does not answer ({0}); try again")]
    NotNow(String),
    /// The position lies before what the stream still keeps.
    #[error("the event log no longer keeps position {0}; this node must reconcile against the refdb")]
    Trimmed(String),
    /// There is no such stream or shard.
    #[error("the event log has no {0}")]
    Absent(String),
    /// Permissions, configuration, a record that is too large.
    #[error("the event log refuses the call ({0}); a retry does not help")]
    Broken(String),
}

/// Reads one shard from one position on.
#[async_trait]
pub trait ShardReader: Send {
    /// The next records, at most `limit`; none when there are none now. Answers at once.
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError>;
}

/// The event logs of all sites. The module's own documentation is the contract.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Creates the site's stream if there is none, and waits until it can be used.
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError>;

    /// The site's stream as it is now.
    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError>;

    /// Appends records to the site's stream; one answer a record, in their order. At most 500 records and 5 MiB.
    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError>;

    /// A reader of one shard; `from` must not be [`Position::End`].
    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError>;
}
