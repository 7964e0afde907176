//! A forwarder in front of an emulator of DynamoDB or Kinesis. It records every call with its kind of resource, a
//! transaction by its items, and denies or answers what a test says.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lockstep::seams::aws::calls::On;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::record::Record;

/// The most bytes of a request: DynamoDB takes 16 MiB.
const MOST: usize = 16 << 20;

/// A forwarder. It ends when this is dropped.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    target: SocketAddr,
    record: Arc<Record>,
}

impl Forwarder {
    /// Starts a forwarder to the server at a URL (`http://address:port`).
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn to(url: &str, record: &Arc<Record>) -> Self {
        let target = url.trim_start_matches("http://").parse().expect("a URL of an emulator");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().fallback(answer).with_state(Shared { target, record: Arc::clone(record) });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { address, server }
    }

    /// The URL of this end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(Shared { target, record }): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, MOST).await else { return StatusCode::BAD_REQUEST.into_response() };
    let name = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (service, operation) = name.split_once('.').unwrap_or(("", name));
    let call: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    note(&record, service, operation, &call);
    if record.denies(operation) {
        let message =
            format!("User: lockstep-test is not authorized to perform: {operation} because no policy allows it");
        let body = json!({"__type": "AccessDeniedException", "message": message, "Message": message}).to_string();
        return reply(StatusCode::BAD_REQUEST, body);
    }
    if let Some(text) = record.answer_to(operation) {
        return reply(StatusCode::OK, text);
    }
    let forwarded = forward(target, Request::from_parts(parts, Body::from(bytes))).await;
    forwarded.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
}

fn reply(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body).into_response()
}

/// Notes a call by its operation and its resource, and a transaction by each of its items.
fn note(record: &Record, service: &str, operation: &str, call: &Value) {
    if service.starts_with("Kinesis") {
        return record.note(operation, On::Streams);
    }
    if let Some(items) = call["TransactItems"].as_array() {
        for (kind, item) in items.iter().filter_map(Value::as_object).flatten() {
            record.note(&format!("{operation}/{kind}"), table(&item["TableName"]));
        }
    } else if let Some(requests) = call["RequestItems"].as_object() {
        requests.keys().for_each(|name| record.note(operation, table(&json!(name))));
    } else if call.get("BackupArn").is_some() {
        record.note(operation, On::Backups);
    } else {
        let name = call.get("TableName").or_else(|| call.get("ResourceArn")).unwrap_or(&Value::Null);
        record.note(operation, table(name));
    }
}

/// The kind of a table by its name or its ARN.
fn table(name: &Value) -> On {
    match name.as_str().unwrap_or_default() {
        name if name.ends_with("-refs") => On::Refs,
        name if name.ends_with("-journal") => On::Journal,
        name => panic!("{name:?} is no table of a refdb"),
    }
}

/// Passes a request on, over a connection of its own.
///
/// # Errors
/// The server does not answer.
pub async fn forward(
    target: SocketAddr,
    request: Request,
) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    drop(tokio::spawn(connection));
    Ok(sender.send_request(request).await?.map(Body::new))
}
