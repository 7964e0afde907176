//! Reads the shards of a replay one by one, parents before children, and reports.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::replay::{ReplayFrom, ReplayRequest, ShardReplay};
use lockstep_proto::{SiteId, Transaction};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::Replayer;
use super::judge::{JudgeError, Judgement};
use crate::seams::eventlog::{Batch, EventLogError, Position, ShardReader};
use crate::seams::volume::StoreError;
use crate::stages::ports::Done;

/// How often a read that failed is tried again before the shard is given up.
const TRIES: u32 = 5;

/// Why a shard was not read to its end.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    /// The event log failed.
    #[error(transparent)]
    EventLog(EventLogError),
    /// The stream no longer keeps the position.
    #[error("the stream no longer keeps position {0}: give a later one, or take the refdb's state (`lockstep resync`)")]
    Trimmed(String),
    /// Nothing is known about a record.
    #[error("record {0}: {1}")]
    Judge(String, JudgeError),
}

impl From<EventLogError> for ReplayError {
    fn from(error: EventLogError) -> Self {
        match error {
            EventLogError::Trimmed(position) => Self::Trimmed(position),
            error => Self::EventLog(error),
        }
    }
}

/// A transaction that was handed to the apply stage, and the end that it waits for.
type Offered = (Transaction, oneshot::Receiver<()>);

impl Replayer {
    /// Runs a replay to its end.
    pub(super) async fn read_all(self, request: ReplayRequest, streams: BTreeSet<SiteId>) {
        for site in &streams {
            match self.shards(site, request.shard.as_deref()).await {
                Ok(shards) => {
                    for shard in shards {
                        self.replay_shard(site, &shard, &request).await;
                    }
                }
                Err(why) => {
                    let shard = ShardReplay {
                        stream: site.to_string(),
                        shard: request.shard.clone().unwrap_or_else(|| "(all)".to_owned()),
                        failed: Some(why.to_string()),
                        ..ShardReplay::default()
                    };
                    self.run.report(|report| report.shards.push(shard));
                }
            }
        }
        let ended_ms = self.clock.now_ms();
        self.run.report(|report| {
            report.ended_ms = Some(ended_ms);
            let (records, changing) = (report.total(|shard| shard.records), report.total(|shard| shard.changing));
            let (brought, failures) = (report.total(|shard| shard.brought), report.failures().count());
            let (number, actor) = (report.number, &report.by);
            tracing::warn!(number, actor, records, changing, brought, failures, "a replay has ended");
        });
    }

    /// The shards of a stream in the order of their ids, in which parents come before their children.
    async fn shards(&self, site: &SiteId, only: Option<&str>) -> Result<Vec<String>, EventLogError> {
        let all = self.eventlog.describe(site).await?.shards.into_iter().map(|shard| shard.id);
        let shards: Vec<String> = all.filter(|id| only.is_none_or(|only| only == id)).collect();
        match (shards.is_empty(), only) {
            (true, Some(only)) => Err(EventLogError::Absent(format!("shard {only} in the stream of site {site}"))),
            _ => Ok(shards),
        }
    }

    async fn replay_shard(&self, site: &SiteId, shard: &str, request: &ReplayRequest) {
        let begun = ShardReplay { stream: site.to_string(), shard: shard.to_owned(), ..ShardReplay::default() };
        self.run.report(|report| report.shards.push(begun));
        let end = self.read_shard(site, shard, request).await;
        self.count(|counts| match end {
            Ok(()) => counts.ended = true,
            Err(why) => counts.failed = Some(why.to_string()),
        });
    }

    async fn read_shard(&self, site: &SiteId, shard: &str, request: &ReplayRequest) -> Result<(), ReplayError> {
        let mut reader = self.open(site, shard, &request.from).await?;
        loop {
            let batch = self.next(reader.as_mut()).await?;
            let count = batch.records.len();
            let mut offered = Vec::new();
            for (sequence, data) in batch.records {
                let judged = self.judge(&data).await;
                let judgement = judged.map_err(|why| ReplayError::Judge(sequence.clone(), why))?;
                self.take(judgement, data, request.dry_run, &mut offered).await;
                self.count(|counts| {
                    counts.records += 1;
                    counts.last = Some(sequence);
                });
            }
            self.wait_for(offered).await?;
            if batch.ended || (!batch.behind && count < self.limits.batch) {
                return Ok(());
            }
            // The readers of the consume stage share the reads per second of the shard.
            sleep(self.limits.poll_interval).await;
        }
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &ReplayFrom) -> Result<Box<dyn ShardReader>, EventLogError> {
        match from {
            ReplayFrom::Time(ms) => self.eventlog.open_since(site, shard, *ms).await,
            ReplayFrom::After(sequence) => self.eventlog.open(site, shard, &Position::After(sequence.clone())).await,
            ReplayFrom::Oldest => self.eventlog.open(site, shard, &Position::Start).await,
        }
    }

    /// The next records. A read that fails for the moment is tried again.
    async fn next(&self, reader: &mut dyn ShardReader) -> Result<Batch, EventLogError> {
        let mut left = TRIES;
        loop {
            left -= 1;
            match reader.next(self.limits.batch).await {
                Err(EventLogError::NotNow(_)) if left > 0 => sleep(4 * self.limits.poll_interval).await,
                end => return end,
            }
        }
    }

    /// Counts one record, and hands a transaction to the apply stage that is not applied here.
    async fn take(&self, judgement: Judgement, data: Bytes, is_dry: bool, offered: &mut Vec<Offered>) {
        match judgement {
            Judgement::Applied => self.count(|counts| counts.applied += 1),
            Judgement::Event => self.count(|counts| counts.events += 1),
            Judgement::PassedOver => self.count(|counts| counts.passed_over += 1),
            Judgement::Changing(both) => {
                self.count(|counts| counts.changing += 1);
                if is_dry {
                    return;
                }
                let (transaction, whole) = *both;
                let (end, ended) = oneshot::channel();
                let done: Done = Box::new(move || {
                    let _ = end.send(());
                });
                self.sink.offer(Arc::new(transaction), data, None, Some(done)).await;
                offered.push((whole, ended));
            }
        }
    }

    /// Waits until each of these transactions is applied or set aside, and counts those that are applied.
    async fn wait_for(&self, offered: Vec<Offered>) -> Result<(), ReplayError> {
        for (whole, ended) in offered {
            // A writer that ends drops the other half.
            let _ = ended.await;
            let failed = |why: StoreError| ReplayError::Judge(whole.id.to_string(), why.into());
            if self.versions.has_applied(&whole).map_err(failed)? {
                self.count(|counts| counts.brought += 1);
            }
        }
        Ok(())
    }

    /// Changes the counts of the shard in progress.
    fn count(&self, change: impl FnOnce(&mut ShardReplay)) {
        self.run.report(|report| {
            if let Some(counts) = report.shards.last_mut() {
                change(counts);
            }
        });
    }
}
