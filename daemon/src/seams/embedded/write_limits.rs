//! The write limits of Kinesis in front of the emulator: bytes and records per second and shard, answers in part, and
//! lost answers.
//!
//! A shard takes a burst of one second. A record that meets a limit is refused by itself, and others of the same
//! request are taken, even later ones. Tests read from here how many records the streams took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::seams::eventlog::limits::REQUEST_BYTES;

/// The limits of each stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteLimits {
    /// The number of shards that share the records of a stream by their partition keys.
    pub shards: u64,
    /// Bytes per second and shard.
    pub bytes: u64,
    /// Records per second and shard.
    pub records: u64,
    /// Of the requests of which records are taken, every one whose number is a multiple of this loses its answer. None:
    /// no answer is lost.
    pub lose_every: Option<u64>,
}

/// The answers of the limits to records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Number of records that were taken.
    pub taken: u64,
    /// Bytes of the records that were taken: data and partition keys.
    pub taken_bytes: u64,
    /// Number of records that were refused.
    pub refused: u64,
    /// Number of records that were taken and whose answer was lost.
    pub lost: u64,
}

/// The tokens of one shard: bytes and records that it takes now.
#[derive(Debug)]
struct Bucket {
    bytes: f64,
    records: f64,
    at: Instant,
}

/// The limits at work, and what was taken.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: WriteLimits,
    buckets: Mutex<BTreeMap<(String, u64), Bucket>>,
    requests: AtomicU64,
    answered: Mutex<Answered>,
}

impl Limiter {
    pub(super) fn new(limits: WriteLimits) -> Self {
        Self { limits, buckets: Mutex::default(), requests: AtomicU64::new(0), answered: Mutex::default() }
    }

    /// The answers so far.
    pub(super) fn answered(&self) -> Answered {
        *self.answered.lock()
    }

    /// Passes one request on, or refuses it if it exceeds a limit.
    pub(super) async fn enforce(&self, request: Request, next: Next) -> Response {
        let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !target.ends_with(".PutRecords") {
            return next.run(request).await;
        }
        let answer = self.put_records(request, next).await;
        answer.unwrap_or_else(|why| (StatusCode::INTERNAL_SERVER_ERROR, why).into_response())
    }

    async fn put_records(&self, request: Request, next: Next) -> Result<Response, String> {
        let (mut parts, body) = request.into_parts();
        let mut call = json_of(body).await?;
        let stream = call["StreamName"].as_str().unwrap_or_default().to_owned();
        let records = call["Records"].as_array_mut().map(std::mem::take).ok_or("a PutRecords without records")?;
        let admitted: Vec<bool> = records.iter().map(|record| self.admit(&stream, record)).collect();
        if !admitted.contains(&true) {
            return Ok(answer(&merged(&admitted, Vec::new())));
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let is_lost = self.limits.lose_every.is_some_and(|every| number.is_multiple_of(every));
        let mut flags = admitted.iter();
        let rest = records.into_iter().filter(|_| flags.next().copied().unwrap_or(false));
        call["Records"] = rest.collect();
        let bytes = Bytes::from(call.to_string());
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
        if !response.status().is_success() {
            return Ok(response);
        }
        if is_lost {
            self.answered.lock().lost += admitted.iter().filter(|admits| **admits).count() as u64;
            return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
        }
        let mut given = json_of(response.into_body()).await?;
        let results = given["Records"].as_array_mut().map(std::mem::take).unwrap_or_default();
        Ok(answer(&merged(&admitted, results)))
    }

    /// Whether the shard of a record takes it now.
    fn admit(&self, stream: &str, record: &Value) -> bool {
        let key = record["PartitionKey"].as_str().unwrap_or_default();
        let data = record["Data"].as_str().unwrap_or_default();
        let size = data.len() / 4 * 3 + key.len();
        let bytes = size as f64;
        let digest = Sha256::digest(key.as_bytes());
        let shard = u64::from(digest[0]) % self.limits.shards.max(1);
        let (most_bytes, most_records) = (self.limits.bytes as f64, self.limits.records as f64);
        let mut buckets = self.buckets.lock();
        let full = || Bucket { bytes: most_bytes, records: most_records, at: Instant::now() };
        let bucket = buckets.entry((stream.to_owned(), shard)).or_insert_with(full);
        let passed = bucket.at.elapsed().as_secs_f64();
        bucket.at = Instant::now();
        bucket.bytes = (bucket.bytes + passed * most_bytes).min(most_bytes);
        bucket.records = (bucket.records + passed * most_records).min(most_records);
        let admits = bucket.bytes >= bytes && bucket.records >= 1.0;
        let mut answered = self.answered.lock();
        if admits {
            bucket.bytes -= bytes;
            bucket.records -= 1.0;
            answered.taken += 1;
            answered.taken_bytes += size as u64;
        } else {
            answered.refused += 1;
        }
        admits
    }
}

async fn json_of(body: Body) -> Result<Value, String> {
    let bytes = to_bytes(body, REQUEST_BYTES * 2).await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// The answer to the whole request: the emulator's answers to the admitted records, and a refusal of each other one.
fn merged(admitted: &[bool], results: Vec<Value>) -> Value {
    let mut results = results.into_iter();
    let records: Vec<Value> = admitted
        .iter()
        .map(|admits| match admits {
            true => results.next().unwrap_or_else(refusal),
            false => refusal(),
        })
        .collect();
    let failed = records.iter().filter(|record| record.get("ErrorCode").is_some()).count();
    json!({ "FailedRecordCount": failed, "Records": records })
}

fn refusal() -> Value {
    json!({ "ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded for shard" })
}

fn answer(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/x-amz-json-1.1")], value.to_string()).into_response()
}
