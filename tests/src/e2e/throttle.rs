//! DynamoDB's limits on one partition: a forwarder in front of the emulator that refuses calls on a partition of the
//! refs table while a test says so, in the words of the real service.
//!
//! A transaction with an item of the partition is cancelled as a whole, with one reason per item. Any other call on the
//! partition is refused. Calls on other partitions pass.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

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
    partition: Mutex<Option<String>>,
    refused: AtomicU64,
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
        let shared = Arc::new(Shared { target, partition: Mutex::default(), refused: AtomicU64::new(0) });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { address, shared, server }
    }

    /// The URL of this end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Refuses calls on the partition of a project, whose incarnation is the first, from now on. None refuses none.
    pub fn refuse(&self, project: Option<&str>) {
        *self.shared.partition.lock() = project.map(|project| format!("\"p#{project}#1\""));
    }

    /// The number of calls that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, MOST).await else { return StatusCode::BAD_REQUEST.into_response() };
    let partition = shared.partition.lock().clone();
    if let Some(refusal) = partition.and_then(|partition| refusal(&bytes, &partition)) {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        let body = refusal.to_string();
        return (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body).into_response();
    }
    let forwarded = forward(shared.target, Request::from_parts(parts, Body::from(bytes))).await;
    forwarded.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
}

/// The refusal of a call, if it touches the partition.
fn refusal(call: &[u8], partition: &str) -> Option<Value> {
    let touches = |text: &str| text.contains(partition);
    let call: Value = std::str::from_utf8(call).ok().filter(|text| touches(text)).map(serde_json::from_str)?.ok()?;
    let Some(items) = call["TransactItems"].as_array() else {
        let message = "Throughput exceeds the current capacity of a partition of your table";
        return Some(json!({"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": message}));
    };
    let reason = |item: &Value| match touches(&item.to_string()) {
        true => json!({"Code": "ThrottlingError", "Message": "Throughput exceeds the current capacity"}),
        false => json!({"Code": "None"}),
    };
    let reasons: Vec<Value> = items.iter().map(reason).collect();
    let __type = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
    Some(json!({"__type": __type, "Message": "Transaction cancelled", "CancellationReasons": reasons}))
}
