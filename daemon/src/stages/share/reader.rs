//! The reader of one shard that takes its records from a sibling, or else from the stream.
//!
//! It knows its own position, and takes no record that does not follow it. After any failure of the sibling it reads
//! the next batch from the stream, and asks the sibling again later. So a sibling can cost it two intervals, and
//! nothing else.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use lockstep_proto::NodeId;
use lockstep_proto::sharing::{HandedRecord, MOST_RECORDS, RecordOrigin, RecordsAnswer, RecordsRequest};
use tokio::time::{Instant, timeout};

use super::ahead::Ahead;
use super::shards::{Moment, Shard};
use super::stream::StreamReader;
use super::{Share, ShareSettings, Source};
use crate::base::backoff::Backoff;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::eventlog::position::compare;
use crate::seams::eventlog::{Batch, EventLogError, Position, ShardReader};
use crate::seams::peers::PeerError;
use crate::seams::volume::ShardId;

/// The time for the way to a sibling and back, beside the time for which the sibling waits.
const NETWORK: Duration = Duration::from_secs(1);
/// The longest pause before a sibling that failed is asked again, in intervals.
const LONGEST_PAUSE: u32 = 32;

/// Why a sibling gave no records.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Unshared {
    /// It does not answer, or refuses the call.
    #[error("it cannot be asked: {0}")]
    Away(String),
    /// Its reader has read nothing for two intervals.
    #[error("it has read nothing for two poll intervals")]
    Silent,
    /// Its buffer does not have the position of this node.
    #[error("its buffer does not have the position of this node")]
    Elsewhere,
    /// It does not read the shard for others.
    #[error("it does not read the shard for others")]
    NotReader,
    /// Its records do not follow the position of this node.
    #[error("its records do not follow the position of this node")]
    Gap,
}

impl Unshared {
    /// The value of the metric's label.
    fn label(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Silent => "silent",
            Self::Elsewhere => "elsewhere",
            Self::NotReader => "not_reader",
            Self::Gap => "gap",
        }
    }
}

/// Reads one shard, beginning at one position.
pub(super) struct SharedReader {
    share: Arc<Share>,
    settings: ShareSettings,
    shard: Arc<Shard>,
    id: ShardId,
    /// The last record that was returned, or the one that the position names. None: the oldest record.
    after: Option<String>,
    /// The reader of the stream, while this node reads it for itself.
    own: Option<StreamReader>,
    /// The reading of the stream for the siblings, too. It may have records left when another node has taken over.
    ahead: Option<Ahead>,
    /// Whether the stream had more at the last read of it. False after a read that failed: then a sibling may help.
    is_behind: bool,
    ended: bool,
    /// Whether the last answer came after a wait.
    waits: bool,
    /// The sibling that failed last, with the number of its failures in a row, the time at which it is asked again, and
    /// the reason.
    failed: Option<(NodeId, u32, Instant, String)>,
}

/// Opens a reader of the shard at a position.
pub(super) fn open(
    share: Arc<Share>,
    settings: ShareSettings,
    id: ShardId,
    from: &Position,
) -> Result<SharedReader, EventLogError> {
    let after = match from {
        Position::Start => None,
        Position::After(sequence) => Some(sequence.clone()),
        Position::End => return Err(EventLogError::Broken(format!("shard {} was read to its end", id.shard))),
    };
    let shard = share.shards.opened(&id);
    let (own, ahead, is_behind, ended, waits, failed) = (None, None, false, false, false, None);
    Ok(SharedReader { share, settings, shard, id, after, own, ahead, is_behind, ended, waits, failed })
}

impl SharedReader {
    /// Whether this sibling is asked now. One that failed is asked later. A node that is behind reads the stream to its
    /// end first.
    fn asks(&self, sibling: &NodeId) -> bool {
        let is_due = match &self.failed {
            Some((failed, _, again, _)) if failed == sibling => Instant::now() >= *again,
            _ => true,
        };
        is_due && !self.is_behind
    }

    /// Notes that a sibling gave no records. Returns the reason.
    fn has_failed(&mut self, sibling: NodeId, why: &Unshared) -> String {
        let before = match &self.failed {
            Some((failed, times, _, _)) if *failed == sibling => *times,
            _ => 0,
        };
        let (first, times) = (self.patience(), before.saturating_add(1));
        let longest = self.settings.interval.saturating_mul(LONGEST_PAUSE).min(Duration::from_secs(3_600));
        let pause = Backoff::nth(self.share.entropy.as_ref(), first, longest, times);
        let reason = format!("{sibling} reads the shard for this site, and {why}");
        tracing::debug!(stream = %self.id.site, shard = self.id.shard, reason, "reading the stream");
        self.failed = Some((sibling, times, Instant::now() + pause, reason.clone()));
        self.share.observer.read_alone(why.label());
        reason
    }

    /// How long a sibling may have nothing: two intervals.
    fn patience(&self) -> Duration {
        self.settings.interval.saturating_mul(2)
    }

    /// Asks a sibling for the next records, which it may wait for.
    async fn ask(&mut self, peer: &str, limit: usize) -> Result<Batch, Unshared> {
        let wait = self.patience();
        let request = RecordsRequest {
            reader: self.share.node.clone(),
            stream: self.id.site.clone(),
            created: self.id.created.clone(),
            shard: self.id.shard.clone(),
            after: self.after.clone(),
            most: limit.min(MOST_RECORDS),
            wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = timeout(wait.saturating_add(NETWORK), self.share.peers.records(peer, &request)).await;
        let late = |_| Unshared::Away("it did not answer in time".to_owned());
        let away = |error| match error {
            PeerError::NotNow(why) => Unshared::Away(why),
            PeerError::Missing(_) => Unshared::Away(error.to_string()),
        };
        match answer.map_err(late)?.map_err(away)? {
            // Its stream has more, and gives it nothing. That proves nothing, and may go on for long.
            RecordsAnswer::Records { records, ended: false, behind: true, .. } if records.is_empty() => {
                Err(Unshared::Silent)
            }
            RecordsAnswer::Records { follows, records, ended, behind } => {
                let records = self.follow(follows.as_deref(), records, request.most).ok_or(Unshared::Gap)?;
                Ok(Batch { records, ended, behind })
            }
            RecordsAnswer::Silent => Err(Unshared::Silent),
            RecordsAnswer::Elsewhere { oldest } if self.share.bugs.has(InjectedBug::SiblingSkipsGap) => {
                self.after = oldest;
                Ok(Batch { behind: true, ..Batch::default() })
            }
            RecordsAnswer::Elsewhere { .. } => Err(Unshared::Elsewhere),
            RecordsAnswer::NotReader => Err(Unshared::NotReader),
        }
    }

    /// The records of an answer, if they follow the position of this node, one after the other.
    fn follow(&self, follows: Option<&str>, records: Vec<HandedRecord>, most: usize) -> Option<Vec<(String, Bytes)>> {
        if follows != self.after.as_deref() || records.len() > most {
            return None;
        }
        let mut taken: Vec<(String, Bytes)> = Vec::new();
        for record in records {
            let before = taken.last().map(|(sequence, _)| sequence.as_str()).or(self.after.as_deref());
            if before.is_some_and(|before| compare(before, &record.sequence) != Ordering::Less) {
                return None;
            }
            let data = BASE64_STANDARD.decode(&record.data).ok()?;
            taken.push((record.sequence, data.into()));
        }
        Some(taken)
    }

    /// Takes the records of a sibling, which has answered since `asked`.
    fn take(&mut self, sibling: &NodeId, batch: Batch, asked: Moment) -> Batch {
        // A sibling that answers at once, and has nothing, is asked again after an interval.
        self.waits = !batch.records.is_empty() || asked.at.elapsed() >= self.settings.interval;
        (self.own, self.failed) = (None, None);
        self.moves(&batch);
        if !batch.behind && !batch.ended {
            // It has begun and ended a read of the stream since then.
            self.shard.had_nothing_behind(self.after.as_deref(), asked);
        }
        self.share.observer.records_from(RecordOrigin::Sibling, batch.records.len());
        self.shard.shows(RecordOrigin::Sibling, format!("{sibling} reads the shard for this site"));
        batch
    }

    /// The reader of the stream at the position of this node.
    fn stream(&mut self) -> StreamReader {
        let new = || StreamReader::new(&self.share, &self.shard, &self.id, self.after.clone());
        self.own.take().unwrap_or_else(new)
    }

    /// Reads the next records from the stream, for this node alone.
    async fn read(&mut self, limit: usize, reason: String) -> Result<Batch, EventLogError> {
        self.is_behind = false;
        let mut reader = self.stream();
        let batch = reader.next(limit).await?;
        self.waits = reader.waits();
        self.own = Some(reader);
        Ok(self.took(batch, limit, reason))
    }

    /// Takes the next records that were read from the stream for the siblings, too. The reading goes on meanwhile,
    /// however long this node takes to apply them.
    async fn read_ahead(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        let ahead = match self.ahead.take() {
            Some(ahead) => ahead,
            None => Ahead::begin(self.stream(), limit, self.settings.interval, &self.share.tasks),
        };
        let batch = ahead.next(limit).await?;
        self.ahead = Some(ahead);
        self.waits = true;
        Ok(self.took(batch, limit, "this node reads the shard for its siblings".to_owned()))
    }

    /// The next records that were read ahead before another node has taken over. None if nothing is left.
    fn left(&mut self, limit: usize) -> Result<Option<Batch>, EventLogError> {
        let Some(ahead) = self.ahead.take() else { return Ok(None) };
        let Some(batch) = ahead.left(limit) else { return Ok(None) };
        let batch = batch?;
        self.ahead = Some(ahead);
        self.waits = true;
        Ok(Some(self.took(batch, limit, "this node has read the shard for its siblings".to_owned())))
    }

    /// Notes records of the stream.
    fn took(&mut self, batch: Batch, limit: usize, reason: String) -> Batch {
        self.is_behind = !batch.ended && (batch.behind || batch.records.len() >= limit);
        self.moves(&batch);
        self.share.observer.records_from(RecordOrigin::Stream, batch.records.len());
        self.shard.shows(RecordOrigin::Stream, reason);
        batch
    }

    /// Moves the position behind records.
    fn moves(&mut self, batch: &Batch) {
        if let Some((sequence, _)) = batch.records.last() {
            self.after = Some(sequence.clone());
        }
        self.ended = batch.ended;
        if batch.ended {
            (self.own, self.ahead) = (None, None);
        }
    }
}

impl Drop for SharedReader {
    fn drop(&mut self) {
        self.shard.closed();
    }
}

#[async_trait::async_trait]
impl ShardReader for SharedReader {
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        if self.ended {
            return Ok(Batch { ended: true, ..Batch::default() });
        }
        let source = self.share.source(&self.id);
        // The lease may be back before the records are taken that were left when it moved.
        let is_stopped = self.ahead.as_ref().is_some_and(Ahead::is_stopped);
        if (is_stopped || !matches!(source, Source::Held))
            && let Some(batch) = self.left(limit)?
        {
            return Ok(batch);
        }
        let reason = match source {
            Source::Held => return self.read_ahead(limit).await,
            Source::Stream(reason) => reason,
            Source::Sibling { node, peer } if self.asks(&node) => {
                let asked = self.share.moment();
                match self.ask(&peer, limit).await {
                    Ok(batch) => return Ok(self.take(&node, batch, asked)),
                    Err(why) => self.has_failed(node, &why),
                }
            }
            Source::Sibling { node, .. } => {
                let failed = self.failed.as_ref().map(|(_, _, _, reason)| reason.clone());
                failed.unwrap_or_else(|| format!("this node reads to the end of the shard before it asks {node}"))
            }
        };
        self.read(limit, reason).await
    }

    fn waits(&self) -> bool {
        self.waits
    }
}
