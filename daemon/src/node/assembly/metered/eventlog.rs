//! A decorator of the event log that counts records and bytes: for the metrics, and per stream for the autoscaler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::SiteId;
use lockstep_proto::overview::Written;
use lockstep_proto::site_list::StreamPlace;
use parking_lot::Mutex;

use crate::seams::eventlog::{
    Batch, EventLog, EventLogError, OpenShards, Position, Readers, Reading, Record, ShardReader, StreamInfo,
};
use crate::telemetry::metrics::EventLogMetrics;

/// An event log whose records are counted.
pub struct MeteredEventLog {
    inner: Arc<dyn EventLog>,
    metrics: EventLogMetrics,
    /// The writes to each stream.
    written: Mutex<BTreeMap<SiteId, Written>>,
}

impl MeteredEventLog {
    /// An event log that passes each call to `inner` and counts the records that it takes and gives.
    #[must_use]
    pub fn new(inner: Arc<dyn EventLog>, metrics: EventLogMetrics) -> Self {
        Self { inner, metrics, written: Mutex::default() }
    }

    fn count(&self, site: &SiteId, records: u64, bytes: u64, refused: u64) {
        self.metrics.appended(records, bytes);
        let mut all = self.written.lock();
        let written = all.entry(site.clone()).or_default();
        written.records += records;
        written.bytes += bytes;
        written.refused += refused;
    }
}

#[async_trait]
impl EventLog for MeteredEventLog {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        self.inner.ensure(site).await
    }

    async fn locate(&self, site: &SiteId, place: &StreamPlace) {
        self.inner.locate(site, place).await;
    }

    async fn complaint(&self, site: &SiteId) -> Result<Option<String>, EventLogError> {
        self.inner.complaint(site).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        self.inner.describe(site).await
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        let answers = self.inner.append(site, records).await?;
        let taken = records.iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        let sizes = taken.map(|(record, _)| (record.partition_key.len() + record.data.len()) as u64);
        let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
        let is_refused = |answer: &&Result<(), EventLogError>| matches!(answer, Err(EventLogError::NotNow(_)));
        self.count(site, count, bytes, answers.iter().filter(is_refused).count() as u64);
        Ok(answers)
    }

    async fn tell_readers(&self, site: &SiteId, readers: &Readers) -> Result<(), EventLogError> {
        self.inner.tell_readers(site, readers).await
    }

    fn reading(&self, site: &SiteId) -> Option<Reading> {
        self.inner.reading(site)
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        let inner = self.inner.open(site, shard, from).await?;
        Ok(Box::new(MeteredReader { inner, metrics: self.metrics.clone() }))
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        let inner = self.inner.open_since(site, shard, ms).await?;
        Ok(Box::new(MeteredReader { inner, metrics: self.metrics.clone() }))
    }

    async fn open_shards(&self, site: &SiteId) -> Result<Option<OpenShards>, EventLogError> {
        self.inner.open_shards(site).await
    }

    async fn set_shards(&self, site: &SiteId, from: u32, to: u32) -> Result<(), EventLogError> {
        self.inner.set_shards(site, from, to).await
    }

    fn written(&self, site: &SiteId) -> Option<Written> {
        Some(self.written.lock().get(site).copied().unwrap_or_default())
    }

    async fn retention(&self, site: &SiteId) -> Result<Option<Duration>, EventLogError> {
        self.inner.retention(site).await
    }
}

/// A reader whose records are counted.
struct MeteredReader {
    inner: Box<dyn ShardReader>,
    metrics: EventLogMetrics,
}

#[async_trait]
impl ShardReader for MeteredReader {
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        let batch = self.inner.next(limit).await?;
        self.metrics.read(batch.records.iter().map(|(_, data)| data.len() as u64).sum());
        Ok(batch)
    }

    fn waits(&self) -> bool {
        self.inner.waits()
    }
}
