//! Reads a shard with `GetRecords`.
//!
//! A position after a record is opened **at** that record, and the record must come first in the answer. Only then is
//! it certain that nothing in between was lost. When Kinesis moves a position that it no longer keeps to its horizon,
//! neither its documentation nor its errors tell, and the emulator does so silently. The price is that each opening
//! reads one record twice, and that a shard which was idle for a whole retention period counts as trimmed.
//!
//! A reader that begins at a time passes over leading records from before it: the emulator begins at the oldest record
//! when there is none of that time or later. Kinesis does not.
//!
//! Iterators expire after five minutes, or earlier. A new one starts at the last record that was returned, never at the
//! newest record. A reader that is far behind takes a new iterator for each call, because Kinesis may silently move a
//! live iterator to the horizon too.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use bytes::Bytes;

use super::errors::{explain, is_argument, is_stale_iterator};
use crate::seams::eventlog::{Batch, EventLogError, Position, ShardReader};

/// Most records of one call.
const CALL_RECORDS: usize = 10_000;

/// A reader that is this many milliseconds behind may be overtaken by the horizon: 20 hours, as retention is at least
/// 24.
pub(super) const FAR_BEHIND_MS: i64 = 20 * 3_600_000;

/// After this many empty answers at the newest end of the shard, the record of the position counts as gone. Kinesis may
/// give empty answers when it is busy, so one is not enough.
pub(super) const EMPTY_ANSWERS: u32 = 3;

/// Reads the records of one shard in order, from a position on.
pub(super) struct KinesisReader {
    client: Client,
    stream: String,
    shard: String,
    /// The last record that was returned, or the one that the position names.
    after: Option<String>,
    /// The time at which the reader begins, in milliseconds since 1970, until it has returned a record.
    since_ms: Option<i64>,
    /// The iterator for the next call. None if a new one must be requested.
    iterator: Option<String>,
    /// Set while the record `after` has not come again: the number of empty answers so far.
    unproven: Option<u32>,
    ended: bool,
}

/// Opens a reader of the shard that starts at `from`.
pub(super) async fn open(
    client: Client,
    stream: String,
    shard: String,
    from: &Position,
) -> Result<KinesisReader, EventLogError> {
    let after = match from {
        Position::Start => None,
        Position::After(sequence) => Some(sequence.clone()),
        Position::End => return Err(EventLogError::Broken(format!("shard {shard} was read to its end"))),
    };
    begin(client, stream, shard, after, None).await
}

/// Opens a reader of the shard that starts at a time, in milliseconds since 1970.
pub(super) async fn open_since(
    client: Client,
    stream: String,
    shard: String,
    ms: u64,
) -> Result<KinesisReader, EventLogError> {
    begin(client, stream, shard, None, Some(i64::try_from(ms).unwrap_or(i64::MAX))).await
}

async fn begin(
    client: Client,
    stream: String,
    shard: String,
    after: Option<String>,
    since_ms: Option<i64>,
) -> Result<KinesisReader, EventLogError> {
    let (iterator, unproven) = (None, None);
    let mut reader = KinesisReader { client, stream, shard, after, since_ms, iterator, unproven, ended: false };
    reader.reopen().await?;
    Ok(reader)
}

impl KinesisReader {
    fn place(&self) -> String {
        format!("shard {} of stream {}", self.shard, self.stream)
    }

    /// Requests a new iterator at the last record. If none was read, at the time at which the reader begins, or at the
    /// oldest record.
    async fn reopen(&mut self) -> Result<String, EventLogError> {
        let call = self.client.get_shard_iterator().stream_name(&self.stream).shard_id(&self.shard);
        let call = match (&self.after, self.since_ms) {
            (Some(after), _) => {
                call.shard_iterator_type(ShardIteratorType::AtSequenceNumber).starting_sequence_number(after)
            }
            (None, Some(ms)) => {
                call.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(ms))
            }
            (None, None) => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
        };
        let answer = call.send().await.map_err(|error| match &self.after {
            Some(after) if is_argument(&error) => EventLogError::Trimmed(after.clone()),
            _ => explain(&error, &self.place()),
        })?;
        let none = || EventLogError::NotNow(format!("{}: the answer has no iterator", self.place()));
        let iterator = answer.shard_iterator.ok_or_else(none)?;
        self.iterator = Some(iterator.clone());
        self.unproven = self.after.is_some().then_some(0);
        Ok(iterator)
    }

    /// Reads records. If the current iterator is refused, reads once more with a new one.
    async fn fetch(&mut self, limit: usize) -> Result<GetRecordsOutput, EventLogError> {
        if let Some(iterator) = self.iterator.clone() {
            match self.get(&iterator, limit).await {
                Err(Failure::Stale) => self.iterator = None,
                Err(Failure::Other(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
        let iterator = self.reopen().await?;
        self.get(&iterator, limit).await.map_err(|failure| match failure {
            Failure::Stale => EventLogError::NotNow(format!("{}: a new iterator was refused", self.place())),
            Failure::Other(error) => error,
        })
    }

    async fn get(&self, iterator: &str, limit: usize) -> Result<GetRecordsOutput, Failure> {
        let again = usize::from(self.unproven.is_some());
        let count = i32::try_from((limit + again).clamp(1, CALL_RECORDS)).unwrap_or(i32::MAX);
        let answer = self.client.get_records().shard_iterator(iterator).limit(count).send().await;
        answer.map_err(|error| match is_stale_iterator(&error) {
            true => Failure::Stale,
            false => Failure::Other(explain(&error, &self.place())),
        })
    }

    /// Checks the record that proves the position, and removes it from the front of the answer. Returns whether the
    /// position is proven. An answer without a record may prove nothing yet; the count of such answers belongs to this
    /// reader, so a shard on which nobody writes is judged after a few reads too.
    fn prove(&mut self, answer: &mut GetRecordsOutput) -> Result<bool, EventLogError> {
        let (Some(empty), Some(after)) = (self.unproven, self.after.clone()) else { return Ok(true) };
        let ended = answer.next_shard_iterator.is_none();
        match answer.records.first() {
            Some(first) if first.sequence_number == after => {
                answer.records.remove(0);
                self.unproven = None;
                Ok(true)
            }
            None if !ended => {
                let newest = answer.millis_behind_latest == Some(0);
                self.unproven = Some(empty + u32::from(newest));
                if empty + u32::from(newest) >= EMPTY_ANSWERS {
                    return Err(EventLogError::Trimmed(after));
                }
                Ok(false)
            }
            Some(_) | None => Err(EventLogError::Trimmed(after)),
        }
    }

    /// Passes over leading records that came before the time at which the reader begins. The time of a record may be
    /// cut to whole seconds, as an emulator does, so a record counts as earlier only if it came a second before.
    fn since(&mut self, records: &mut Vec<Record>) {
        let Some(since) = self.since_ms else { return };
        let is_before = |record: &Record| {
            let at = record.approximate_arrival_timestamp().and_then(|at| at.to_millis().ok());
            at.is_some_and(|at| at.saturating_add(1_000) < since)
        };
        let before = records.iter().take_while(|record| is_before(record)).count();
        records.drain(..before);
        if !records.is_empty() {
            self.since_ms = None;
        }
    }

    fn accept(&mut self, mut answer: GetRecordsOutput) -> Batch {
        self.since(&mut answer.records);
        self.ended = answer.next_shard_iterator.is_none();
        let behind = answer.millis_behind_latest.is_some_and(|behind| behind > 0);
        let far_behind = answer.millis_behind_latest.is_some_and(|behind| behind >= FAR_BEHIND_MS);
        self.iterator = answer.next_shard_iterator.filter(|_| !far_behind);
        let records: Vec<_> = answer.records.into_iter().map(pair).collect();
        if let Some((sequence, _)) = records.last() {
            self.after = Some(sequence.clone());
        }
        Batch { records, ended: self.ended, behind }
    }
}

enum Failure {
    /// The iterator is too old or unknown.
    Stale,
    Other(EventLogError),
}

pub(super) fn pair(record: Record) -> (String, Bytes) {
    (record.sequence_number, Bytes::from(record.data.into_inner()))
}

#[async_trait::async_trait]
impl ShardReader for KinesisReader {
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        if self.ended {
            return Ok(Batch { ended: true, ..Batch::default() });
        }
        let mut answer = self.fetch(limit).await?;
        if self.prove(&mut answer)? {
            return Ok(self.accept(answer));
        }
        self.iterator = answer.next_shard_iterator;
        Ok(Batch { behind: true, ..Batch::default() })
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::config::{BehaviorVersion, Config};

    use super::*;

    fn reader() -> KinesisReader {
        let client = Client::from_conf(Config::builder().behavior_version(BehaviorVersion::latest()).build());
        let (stream, shard) = ("s".to_owned(), "0".to_owned());
        let (after, since_ms, iterator, unproven) = (None, None, None, None);
        KinesisReader { client, stream, shard, after, since_ms, iterator, unproven, ended: false }
    }

    fn nothing(behind_ms: i64) -> GetRecordsOutput {
        let answer = GetRecordsOutput::builder().set_records(Some(Vec::new())).next_shard_iterator("next");
        answer.millis_behind_latest(behind_ms).build().unwrap()
    }

    #[test]
    fn an_idle_shard_without_the_record_of_the_position_is_trimmed_after_a_few_reads() {
        let mut idle = KinesisReader { after: Some("17".into()), unproven: Some(0), ..reader() };
        let end = (0..EMPTY_ANSWERS).map(|_| idle.prove(&mut nothing(0))).collect::<Vec<_>>();
        assert_eq!(end.last(), Some(&Err(EventLogError::Trimmed("17".into()))));
        assert!(end[..end.len() - 1].iter().all(|end| *end == Ok(false)), "{end:?}");
        let mut busy = KinesisReader { after: Some("17".into()), unproven: Some(0), ..reader() };
        assert!((0..100).all(|_| busy.prove(&mut nothing(5_000)) == Ok(false)), "Kinesis has not looked everywhere");
    }

    #[test]
    fn a_reader_that_begins_at_a_time_passes_over_leading_records_from_before_it() {
        let record = |sequence: &str, at_ms: i64| {
            let record = Record::builder().sequence_number(sequence).partition_key("p");
            let at = DateTime::from_millis(at_ms);
            record.approximate_arrival_timestamp(at).data(aws_sdk_kinesis::primitives::Blob::new("")).build().unwrap()
        };
        let mut reader = KinesisReader { since_ms: Some(5_900), ..reader() };
        let answer = |records: Vec<Record>| {
            let mut answer = nothing(0);
            answer.records = records;
            answer
        };
        assert_eq!(reader.accept(answer(vec![record("1", 4_000)])).records, []);
        assert_eq!(reader.after, None, "nothing was returned, so a new iterator begins at the time again");
        let batch = reader.accept(answer(vec![record("2", 4_890), record("3", 5_000), record("4", 4_890)]));
        let sequences: Vec<&str> = batch.records.iter().map(|(sequence, _)| sequence.as_str()).collect();
        assert_eq!(sequences, ["3", "4"], "whole seconds, which need not grow from record to record");
        assert_eq!((reader.after.as_deref(), reader.since_ms), (Some("4"), None));
    }

    #[test]
    fn an_empty_answer_is_the_end_only_when_nothing_is_behind_it() {
        assert!(!reader().accept(nothing(0)).behind);
        assert!(reader().accept(nothing(5_000)).behind, "Kinesis may give empty answers for a while");
    }
}
