//! Appends records: requests that Kinesis takes, and one answer per record.
//!
//! The SDK does not repeat these calls. The publisher knows which records are still missing, and repeats those alone.

use std::borrow::Cow;
use std::ops::Range;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::Config;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use sha2::{Digest, Sha256};

use super::errors::{by_code, explain};
use crate::seams::eventlog::limits::{RECORD_BYTES, REQUEST_BYTES, REQUEST_RECORDS};
use crate::seams::eventlog::{EventLogError, Record};

/// Longest partition key that Kinesis takes, in characters. A project's name may be longer.
const KEY_CHARACTERS: usize = 256;

type Answers = Vec<Result<(), EventLogError>>;

/// Appends all records, in as many requests as it takes. If the first request fails as a whole, the call fails with its
/// error. If a later one does, its records and all that follow get that error as their answer, and the rest is not
/// sent.
pub(super) async fn append(client: &Client, stream: &str, records: &[Record]) -> Result<Answers, EventLogError> {
    let mut answers: Answers = Vec::with_capacity(records.len());
    for range in requests(records) {
        let first = range.start == 0;
        match put(client, stream, &records[range]).await {
            Ok(more) => answers.extend(more),
            Err(error) if first => return Err(error),
            Err(error) => {
                answers.resize(records.len(), Err(error));
                break;
            }
        }
    }
    Ok(answers)
}

/// Cuts the records into requests within the limits of Kinesis.
fn requests(records: &[Record]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, record) in records.iter().enumerate() {
        let size = size(record);
        if index > start && (index - start == REQUEST_RECORDS || bytes + size > REQUEST_BYTES) {
            ranges.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < records.len() {
        ranges.push(start..records.len());
    }
    ranges
}

/// The size of a record in a request. A record that is too large is not sent, so its size is 0.
fn size(record: &Record) -> usize {
    let bytes = key(&record.partition_key).len() + record.data.len();
    if bytes > RECORD_BYTES { 0 } else { bytes }
}

/// Sends one request. A record that is too large is left out, so that it does not fail the others.
async fn put(client: &Client, stream: &str, records: &[Record]) -> Result<Answers, EventLogError> {
    let mut answers: Answers = records.iter().map(check).collect();
    let sent: Vec<usize> = (0..records.len()).filter(|index| answers[*index].is_ok()).collect();
    if sent.is_empty() {
        return Ok(answers);
    }
    let what = format!("stream {stream}");
    let entries: Result<Vec<_>, _> = sent.iter().map(|index| entry(&records[*index])).collect();
    let once = Config::builder().retry_config(RetryConfig::disabled());
    let call = client.put_records().stream_name(stream).set_records(Some(entries?)).customize().config_override(once);
    let results = call.send().await.map_err(|error| explain(&error, &what))?.records;
    if results.len() != sent.len() {
        let (given, wanted) = (results.len(), sent.len());
        return Err(EventLogError::NotNow(format!("{what}: Kinesis gave {given} answers for {wanted} records")));
    }
    for (index, result) in sent.into_iter().zip(results) {
        answers[index] = answer(&result, &what);
    }
    Ok(answers)
}

fn check(record: &Record) -> Result<(), EventLogError> {
    let bytes = key(&record.partition_key).len() + record.data.len();
    if bytes > RECORD_BYTES {
        return Err(EventLogError::TooLarge { bytes, limit: RECORD_BYTES });
    }
    Ok(())
}

fn entry(record: &Record) -> Result<PutRecordsRequestEntry, EventLogError> {
    PutRecordsRequestEntry::builder()
        .partition_key(key(&record.partition_key))
        .data(Blob::new(record.data.clone()))
        .build()
        .map_err(|error| EventLogError::Broken(error.to_string()))
}

/// A key that Kinesis takes. A key that is empty or too long is replaced by its hash, which is the same on every node.
fn key(text: &str) -> Cow<'_, str> {
    if (1..=KEY_CHARACTERS).contains(&text.chars().count()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(hex::encode(Sha256::digest(text.as_bytes())))
}

fn answer(result: &PutRecordsResultEntry, what: &str) -> Result<(), EventLogError> {
    match result.error_code() {
        None => Ok(()),
        Some(code) => Err(by_code(code, result.error_message().unwrap_or_default(), what)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(bytes: usize) -> Record {
        Record { partition_key: "p".to_owned(), data: Bytes::from(vec![0; bytes]) }
    }

    #[test]
    fn requests_keep_both_limits_and_every_record() {
        assert!(requests(&[]).is_empty());
        assert_eq!(requests(&vec![record(1); 1_001]), vec![0..500, 500..1_000, 1_000..1_001]);
        let large = vec![record(RECORD_BYTES - 1); 6];
        assert_eq!(requests(&large), vec![0..5, 5..6]);
    }

    #[test]
    fn a_key_that_kinesis_refuses_is_hashed() {
        assert_eq!(key("tools/build"), "tools/build");
        assert_eq!(key("").len(), 64);
        assert_eq!(key(&"x".repeat(256)).len(), 256);
        assert_eq!(key(&"x".repeat(257)).len(), 64);
        assert_ne!(key(&"x".repeat(257)), key(&"x".repeat(258)));
    }
}
