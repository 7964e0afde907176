//! The event log in Kinesis: one stream per site, named `<prefix>-<site>`.
//!
//! Kinesis differs from the contract in these points:
//! - For a position that it no longer keeps, it may silently serve records from its horizon. `reader` therefore opens a
//!   shard *at* the last record that was read, and insists on seeing that record again.
//! - It answers each record of a request by itself, and may also reject the request as a whole. `append` maps both.
//! - The identity of a stream is its ARN with its creation time, which AWS gives in whole seconds.
//!
//! | file | content |
//! |---|---|
//! | `append`, `reader` | appends records; reads one shard by polling |
//! | `fan_out` | reads one shard by enhanced fan-out, or by polling while that is refused |
//! | `streams` | creates streams and lists their shards |
//! | `shards` | reads and sets the number of open shards |
//! | `provision`, `compared` | the properties that a stream should have, for `lockstep aws` |
//! | `client`, `errors` | timeouts without retries; the meaning of errors |

mod append;
mod client;
mod compared;
mod errors;
mod fan_out;
mod provision;
mod reader;
mod shards;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use lockstep_proto::SiteId;
use parking_lot::Mutex;

pub use self::client::{ClientSettings, client, client_by};
pub use self::compared::StreamWishes;
use self::fan_out::StreamWays;
pub use self::fan_out::{FanOutSettings, ReadingMode, consumer_name};
pub use self::provision::ProvidedStream;
use super::{EventLog, EventLogError, OpenShards, Position, Readers, Reading, Record, ShardReader, StreamInfo};

/// How streams are created and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisSettings {
    /// The number of shards of a stream that this node creates, at least 1. An existing stream keeps its own.
    pub shards: u16,
    /// How long the streams should keep records. It is compared with their setting, which this node never changes.
    pub retention: Duration,
    /// How long `ensure` waits until a stream is usable.
    pub ready_within: Duration,
    /// How long `ensure` pauses between two checks of a stream.
    pub ready_poll: Duration,
    /// How the streams are read.
    pub reading: ReadingMode,
    /// The number of readers for which the reads of a shard are enough: it allows five per second.
    pub polled_by: usize,
    /// The name of this node's consumer (see [`consumer_name`]). No other node may have it.
    pub consumer: String,
    /// The times of enhanced fan-out.
    pub fan_out: FanOutSettings,
}

impl Default for KinesisSettings {
    fn default() -> Self {
        Self {
            shards: 2,
            retention: Duration::ZERO,
            ready_within: Duration::from_secs(120),
            ready_poll: Duration::from_millis(500),
            reading: ReadingMode::Polling,
            polled_by: 5,
            consumer: "lockstep".to_owned(),
            fan_out: FanOutSettings::default(),
        }
    }
}

/// The event logs of the sites, in Kinesis.
#[derive(Clone, Debug)]
pub struct KinesisEventLog {
    client: Client,
    prefix: String,
    settings: KinesisSettings,
    /// How each stream is read.
    ways: Arc<Mutex<BTreeMap<SiteId, Arc<StreamWays>>>>,
}

impl KinesisEventLog {
    /// Streams named `<stream_prefix>-<site>`, reached through `client` (see [`client()`]).
    #[must_use]
    pub fn new(client: Client, stream_prefix: impl Into<String>, settings: KinesisSettings) -> Self {
        Self { client, prefix: stream_prefix.into(), settings, ways: Arc::default() }
    }

    /// How the site's stream is read.
    fn ways(&self, site: &SiteId) -> Arc<StreamWays> {
        let mut all = self.ways.lock();
        let ways = all.entry(site.clone()).or_insert_with(|| {
            Arc::new(StreamWays::new(self.client.clone(), self.stream(site), self.settings.clone()))
        });
        Arc::clone(ways)
    }

    /// The name of the site's stream.
    #[must_use]
    pub fn stream(&self, site: &SiteId) -> String {
        stream_name(&self.prefix, site)
    }
}

/// The name of a site's stream.
#[must_use]
pub fn stream_name(prefix: &str, site: &SiteId) -> String {
    format!("{prefix}-{site}")
}

#[async_trait]
impl EventLog for KinesisEventLog {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        streams::ensure(&self.client, &self.stream(site), &self.settings).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        streams::describe(&self.client, &self.stream(site)).await
    }

    async fn complaint(&self, site: &SiteId) -> Result<Option<String>, EventLogError> {
        streams::complaint(&self.client, &self.stream(site), self.settings.retention).await
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        append::append(&self.client, &self.stream(site), records).await
    }

    async fn tell_readers(&self, site: &SiteId, readers: &Readers) -> Result<(), EventLogError> {
        let ways = self.ways(site);
        let gone = ways.names(&self.prefix, readers);
        ways.tell(readers.count, gone).await
    }

    fn reading(&self, site: &SiteId) -> Option<Reading> {
        (self.settings.reading != ReadingMode::Polling).then(|| self.ways(site).reading())
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        if self.settings.reading != ReadingMode::Polling {
            return Ok(Box::new(fan_out::open(self.ways(site), shard.to_owned(), from).await?));
        }
        let reader = reader::open(self.client.clone(), self.stream(site), shard.to_owned(), from).await?;
        Ok(Box::new(reader))
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        let reader = reader::open_since(self.client.clone(), self.stream(site), shard.to_owned(), ms).await?;
        Ok(Box::new(reader))
    }

    async fn open_shards(&self, site: &SiteId) -> Result<Option<OpenShards>, EventLogError> {
        shards::open(&self.client, &self.stream(site)).await
    }

    async fn set_shards(&self, site: &SiteId, from: u32, to: u32) -> Result<(), EventLogError> {
        shards::set(&self.client, &self.stream(site), from, to).await
    }

    async fn retention(&self, site: &SiteId) -> Result<Option<Duration>, EventLogError> {
        streams::retention(&self.client, &self.stream(site)).await.map(Some)
    }
}
