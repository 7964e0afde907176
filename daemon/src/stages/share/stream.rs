//! The reader of one shard that takes its records from the stream itself, from this node's own position.
//!
//! A stream forgets records by their age. So the record of a position may be gone although no record came behind it,
//! and a position that is opened again counts as trimmed. This reader knows better if the stream had nothing behind the
//! position at a time within half of its retention, 12 hours at most: every record behind it is kept. It begins at the
//! oldest record then, and passes over those that the node has. In all other cases the stream's own word counts.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use super::Share;
use super::shards::{Shard, Shards};
use crate::seams::eventlog::position::compare;
use crate::seams::eventlog::{Batch, EventLogError, Position, ShardReader};
use crate::seams::volume::ShardId;

/// The shortest retention that Kinesis takes. A longer one may be newer than records that were forgotten before.
const SHORTEST: Duration = Duration::from_secs(24 * 3_600);

/// Reads one shard of a stream, beginning at one position.
pub(super) struct StreamReader {
    share: Arc<Share>,
    shard: Arc<Shard>,
    id: ShardId,
    /// The last record that was returned, or the one that the position names. None: the oldest record.
    after: Option<String>,
    /// The reader of the event log. None before the first read, and after one that failed.
    inner: Option<Box<dyn ShardReader>>,
    /// Set while the stream is read from its oldest record although the node has a position: how long ago the stream
    /// may have had nothing behind that position.
    within: Option<Duration>,
}

impl StreamReader {
    /// A reader behind a position. None: from the oldest record. It calls nobody before the first read.
    pub(super) fn new(share: &Arc<Share>, shard: &Arc<Shard>, id: &ShardId, after: Option<String>) -> Self {
        let (share, shard, id) = (Arc::clone(share), Arc::clone(shard), id.clone());
        Self { share, shard, id, after, inner: None, within: None }
    }

    /// The next records, as [`ShardReader::next`] has them.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        match self.read(limit).await {
            Err(EventLogError::Trimmed(position)) if self.within.is_none() => {
                let kept = self.share.eventlog.retention(&self.id.site).await.ok().flatten();
                let within = kept.map(|kept| kept.min(SHORTEST) / 2).filter(|within| self.had_nothing_behind(*within));
                if within.is_none() {
                    return Err(EventLogError::Trimmed(position));
                }
                (self.inner, self.within) = (None, within);
                self.read(limit).await
            }
            end => end,
        }
    }

    /// Whether `next` waits for a moment when there are no records.
    pub(super) fn waits(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.waits())
    }

    /// The shards that this node reads, which bound the records that are read ahead of its own work.
    pub(super) fn shards(&self) -> &Shards {
        &self.share.shards
    }

    async fn read(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        let mut reader = match self.inner.take() {
            Some(reader) => reader,
            None => {
                let after = self.after.clone().filter(|_| self.within.is_none());
                let from = after.map_or(Position::Start, Position::After);
                self.share.eventlog.open(&self.id.site, &self.id.shard, &from).await?
            }
        };
        let number = self.shard.begins_read();
        let began = self.share.moment();
        let mut batch = reader.next(limit).await?;
        let is_end = !batch.behind && !batch.ended && batch.records.len() < limit;
        if let (Some(within), Some(after)) = (self.within, self.after.clone()) {
            // The read may have taken long. Records that came since the proof may be forgotten then, too.
            if !self.had_nothing_behind(within) {
                return Err(EventLogError::Trimmed(after));
            }
            batch.records.retain(|(sequence, _)| compare(&after, sequence) == Ordering::Less);
        }
        self.share.shards.took(&self.shard, number, self.after.as_deref(), &batch);
        if let Some((sequence, _)) = batch.records.last() {
            (self.after, self.within) = (Some(sequence.clone()), None);
        }
        if is_end {
            self.shard.had_nothing_behind(self.after.as_deref(), began);
        }
        self.inner = Some(reader);
        Ok(batch)
    }

    /// Whether the stream had nothing behind the position at some moment of the last time.
    fn had_nothing_behind(&self, within: Duration) -> bool {
        self.shard.is_proven(self.after.as_deref(), within, self.share.moment())
    }
}
