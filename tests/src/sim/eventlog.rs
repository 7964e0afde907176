//! The event logs of a simulated node: every call passes through the fault plan.
//!
//! Beyond the faults of any remote call, an append may be accepted in part, and its records may change places. A read
//! stays within the limits of the service, so it may be short, empty or refused. The seam's contract allows all of
//! this, and none of it may harm the readers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep::seams::eventlog::{
    Batch, EventLog, EventLogError, OpenShards, Position, Record, ShardReader, StreamInfo,
};
use lockstep_proto::SiteId;
use tokio::sync::Mutex;

use super::faults::{Kind, NetworkError, Seam, Throttle};
use super::link::Link;
use super::read_limits::{Admission, ReadMeter};
use super::watch::Watch;

impl NetworkError for EventLogError {
    fn not_now() -> Self {
        Self::NotNow("simulated throttling".into())
    }

    fn unknown() -> Self {
        Self::NotNow("simulated silence".into())
    }
}

/// Event logs behind faults.
pub struct FaultyEventLog {
    /// The event logs of all sites.
    pub inner: Arc<dyn EventLog>,
    /// The link in front of them.
    pub link: Link,
    /// The limits of reading, which all nodes share.
    pub meter: Arc<ReadMeter>,
    /// Learns which shards are opened and ended, and of changes of their number.
    pub watch: Arc<Watch>,
    /// How long a record is kept at least. None if nobody says so.
    pub keeps: Option<Duration>,
}

impl FaultyEventLog {
    /// The order in which the records arrive, and whether each of them is refused.
    fn plan(&self, site: &SiteId, records: &[Record]) -> (Vec<usize>, Vec<bool>) {
        let count = records.len();
        let (rates, dice) = (self.link.faults().rates(Seam::EventLog), self.link.faults().dice());
        let mut order: Vec<usize> = (0..count).collect();
        if count > 1 && dice.chance(rates.reorder) {
            dice.shuffle(&mut order);
        }
        let throttles = |record: &Record| {
            let shard = record.partition_key.parse().map(|project| Throttle::Shard(site.clone(), project));
            shard.is_ok_and(|shard| self.link.faults().is_throttled(&shard))
        };
        let refused = |record| throttles(record) || (count > 1 && dice.chance(rates.fail_before));
        let refused = records.iter().map(refused).collect();
        (order, refused)
    }
}

type Answers = Vec<Result<(), EventLogError>>;

/// Appends the accepted records in `order`, and answers in the caller's order.
async fn append_in_order(
    log: Arc<dyn EventLog>,
    site: SiteId,
    records: Vec<Record>,
    order: Vec<usize>,
    refused: Vec<bool>,
) -> Result<Answers, EventLogError> {
    let taken: Vec<usize> = order.into_iter().filter(|at| !refused[*at]).collect();
    let sent: Vec<Record> = taken.iter().map(|at| records[*at].clone()).collect();
    let mut answers: Answers = records.iter().map(|_| Err(EventLogError::not_now())).collect();
    if sent.is_empty() {
        return Ok(answers);
    }
    for (at, answer) in taken.into_iter().zip(log.append(&site, &sent).await?) {
        answers[at] = answer;
    }
    Ok(answers)
}

#[async_trait]
impl EventLog for FaultyEventLog {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        let (inner, site) = (self.inner.clone(), site.clone());
        let call = move || {
            let (inner, site) = (inner.clone(), site.clone());
            async move { inner.ensure(&site).await }
        };
        self.link.remote(Kind::Write, "ensure".into(), None, call).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        let what = format!("describe {site}");
        let (inner, site) = (self.inner.clone(), site.clone());
        let call = move || {
            let (inner, site) = (inner.clone(), site.clone());
            async move { inner.describe(&site).await }
        };
        self.link.remote(Kind::Read, what, None, call).await
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Answers, EventLogError> {
        let what = format!("append {site} {} records", records.len());
        let (order, refused) = self.plan(site, records);
        let (inner, site, records) = (self.inner.clone(), site.clone(), records.to_vec());
        let call =
            move || append_in_order(inner.clone(), site.clone(), records.clone(), order.clone(), refused.clone());
        self.link.remote(Kind::Write, what, None, call).await
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        self.watch.shard_opened(self.link.node(), site, shard);
        let reader =
            self.link.local(format!("open {site}/{shard} {from:?}"), open(&self.inner, site, shard, from), None);
        let OpenReader(inner) = reader.await?;
        let inner = Arc::new(Mutex::new(inner));
        Ok(Box::new(FaultyReader {
            inner,
            link: self.link.clone(),
            meter: self.meter.clone(),
            watch: self.watch.clone(),
            site: site.clone(),
            shard: shard.to_owned(),
        }))
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        let call = async { self.inner.open_since(site, shard, ms).await.map(OpenReader) };
        let OpenReader(inner) = self.link.local(format!("open {site}/{shard} since {ms}"), call, None).await?;
        let inner = Arc::new(Mutex::new(inner));
        Ok(Box::new(FaultyReader {
            inner,
            link: self.link.clone(),
            meter: self.meter.clone(),
            watch: self.watch.clone(),
            site: site.clone(),
            shard: shard.to_owned(),
        }))
    }

    async fn open_shards(&self, site: &SiteId) -> Result<Option<OpenShards>, EventLogError> {
        let what = format!("open_shards {site}");
        let (inner, site) = (self.inner.clone(), site.clone());
        let call = move || {
            let (inner, site) = (inner.clone(), site.clone());
            async move { inner.open_shards(&site).await }
        };
        self.link.remote(Kind::Read, what, None, call).await
    }

    async fn set_shards(&self, site: &SiteId, from: u32, to: u32) -> Result<(), EventLogError> {
        let what = format!("set_shards {site} from {from} to {to}");
        let parts = (self.inner.clone(), self.watch.clone(), self.link.node().clone(), site.clone());
        let call = move || {
            let (inner, watch, node, site) = parts.clone();
            async move {
                inner.set_shards(&site, from, to).await?;
                watch.shards_set(&node, &site, from, to);
                Ok::<(), EventLogError>(())
            }
        };
        self.link.remote(Kind::Write, what, None, call).await
    }

    async fn retention(&self, _site: &SiteId) -> Result<Option<Duration>, EventLogError> {
        Ok(self.keeps)
    }
}

/// An open reader. It has nothing to print.
struct OpenReader(Box<dyn ShardReader>);

impl std::fmt::Debug for OpenReader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("reader")
    }
}

async fn open(
    log: &Arc<dyn EventLog>,
    site: &SiteId,
    shard: &str,
    from: &Position,
) -> Result<OpenReader, EventLogError> {
    log.open(site, shard, from).await.map(OpenReader)
}

/// A reader behind faults. A lost answer loses no records: the next call returns them.
struct FaultyReader {
    inner: Arc<Mutex<Box<dyn ShardReader>>>,
    link: Link,
    meter: Arc<ReadMeter>,
    watch: Arc<Watch>,
    site: SiteId,
    shard: String,
}

impl FaultyReader {
    /// Reads record by record, up to the limits of one read.
    async fn read(&self, limit: usize) -> Result<Batch, EventLogError> {
        let limits = self.meter.limits();
        let (mut inner, mut batch, mut bytes) = (self.inner.lock().await, Batch::default(), 0);
        while batch.records.len() < limit.min(limits.records) && bytes < limits.bytes {
            let one = inner.next(1).await?;
            (batch.ended, batch.behind) = (one.ended, one.behind);
            let Some((number, data)) = one.records.into_iter().next() else { break };
            bytes += data.len();
            batch.records.push((number, data));
        }
        self.meter.returned(&self.site, &self.shard, bytes);
        let is_cut = batch.records.len() >= limits.records || bytes >= limits.bytes;
        Ok(Batch { behind: (is_cut || batch.behind) && !batch.ended, ..batch })
    }
}

#[async_trait]
impl ShardReader for FaultyReader {
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        let rates = self.link.faults().rates(Seam::EventLog);
        let is_cut = self.link.faults().is_cut(self.link.node(), Seam::EventLog);
        let fail = is_cut || self.link.faults().dice().chance(rates.fail_before + rates.lose_request);
        let dice = self.link.faults().dice();
        let few = rates.few > 0 && dice.chance(rates.few);
        let limit = if few { usize::try_from(dice.between(1, 3)).unwrap_or(1).min(limit) } else { limit };
        let call = async {
            let now_ms = self.link.faults().now_ms();
            match self.meter.read(&self.site, &self.shard, now_ms) {
                Admission::Fails => Err(EventLogError::not_now()),
                _ if fail => Err(EventLogError::not_now()),
                Admission::Empty => Ok(Read(Batch { behind: true, ..Batch::default() })),
                Admission::Reads => self.read(limit).await.map(Read),
            }
        };
        let what = format!("next {}/{}", self.site, self.shard);
        let Read(batch) = self.link.local(what, call, None).await?;
        if batch.ended {
            self.watch.shard_ended(self.link.node(), &self.site, &self.shard);
        }
        Ok(batch)
    }
}

/// A batch whose debug text is its sequence numbers.
struct Read(Batch);

impl std::fmt::Debug for Read {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<&str> = self.0.records.iter().map(|(number, _)| number.as_str()).collect();
        write!(out, "{numbers:?}{}", if self.0.ended { " end" } else { "" })
    }
}
