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
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ferrokinesis::actions::subscribe_to_shard::execute_streaming;
use ferrokinesis::store::Store;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use serde_json::Value;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// Most bytes of a request. It has two names and a position.
const MOST_BYTES: usize = 64 << 10;

/// Answers a request for a subscription. Calls that change something hold `lock` alone.
pub(super) async fn subscribe(store: &Store, lock: Arc<RwLock<()>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, MOST_BYTES).await else { return StatusCode::BAD_REQUEST.into_response() };
    let shared = Arc::clone(&lock).read_owned().await;
    let call: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    match execute_streaming(store, call, "application/x-amz-json-1.1").await {
        Ok(events) => {
            let events = Events { inner: events.into_data_stream(), lock, turn: None };
            let kind = [(header::CONTENT_TYPE, "application/vnd.amazon.eventstream")];
            (kind, Body::from_stream(events)).into_response()
        }
        Err(_) => {
            // The emulator refuses it again, and answers in its own form.
            drop(shared);
            let _shared = lock.read().await;
            next.run(Request::from_parts(parts, Body::from(bytes))).await
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
