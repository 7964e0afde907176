//! An event log that behaves to a suite like one in memory: it waits until a throttled record is taken, and until a
//! record that was taken can be read. The suites judge order, completeness and positions, and not times.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep::seams::eventlog::{Batch, EventLog, EventLogError, Position, Record, ShardReader, StreamInfo};
use lockstep_proto::SiteId;
use tokio::time::{Instant, sleep};

/// The pause between two calls at a shard: it takes five reads per second.
const PAUSE: Duration = Duration::from_millis(220);

/// An event log whose calls are patient.
pub(super) struct PatientLog {
    pub(super) inner: Arc<dyn EventLog>,
    /// How long a stream may take to give a record that it took.
    pub(super) patience: Duration,
    /// Whether a shard allows any number of reads: that of an emulator.
    pub(super) is_here: bool,
}

impl PatientLog {
    fn pause(&self) -> Duration {
        if self.is_here { Duration::from_millis(10) } else { PAUSE }
    }

    fn reader(&self, inner: Box<dyn ShardReader>) -> Box<dyn ShardReader> {
        Box::new(PatientReader { inner, patience: self.patience, pause: self.pause() })
    }
}

#[async_trait]
impl EventLog for PatientLog {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        self.inner.ensure(site).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        self.inner.describe(site).await
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        let mut answers = self.inner.append(site, records).await?;
        loop {
            let refused =
                answers.iter().enumerate().filter(|(_, answer)| matches!(answer, Err(EventLogError::NotNow(_))));
            let refused: Vec<usize> = refused.map(|(at, _)| at).collect();
            if refused.is_empty() {
                return Ok(answers);
            }
            sleep(PAUSE).await;
            let again: Vec<Record> = refused.iter().map(|at| records[*at].clone()).collect();
            for (at, answer) in refused.into_iter().zip(self.inner.append(site, &again).await?) {
                answers[at] = answer;
            }
        }
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        Ok(self.reader(self.inner.open(site, shard, from).await?))
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        Ok(self.reader(self.inner.open_since(site, shard, ms).await?))
    }

    async fn retention(&self, site: &SiteId) -> Result<Option<Duration>, EventLogError> {
        self.inner.retention(site).await
    }
}

/// A reader that says "nothing" only after its patience.
struct PatientReader {
    inner: Box<dyn ShardReader>,
    patience: Duration,
    pause: Duration,
}

#[async_trait]
impl ShardReader for PatientReader {
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        let began = Instant::now();
        loop {
            match self.inner.next(limit).await {
                Ok(batch) if batch.records.is_empty() && !batch.ended && began.elapsed() < self.patience => {}
                Err(EventLogError::NotNow(_)) if began.elapsed() < Duration::from_secs(60) => {}
                other => return other,
            }
            sleep(self.pause).await;
        }
    }
}
