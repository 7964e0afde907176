//! Faults of DynamoDB in front of its emulator, and tables that the emulator does not have.
//!
//! A test plans faults for the next calls of an operation. It can describe the tables as replicated, and refuse
//! transactions as tables with multi-Region strong consistency do. It can isolate the Region: each call then fails, and
//! nobody is told whether it took effect. None did.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::forwarder::forward;

/// The most bytes of a request or an answer: DynamoDB takes 16 MiB.
const MOST: usize = 16 << 20;

/// A fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call takes effect after this time.
    Delay(Duration),
    /// The call is throttled, with a hint when to come back.
    Throttled,
    /// A transaction holds the item.
    TransactionConflict,
    /// A write from another Region holds the item.
    WrittenElsewhere,
    /// The connection ends before the call took effect.
    Reset,
    /// The call takes effect, and the connection ends before the answer.
    AnswerLost,
    /// The credentials are expired.
    ExpiredCredentials,
    /// The clock of the caller is wrong.
    ClockSkew,
}

/// The replication of the tables, as `DescribeTable` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replicas {
    /// The tables are in one Region.
    #[default]
    None,
    /// The tables are in several Regions, strongly consistent. They take no transactions.
    Strong,
    /// The tables are in several Regions, eventually consistent.
    Eventual,
}

/// A DynamoDB with faults. It ends when this is dropped.
#[derive(Debug)]
pub struct FaultyDynamo {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    faults: BTreeMap<String, Vec<Fault>>,
    replicas: Replicas,
    is_isolated: bool,
    transactions: u64,
    calls: BTreeMap<String, u64>,
}

impl FaultyDynamo {
    /// Starts it in front of the server at a URL (`http://address:port`).
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn to(url: &str, replicas: Replicas) -> Self {
        let target = url.trim_start_matches("http://").parse().expect("a URL of an emulator");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { target, plan: Mutex::new(Plan { replicas, ..Plan::default() }) });
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { address, shared, server }
    }

    /// The URL of this end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Plans a fault for the next calls of an operation.
    pub fn fail(&self, operation: &str, times: usize, fault: Fault) {
        let mut plan = self.shared.plan.lock();
        plan.faults.entry(operation.to_owned()).or_default().extend(std::iter::repeat_n(fault, times));
    }

    /// Whether every planned fault has happened.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.plan.lock().faults.values().all(Vec::is_empty)
    }

    /// Describes the tables as replicated in another way from now on.
    pub fn replicate(&self, replicas: Replicas) {
        self.shared.plan.lock().replicas = replicas;
    }

    /// Isolates the Region from the others, or ends that.
    pub fn isolate(&self, is_isolated: bool) {
        self.shared.plan.lock().is_isolated = is_isolated;
    }

    /// The number of transactions that were sent to tables without transactions.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.shared.plan.lock().transactions
    }

    /// The number of calls of an operation so far.
    #[must_use]
    pub fn calls(&self, operation: &str) -> u64 {
        self.shared.plan.lock().calls.get(operation).copied().unwrap_or(0)
    }
}

impl Drop for FaultyDynamo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The way that a call goes.
enum Way {
    Passes,
    PassesAfter(Duration),
    PassesUnanswered,
    IsCut,
    Fails(StatusCode, &'static str),
    TellsReplicas(Replicas),
}

impl Plan {
    fn way(&mut self, operation: &str) -> Way {
        *self.calls.entry(operation.to_owned()).or_default() += 1;
        if self.is_isolated {
            return Way::Fails(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError");
        }
        if operation.starts_with("Transact") && self.replicas == Replicas::Strong {
            self.transactions += 1;
            return Way::Fails(StatusCode::BAD_REQUEST, "ValidationException");
        }
        let planned = self.faults.get_mut(operation).filter(|faults| !faults.is_empty());
        match planned.map(|faults| faults.remove(0)) {
            Some(Fault::Delay(time)) => Way::PassesAfter(time),
            Some(Fault::Throttled) => Way::Fails(StatusCode::BAD_REQUEST, "ThrottlingException"),
            Some(Fault::TransactionConflict) => Way::Fails(StatusCode::BAD_REQUEST, "TransactionConflictException"),
            Some(Fault::WrittenElsewhere) => Way::Fails(StatusCode::BAD_REQUEST, "ReplicatedWriteConflictException"),
            Some(Fault::Reset) => Way::IsCut,
            Some(Fault::AnswerLost) => Way::PassesUnanswered,
            Some(Fault::ExpiredCredentials) => Way::Fails(StatusCode::BAD_REQUEST, "ExpiredTokenException"),
            Some(Fault::ClockSkew) => Way::Fails(StatusCode::BAD_REQUEST, "InvalidSignatureException"),
            None if operation == "DescribeTable" => Way::TellsReplicas(self.replicas),
            None => Way::Passes,
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let way = shared.plan.lock().way(&operation);
    match way {
        Way::Passes => passed(shared.target, request).await,
        Way::PassesAfter(time) => {
            sleep(time).await;
            passed(shared.target, request).await
        }
        Way::PassesUnanswered => {
            // The whole answer is read, so that the call has taken effect.
            let _ = to_bytes(passed(shared.target, request).await.into_body(), MOST).await;
            cut()
        }
        Way::IsCut => cut(),
        Way::Fails(status, kind) => failed(status, kind),
        Way::TellsReplicas(replicas) => described(passed(shared.target, request).await, replicas).await,
    }
}

async fn passed(target: SocketAddr, request: Request) -> Response {
    forward(target, request).await.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
}

/// An answer whose connection ends in the middle.
fn cut() -> Response {
    let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut by a test");
    let body = futures::stream::iter([Ok(bytes::Bytes::from_static(b"{")), Err(broken)]);
    ([(header::CONTENT_TYPE, "application/x-amz-json-1.0")], Body::from_stream(body)).into_response()
}

fn failed(status: StatusCode, kind: &str) -> Response {
    let why = match kind {
        "ValidationException" => "Transactions are not supported on tables with multi-Region strong consistency",
        "InvalidSignatureException" => "Signature not yet current: the clock of the caller is ahead",
        _ => "a test asks for it",
    };
    let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{kind}"), "message": why});
    let headers = [(header::CONTENT_TYPE, "application/x-amz-json-1.0"), (header::RETRY_AFTER, "1")];
    (status, headers, body.to_string()).into_response()
}

/// The description of a table, with its replicas.
async fn described(answer: Response, replicas: Replicas) -> Response {
    let (parts, body) = answer.into_parts();
    let Ok(bytes) = to_bytes(body, MOST).await else { return cut() };
    let mut described: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let consistency = match replicas {
        Replicas::None => None,
        Replicas::Strong => Some("STRONG"),
        Replicas::Eventual => Some("EVENTUAL"),
    };
    if let (Some(consistency), Some(table)) = (consistency, described.get_mut("Table")) {
        let replica = |region: &str| json!({"RegionName": region, "ReplicaStatus": "ACTIVE"});
        table["Replicas"] = ["eu-west-1", "eu-west-2"].map(replica).to_vec().into();
        table["MultiRegionConsistency"] = consistency.into();
    }
    let headers = [(header::CONTENT_TYPE, "application/x-amz-json-1.0")];
    (parts.status, headers, described.to_string()).into_response()
}
