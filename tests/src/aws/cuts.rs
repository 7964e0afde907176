//! A forwarder in front of an emulator of Kinesis that treats subscriptions as AWS does: it cuts them, refuses them,
//! lets another one take them over, and denies them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::forwarder::forward;

/// The faults of the next subscriptions.
#[derive(Debug, Default)]
pub struct SubscriptionFaults {
    /// A subscription is cut after this many pieces of its answer. Zero: never.
    pub cut_after: AtomicUsize,
    /// A subscription that is cut says that another one took its place.
    pub taken_over: AtomicBool,
    /// This many subscriptions are refused, because the one before is too young.
    pub in_use: AtomicUsize,
    /// Every subscription is denied.
    pub denied: AtomicBool,
    /// The number of subscriptions that were accepted.
    pub accepted: AtomicUsize,
}

/// A forwarder with faults. It ends when this is dropped.
pub struct Cuts {
    /// The faults, which a test may change at any time.
    pub faults: Arc<SubscriptionFaults>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Cuts {
    /// Starts a forwarder to the server at a URL (`http://address:port`).
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn before(url: &str) -> Self {
        let target: SocketAddr = url.trim_start_matches("http://").parse().expect("a URL of an emulator");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let faults = Arc::<SubscriptionFaults>::default();
        let app = Router::new().fallback(answer).with_state((target, Arc::clone(&faults)));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { faults, address, server }
    }

    /// The URL of this end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Cuts {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State((target, faults)): State<(SocketAddr, Arc<SubscriptionFaults>)>, request: Request) -> Response {
    let operation = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !operation.ends_with(".SubscribeToShard") {
        return forward(target, request).await.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response());
    }
    if faults.denied.load(Ordering::SeqCst) {
        return refusal("AccessDeniedException", "no policy allows kinesis:SubscribeToShard");
    }
    let fewer = |left: usize| left.checked_sub(1);
    if faults.in_use.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() {
        return refusal("ResourceInUseException", "the subscription before is younger than 5 seconds");
    }
    let Ok(response) = forward(target, request).await else { return StatusCode::BAD_GATEWAY.into_response() };
    if response.status() != StatusCode::OK {
        return response;
    }
    faults.accepted.fetch_add(1, Ordering::SeqCst);
    let pieces = faults.cut_after.load(Ordering::SeqCst);
    if pieces == 0 {
        return response;
    }
    let is_taken = faults.taken_over.load(Ordering::SeqCst);
    let last = is_taken.then(|| Ok(Bytes::from(exception("ResourceInUseException"))));
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::TRANSFER_ENCODING);
    let cut = body.into_data_stream().take(pieces).chain(stream::iter(last));
    Response::from_parts(parts, Body::from_stream(cut))
}

fn refusal(code: &str, message: &str) -> Response {
    let body = json!({"__type": code, "message": message}).to_string();
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], body).into_response()
}

/// An exception as a message of an event stream: lengths, headers and content, each part with its checksum.
fn exception(code: &str) -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in
        [(":message-type", "exception"), (":exception-type", code), (":content-type", "application/json")]
    {
        headers.push(u8::try_from(name.len()).expect("a short name"));
        headers.extend_from_slice(name.as_bytes());
        // The type of a text.
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).expect("a short value").to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let content = json!({"message": "another subscription took over"}).to_string();
    let length = |bytes: usize| u32::try_from(bytes).expect("a short message").to_be_bytes();
    let mut message = Vec::new();
    message.extend_from_slice(&length(headers.len() + content.len() + 16));
    message.extend_from_slice(&length(headers.len()));
    message.extend_from_slice(&checksum(&message));
    message.extend_from_slice(&headers);
    message.extend_from_slice(content.as_bytes());
    message.extend_from_slice(&checksum(&message));
    message
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_be_bytes()
}
