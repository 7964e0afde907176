//! Subscriptions of the Kinesis emulator.
//!
//! When the emulator checks a request, it loses the sequence number of the starting position, and would begin at the
//! oldest record. So a subscription is made here from the whole request. Its events are made step by step while no
//! other call changes something: the emulator first numbers a record and then stores it, and an event between these two
//! steps would miss the record for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use ferrokinesis::actions::subscribe_to_shard::execute_streaming;
use ferrokinesis::store::Store;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use serde_json::Value;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// Most bytes of a request. It has two names and a position.
const MOST_BYTES: usize = 64 << 10;

/// The form of requests and answers.
const JSON: &str = "application/x-amz-json-1.1";

/// Answers a request for a subscription. Calls that change something hold `lock` alone.
pub(super) async fn subscribe(store: &Store, lock: Arc<RwLock<()>>, request: Request) -> Response {
    let read = to_bytes(request.into_body(), MOST_BYTES).await;
    let Ok(bytes) = read else { return StatusCode::BAD_REQUEST.into_response() };
    let _shared = Arc::clone(&lock).read_owned().await;
    let call: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match execute_streaming(store, call, JSON).await {
        Ok(events) => {
            let events = Events { inner: events.into_data_stream(), lock, turn: None };
            let kind = [(header::CONTENT_TYPE, "application/vnd.amazon.eventstream")];
            (kind, Body::from_stream(events)).into_response()
        }
        Err(refused) => {
            let status = StatusCode::from_u16(refused.status_code).unwrap_or(StatusCode::BAD_REQUEST);
            let kind = [(header::CONTENT_TYPE, JSON)];
            (status, kind, serde_json::to_string(&refused.body).unwrap_or_default()).into_response()
        }
    }
}

/// The events of a subscription. Each step waits until no call changes something.
struct Events {
    inner: BodyDataStream,
    lock: Arc<RwLock<()>>,
    /// The wait for the next step.
    turn: Option<BoxFuture<'static, OwnedRwLockReadGuard<()>>>,
}

impl Stream for Events {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let lock = &this.lock;
        let turn = this.turn.get_or_insert_with(|| Arc::clone(lock).read_owned().boxed());
        let _shared = ready!(turn.poll_unpin(context));
        this.turn = None;
        Pin::new(&mut this.inner).poll_next(context)
    }
}
