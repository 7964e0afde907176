//! The event log: the ordered, replayable stream of a site's committed transactions. There is one stream per site.
//!
//! Every implementation keeps this contract (`tests/src/contract`):
//! - [`EventLog::append`] answers each record by itself. A record whose answer is lost may be in the stream, once or
//!   more often. Duplicates and reordering are harmless to the readers. A record that the stream will never take is
//!   [`EventLogError::TooLarge`]. A record that it does not take now is [`EventLogError::NotNow`], also when a limit of
//!   its shard was met.
//! - Within a shard, positions grow. A read after a position returns every later record, once, in order.
//! - A shard that was split or merged ends. Its children name it as their parent. Readers read parents first.
//! - The number of open shards is set by [`EventLog::set_shards`], where it can be. Every record is read once, whether
//!   it was appended before or behind it. A stream with another number than the caller expects is left alone.
//! - A position that is no longer kept is [`EventLogError::Trimmed`]. It never moves forward silently. A reader that
//!   begins at [`Position::Start`] is told nothing (`docs/adr/0050`).
//! - A reader that begins at a time returns every kept record that the stream took at that time or later, by the clock
//!   of the stream. Records of the second before may come with them. A time before the oldest record that is kept
//!   begins there. [`EventLog::retention`] tells whether older ones may be gone.
//! - A stream has an identity of its own (`StreamInfo::created`). A stream that was deleted and created again under its
//!   name is another stream.
//!
//! | file | content |
//! |---|---|
//! | `kinesis` | one Kinesis stream per site, read by polling or by enhanced fan-out |
//! | `per_region` | reaches each site's stream in its Region |
//! | `memory` | an event log in memory, for tests and the simulator |
//! | `limits` | the limits of one call |
//! | `position` | the order of sequence numbers |
//! | `deliver` | the next records to append, so that they get into the log in order and once, under any throttling |

pub mod deliver;
pub mod kinesis;
pub mod limits;
pub mod memory;
pub mod per_region;
pub mod position;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::overview::Written;
use lockstep_proto::site_list::StreamPlace;
use lockstep_proto::{NodeId, SiteId};
use serde::{Deserialize, Serialize};

/// A record that is appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The project's name. Records with the same key stay in one shard.
    pub partition_key: String,
    /// An encoded transaction or announcement.
    pub data: Bytes,
}

/// The current state of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The identity of the stream. It differs from that of an earlier stream of the same name.
    pub created: String,
    /// The shards in the order of their ids, including closed ones that are still kept.
    pub shards: Vec<ShardInfo>,
}

/// A shard of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// The id of the shard.
    pub id: String,
    /// The shards that it came from: none, one after a split, two after a merge. A parent that the stream does not list
    /// is no longer kept.
    pub parents: Vec<String>,
}

/// A position in a shard from which to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The oldest record that is kept.
    Start,
    /// After the record with this sequence number.
    After(String),
    /// The end of the shard. There will never be another record.
    End,
}

/// Records that were read from a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Sequence number and data, in order.
    pub records: Vec<(String, Bytes)>,
    /// Whether the shard has ended: it is closed, and every record of it was read.
    pub ended: bool,
    /// Whether there is more to read although this batch may be empty. A service may give empty answers for a while.
    pub behind: bool,
}

/// The nodes that read the streams, as the refdb knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// Number of nodes that read each stream, this node included.
    pub count: usize,
    /// The nodes that left for good: they were expelled, or their sites were removed from the list.
    pub gone: Vec<(SiteId, NodeId)>,
}

/// The ways in which a node can read a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It asks again and again. All readers of a shard share a few reads per second.
    Polling,
    /// The stream sends each record to it, at a rate of its own: enhanced fan-out.
    FanOut,
}

/// The open shards of a stream whose number this node may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenShards {
    /// Number of open shards.
    pub count: u32,
    /// Whether the stream is being changed. Its number of shards cannot be set meanwhile.
    pub is_changing: bool,
}

/// How this node reads a stream, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The way in which it is read now.
    pub way: Way,
    /// Whether the other way was chosen, and was refused.
    pub is_fallback: bool,
    /// Why it is read in this way.
    pub reason: String,
}

/// Why a call on the event log failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// The stream or the service cannot be reached, or throttles calls. Try again later.
    #[error("the event log does not answer ({0}); try again")]
    NotNow(String),
    /// The stream no longer keeps the position.
    #[error("the event log no longer keeps position {0}; this node must reconcile against the refdb")]
    Trimmed(String),
    /// There is no such stream or shard.
    #[error("the event log has no {0}")]
    Absent(String),
    /// The stream will never take this record, however often it is sent.
    #[error("a record has {bytes} bytes, the limit of the stream is {limit}")]
    TooLarge {
        /// The size of the record, its partition key included.
        bytes: usize,
        /// The largest size that the stream takes.
        limit: usize,
    },
    /// A limit of calls or of the account refuses the call, and nothing changed. The text says when a retry helps.
    #[error("the event log refuses the call, and nothing changed ({0})")]
    Limited(String),
    /// A retry does not help until somebody changes something: missing permissions, wrong configuration.
    #[error("the event log refuses the call ({0}); a retry does not help")]
    Broken(String),
}

/// Reads one shard, beginning at one position.
#[async_trait]
pub trait ShardReader: Send {
    /// The next records, at most `limit`. Empty if there are none now. Returns at once, unless the reader waits.
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError>;

    /// Whether `next` waits for a moment when there are no records. If so, its caller need not pause before it reads
    /// again.
    fn waits(&self) -> bool {
        false
    }
}

/// The event logs of all sites. The documentation of this module is their contract.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Creates the site's stream if it does not exist, and waits until it is usable.
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError>;

    /// Says where the stream of a site is, before the first other call about that site. A place that the configuration
    /// names, or that was said before, stays.
    async fn locate(&self, _site: &SiteId, _place: &StreamPlace) {}

    /// The change that an operator should make in the settings of the site's stream, with the command that does it.
    /// None if nothing.
    async fn complaint(&self, _site: &SiteId) -> Result<Option<String>, EventLogError> {
        Ok(None)
    }

    /// The current state of the site's stream.
    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError>;

    /// Appends at most 500 records of at most 5 MiB together to the site's stream. Returns one answer per record, in
    /// their order.
    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError>;

    /// Says which nodes read the streams. An implementation may choose by it how it reads the site's stream. It removes
    /// the consumers of nodes that left for good.
    async fn tell_readers(&self, _site: &SiteId, _readers: &Readers) -> Result<(), EventLogError> {
        Ok(())
    }

    /// How this node reads the site's stream now. None if it has no choice.
    fn reading(&self, _site: &SiteId) -> Option<Reading> {
        None
    }

    /// Opens a reader of one shard. `from` must not be [`Position::End`].
    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError>;

    /// Opens a reader of one shard at a time, in milliseconds since 1970. It must not be in the future.
    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError>;

    /// The open shards of the site's stream. None if their number cannot be set: the stream sets it by itself.
    async fn open_shards(&self, _site: &SiteId) -> Result<Option<OpenShards>, EventLogError> {
        Ok(None)
    }

    /// Changes the number of open shards from `from` to `to`, at most to the double and at least to the half. Records
    /// keep their order per key, as behind a split or a merge. It may go on after the answer. A stream that has another
    /// number of open shards than `from`, or is being changed, is left alone: [`EventLogError::NotNow`]. A call that a
    /// limit refuses is [`EventLogError::Limited`]. The call is never repeated by itself.
    async fn set_shards(&self, site: &SiteId, _from: u32, _to: u32) -> Result<(), EventLogError> {
        Err(EventLogError::Broken(format!("the number of shards of the stream of {site} cannot be set")))
    }

    /// The writes of this node to the site's stream since the node's start. None if they are not counted.
    fn written(&self, _site: &SiteId) -> Option<Written> {
        None
    }

    /// How long the site's stream keeps records. None if it keeps them until an operator removes them.
    async fn retention(&self, _site: &SiteId) -> Result<Option<Duration>, EventLogError> {
        Ok(None)
    }
}
