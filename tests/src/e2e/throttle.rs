//! DynamoDB's limits on one part of the refdb: a forwarder in front of the emulator that takes a number of items per
//! second of the part, while a test says so, and answers the rest in the words of the real service.
//!
//! A transaction for whose items there is no room is cancelled as a whole, with one reason per item. A batch read
//! brings the items for which there is room, and names the others as unprocessed; without any it is refused. Any other
//! call is refused. Calls on other parts pass.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lockstep_proto::LaneId;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::aws::forwarder::forward;

/// The most bytes of a request: DynamoDB takes 16 MiB.
const MOST: usize = 16 << 20;

/// A forwarder to a DynamoDB. It ends when this is dropped.
#[derive(Debug)]
pub struct Throttle {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    limit: Mutex<Option<Limit>>,
    refused: AtomicU64,
    left_out: AtomicU64,
}

/// A part of the refdb that a test may limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The partition of a project, whose incarnation is the first.
    Project(String),
    /// The slots of a lane. Each is a partition of its own.
    Lane(LaneId),
}

impl Part {
    fn has(&self, partition: &str) -> bool {
        match self {
            Self::Project(project) => partition == format!("p#{project}#1"),
            Self::Lane(lane) => partition.strip_prefix(&lane.to_string()).is_some_and(|rest| rest.starts_with('.')),
        }
    }
}

/// A limited part, and the number of its items that it takes now.
#[derive(Debug)]
struct Limit {
    part: Part,
    per_second: f64,
    burst: f64,
    room: f64,
    at: Instant,
}

impl Limit {
    /// Whether a call, an item of a transaction or a key is about the part.
    fn touches(&self, operation: &Value) -> bool {
        let places = [
            &operation["Key"]["pk"]["S"],
            &operation["Item"]["pk"]["S"],
            &operation["pk"]["S"],
            &operation["ExpressionAttributeValues"][":pk"]["S"],
        ];
        places.iter().filter_map(|place| place.as_str()).any(|partition| self.part.has(partition))
    }

    /// Takes as many of these items as there is room for.
    fn take(&mut self, items: usize) -> usize {
        let now = Instant::now();
        let gained = now.duration_since(self.at).as_secs_f64() * self.per_second;
        (self.room, self.at) = ((self.room + gained).min(self.burst), now);
        let taken = items.min(self.room as usize);
        self.room -= taken as f64;
        taken
    }

    /// Takes these items if there is room for all of them.
    fn take_all(&mut self, items: usize) -> bool {
        let taken = self.take(items);
        if taken < items {
            self.room += taken as f64;
        }
        taken == items
    }
}

/// The answer of the limit to a call.
enum Judged {
    Passes,
    Refused(Value),
    /// The call without some keys, and those as the answer names them.
    InPart(Value, Value),
}

impl Throttle {
    /// Starts a forwarder to the server at a URL (`http://address:port`).
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn to(url: &str) -> Self {
        let target = url.trim_start_matches("http://").parse().expect("a URL of an emulator");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let limit = Mutex::default();
        let shared = Arc::new(Shared { target, limit, refused: AtomicU64::new(0), left_out: AtomicU64::new(0) });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { address, shared, server }
    }

    /// The URL of this end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Refuses calls on a part from now on.
    pub fn refuse(&self, part: Part) {
        self.limit(part, 0.0, 0.0);
    }

    /// Takes at most so many items of a part per second from now on, and at most `burst` at once.
    pub fn limit(&self, part: Part, per_second: f64, burst: f64) {
        *self.shared.limit.lock() = Some(Limit { part, per_second, burst, room: burst, at: Instant::now() });
    }

    /// Takes all calls from now on.
    pub fn lift(&self) {
        *self.shared.limit.lock() = None;
    }

    /// The number of calls that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The number of keys that batch reads left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.shared.left_out.load(Ordering::Relaxed)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, MOST).await else { return StatusCode::BAD_REQUEST.into_response() };
    let judged = shared.limit.lock().as_mut().map_or(Judged::Passes, |limit| judge(&bytes, limit));
    let (bytes, unprocessed) = match judged {
        Judged::Passes => (bytes, None),
        Judged::Refused(refusal) => {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            return json_answer(StatusCode::BAD_REQUEST, &refusal);
        }
        Judged::InPart(call, unprocessed) => (call.to_string().into(), Some(unprocessed)),
    };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let forwarded = forward(shared.target, Request::from_parts(parts, Body::from(bytes))).await;
    let Ok(response) = forwarded else { return StatusCode::BAD_GATEWAY.into_response() };
    match unprocessed {
        Some(unprocessed) if response.status().is_success() => {
            let keys = unprocessed.as_object().into_iter().flat_map(|tables| tables.values());
            let left_out: usize = keys.filter_map(|table| table["Keys"].as_array()).map(Vec::len).sum();
            shared.left_out.fetch_add(left_out as u64, Ordering::Relaxed);
            with_unprocessed(response, unprocessed).await
        }
        _ => response,
    }
}

/// Adds keys to the answer to a batch read.
async fn with_unprocessed(response: Response, unprocessed: Value) -> Response {
    let body = to_bytes(response.into_body(), MOST).await.unwrap_or_default();
    let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else { return StatusCode::BAD_GATEWAY.into_response() };
    answer["UnprocessedKeys"] = unprocessed;
    json_answer(StatusCode::OK, &answer)
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body.to_string()).into_response()
}

/// Holds a call against a limit, and takes the room that it needs.
fn judge(call: &[u8], limit: &mut Limit) -> Judged {
    let Ok(mut call) = serde_json::from_slice::<Value>(call) else { return Judged::Passes };
    // `{"Put": {...}}`: each item names its kind first.
    let touches = |limit: &Limit, item: &Value| {
        item.as_object().and_then(|item| item.values().next()).is_some_and(|operation| limit.touches(operation))
    };
    if let Some(items) = call["TransactItems"].as_array() {
        let touched: Vec<bool> = items.iter().map(|item| touches(limit, item)).collect();
        let wanted = touched.iter().filter(|touched| **touched).count();
        return if limit.take_all(wanted) { Judged::Passes } else { Judged::Refused(cancelled(&touched)) };
    }
    if let Some(judged) = judge_batch_read(&mut call, limit) {
        return judged;
    }
    let writes = call["RequestItems"].as_object().into_iter().flat_map(|tables| tables.values());
    let written = writes.filter_map(Value::as_array).flatten().filter(|item| touches(limit, item)).count();
    let wanted = written + usize::from(limit.touches(&call));
    if limit.take_all(wanted) { Judged::Passes } else { Judged::Refused(too_much()) }
}

/// None if the call is no batch read.
fn judge_batch_read(call: &mut Value, limit: &mut Limit) -> Option<Judged> {
    let (table, wanted) = call.get_mut("RequestItems")?.as_object_mut()?.iter_mut().next()?;
    let keys = wanted.get_mut("Keys")?.as_array_mut()?;
    let (mut limited, free): (Vec<Value>, Vec<Value>) =
        std::mem::take(keys).into_iter().partition(|key| limit.touches(key));
    let left = limited.split_off(limit.take(limited.len()));
    *keys = [free, limited].concat();
    if left.is_empty() {
        return Some(Judged::Passes);
    }
    if keys.is_empty() {
        return Some(Judged::Refused(too_much()));
    }
    let (table, mut unprocessed) = (table.clone(), wanted.clone());
    unprocessed["Keys"] = Value::Array(left);
    Some(Judged::InPart(call.take(), json!({ table: unprocessed })))
}

fn too_much() -> Value {
    let message = "Throughput exceeds the current capacity of a partition of your table";
    json!({"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": message})
}

/// The cancellation of a transaction, with a reason per item.
fn cancelled(touched: &[bool]) -> Value {
    let reason = |touched: &bool| match touched {
        true => json!({"Code": "ThrottlingError", "Message": "Throughput exceeds the current capacity"}),
        false => json!({"Code": "None"}),
    };
    let reasons: Vec<Value> = touched.iter().map(reason).collect();
    let __type = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    json!({"__type": __type, "Message": "Transaction cancelled", "CancellationReasons": reasons})
}
