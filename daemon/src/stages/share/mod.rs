//! The share stage: within a site one node reads each shard, and hands its records to the other nodes of the site.
//!
//! The reads of a shard are few: five per second for all readers together. With this stage, any number of nodes of a
//! site costs a stream as much as one (`docs/adr/0063`). A lease per shard says which node reads it. The lease is an
//! economy and never a condition of progress: a node without a living reader reads the stream from its own position,
//! and two readers at the same time do no harm. Each node keeps its own checkpoints, reads parents before children, and
//! verifies the signatures of all records itself.
//!
//! | file | idea |
//! |---|---|
//! | `buffer` | the last records of a shard, without a gap: a pure structure |
//! | `decide` | which leases to renew, to take and to give up: a pure function |
//! | `keeper` | keeps the leases, and learns the siblings |
//! | `shards` | the shards that this node reads, and the answers to siblings |
//! | `reader` | reads one shard from a sibling, or else from the stream |
//! | `stream` | reads one shard from the stream, and tells a position that was idle from one that was missed |
//! | `ahead` | reads a shard for the siblings ahead of this node's own work |

mod ahead;
mod buffer;
mod decide;
mod keeper;
mod reader;
mod shards;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::overview::Written;
use lockstep_proto::sharing::{RecordsAnswer, RecordsRequest, SharedShard, SharingStatus};
use lockstep_proto::site_list::StreamPlace;
use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::time::Instant;

use buffer::Bounds;
use keeper::Leases;
use shards::{Moment, Shards};

use crate::base::clock::{Clock, Entropy};
use crate::base::faults::injected_bug::InjectedBugs;
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::eventlog::{
    EventLog, EventLogError, OpenShards, Position, Readers, Reading, Record, ShardReader, StreamInfo,
};
use crate::seams::peers::Peers;
use crate::seams::refdb::Documents;
use crate::seams::volume::ShardId;
use crate::stages::ports::SharedRecords;
use crate::state::context::NodeContext;

/// The intervals and bounds of the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareSettings {
    /// The interval at which a reader reads a shard. A node that gets nothing from a sibling for twice as long reads
    /// the stream.
    pub interval: Duration,
    /// The interval between two turns of the leases, at most.
    pub beat: Duration,
    /// The most records in the buffers of all shards together.
    pub records: usize,
    /// The most bytes in the buffers of all shards together.
    pub bytes: usize,
}

impl ShareSettings {
    /// The production defaults for readers that read once in an interval.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        // A lease is renewed only if its shard was read since the last turn.
        let beat = Duration::from_secs(10).max(interval.saturating_mul(4));
        Self { interval, beat, records: 200_000, bytes: 64 << 20 }
    }
}

/// The share stage of one node.
pub struct Share {
    site: SiteId,
    node: NodeId,
    /// The streams, as this node reads them without siblings.
    eventlog: Arc<dyn EventLog>,
    /// Has the document of the leases.
    documents: Arc<dyn Documents>,
    peers: Arc<dyn Peers>,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// Owns the tasks that read ahead.
    tasks: Tasks,
    /// None: this node shares nothing.
    settings: Option<ShareSettings>,
    /// The identity of each stream, as it was described last.
    created: Mutex<BTreeMap<SiteId, String>>,
    shards: Shards,
    leases: Mutex<Leases>,
    bugs: InjectedBugs,
}

/// The source of the records of a shard.
enum Source {
    /// The node reads the stream for its siblings, too.
    Held,
    /// The node reads the stream, for this reason.
    Stream(String),
    /// A sibling reads the shard, and is reached as this peer.
    Sibling { node: NodeId, peer: String },
}

/// The event log whose shards are read through the stage.
struct SharedEventLog {
    share: Arc<Share>,
    settings: ShareSettings,
}

impl Share {
    /// Creates the stage. Without settings it shares nothing.
    #[must_use]
    pub fn new(context: &NodeContext, settings: Option<ShareSettings>) -> Arc<Self> {
        let NodeContext { site, node, eventlog, refdb, peers, observer, clock, entropy, tasks, bugs, .. } =
            context.clone();
        let bounds = settings.map_or(Bounds { records: 0, bytes: 0 }, |settings| Bounds {
            records: settings.records,
            bytes: settings.bytes,
        });
        Arc::new(Self {
            shards: Shards::new(site.clone(), bounds),
            site,
            node,
            eventlog,
            documents: refdb.documents,
            peers,
            observer,
            clock,
            entropy,
            tasks,
            settings,
            created: Mutex::default(),
            leases: Mutex::default(),
            bugs,
        })
    }

    /// The event log for the readers of streams. Its shards are read through siblings, if the node shares its reads.
    #[must_use]
    pub fn eventlog(self: &Arc<Self>) -> Arc<dyn EventLog> {
        match self.settings {
            Some(settings) => Arc::new(SharedEventLog { share: Arc::clone(self), settings }),
            None => Arc::clone(&self.eventlog),
        }
    }

    /// Whether the node shares its reads, if it has siblings.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.settings.is_some()
    }

    /// The number of shards that this node reads for its siblings.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.leases.lock().held.len() as u64
    }

    /// The sharing of reads at this node, for people.
    #[must_use]
    pub fn status(&self) -> SharingStatus {
        if !self.is_on() {
            let reason = "eventlog.sharing is \"off\": this node reads all streams itself".to_owned();
            return SharingStatus { shares: false, reason, shards: Vec::new() };
        }
        let leases = self.leases.lock();
        if leases.siblings.is_empty() {
            let reason = "no peer of [peers] or [siblings] has answered as a node of this site: this node reads all \
                          streams itself";
            return SharingStatus { shares: false, reason: reason.to_owned(), shards: Vec::new() };
        }
        let siblings: Vec<&str> = leases.siblings.keys().map(NodeId::as_str).collect();
        let reason = format!("one node reads each shard for this node and {}", siblings.join(", "));
        let shard = |(id, origin, reason): (ShardId, _, String)| {
            let reader = leases.readers.get(&self.shards.lease(&id)).map(|reader| reader.node.clone());
            SharedShard { stream: id.site, shard: id.shard, origin, reader, reason }
        };
        let shards = self.shards.shown().into_iter().map(shard).collect();
        SharingStatus { shares: true, reason, shards }
    }

    fn moment(&self) -> Moment {
        Moment { at: Instant::now(), ms: self.clock.now_ms() }
    }

    /// The source from which this node takes the records of a shard.
    fn source(&self, id: &ShardId) -> Source {
        let leases = self.leases.lock();
        if leases.siblings.is_empty() {
            return Source::Stream("no sibling is known".to_owned());
        }
        let Some(reader) = leases.readers.get(&self.shards.lease(id)) else {
            return Source::Stream("no node has the lease of the shard yet".to_owned());
        };
        let node = reader.node.clone();
        if node == self.node {
            return Source::Held;
        }
        if reader.is_still {
            return Source::Stream(format!("{node} has the lease of the shard, and makes no progress"));
        }
        match leases.siblings.get(&node) {
            Some(peer) => Source::Sibling { node, peer: peer.clone() },
            None => Source::Stream(format!("{node} has the lease of the shard, and is none of [peers] or [siblings]")),
        }
    }
}

#[async_trait]
impl SharedRecords for Share {
    async fn records(&self, request: RecordsRequest) -> Result<RecordsAnswer, ApiError> {
        self.shards.answer(&request).await.map_err(ApiError::unavailable)
    }
}

#[async_trait]
impl EventLog for SharedEventLog {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        self.share.eventlog.ensure(site).await
    }

    async fn locate(&self, site: &SiteId, place: &StreamPlace) {
        self.share.eventlog.locate(site, place).await;
    }

    async fn complaint(&self, site: &SiteId) -> Result<Option<String>, EventLogError> {
        self.share.eventlog.complaint(site).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        let info = self.share.eventlog.describe(site).await?;
        self.share.created.lock().insert(site.clone(), info.created.clone());
        Ok(info)
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        self.share.eventlog.append(site, records).await
    }

    async fn tell_readers(&self, site: &SiteId, readers: &Readers) -> Result<(), EventLogError> {
        self.share.eventlog.tell_readers(site, readers).await
    }

    fn reading(&self, site: &SiteId) -> Option<Reading> {
        self.share.eventlog.reading(site)
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        let created = self.share.created.lock().get(site).cloned();
        // A stream that was never described has no identity that a sibling could know.
        let Some(created) = created else { return self.share.eventlog.open(site, shard, from).await };
        let id = ShardId { site: site.clone(), created, shard: shard.to_owned() };
        Ok(Box::new(reader::open(Arc::clone(&self.share), self.settings, id, from)?))
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.share.eventlog.open_since(site, shard, ms).await
    }

    async fn open_shards(&self, site: &SiteId) -> Result<Option<OpenShards>, EventLogError> {
        self.share.eventlog.open_shards(site).await
    }

    async fn set_shards(&self, site: &SiteId, from: u32, to: u32) -> Result<(), EventLogError> {
        self.share.eventlog.set_shards(site, from, to).await
    }

    fn written(&self, site: &SiteId) -> Option<Written> {
        self.share.eventlog.written(site)
    }

    async fn retention(&self, site: &SiteId) -> Result<Option<Duration>, EventLogError> {
        self.share.eventlog.retention(site).await
    }
}

#[cfg(test)]
mod tests;
