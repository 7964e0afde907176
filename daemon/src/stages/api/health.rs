//! Health and metrics: `/livez`, `/startz`, `/readyz`, `/writez`, `/metrics`. They have a listener and a thread of
//! their own, so that they answer even when the pipeline's runtime is stuck.
//!
//! `/livez` answers 200 as long as this process runs, because a restart would cure nothing that `/readyz` reports.
//! `/readyz` answers 200 when every latch is open, and otherwise 503 with the name of each closed latch, one per line.
//! `/startz` answers 200 when the node is there. Before that, while its volume is opened, repaired or moved to a
//! rebuilt refdb, `/startz` and `/readyz` answer 503 and say how far that is.
//!
//! `/readyz?verbose` adds one line per latch, one per endpoint of AWS that cannot be reached, and one per project that
//! is not in order: a node with degraded projects is ready for all others.
//!
//! `/writez` answers 200 while the node is ready and takes writes, and otherwise 503, so that a load balancer follows a
//! failover. Either answer has the role of the node's site and the active sites.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use lockstep_proto::SiteId;
use tokio_util::sync::CancellationToken;

use super::readiness::Latches;
use super::serve::{Bounds, SILENCE, serve};

/// The bounds of the listener. Only a few probes and scrapers call it.
const BOUNDS: Bounds = Bounds { connections: 256, silence: SILENCE, keep_alive: true };

/// Renders all metrics in the text format of Prometheus.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// A bound health listener that does not serve yet.
#[derive(Debug)]
pub struct BoundHealth(TcpListener);

/// Describes the endpoints out of reach, and the projects that are not in order, one line each. Must not wait for
/// anything.
pub type DescribeProjects = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Describes the present step of the start, in one line. Must not wait for anything.
pub type DescribeStart = Arc<dyn Fn() -> String + Send + Sync>;

/// Whether a node takes writes, and where they go.
#[derive(Clone, Debug)]
pub struct Writes {
    /// Whether the node takes writes now.
    pub taken: bool,
    /// The role of the node's site.
    pub role: &'static str,
    /// The sites that are active.
    pub active: Vec<SiteId>,
}

/// Tells whether the node takes writes. Must not wait for anything.
pub type DescribeWrites = Arc<dyn Fn() -> Writes + Send + Sync>;

/// The answers of the listener. Clones share them.
#[derive(Clone)]
pub struct Health {
    start: DescribeStart,
    metrics: RenderMetrics,
    node: Arc<OnceLock<NodeHealth>>,
}

/// The answers about a node that is there.
struct NodeHealth {
    latches: Latches,
    metrics: RenderMetrics,
    projects: DescribeProjects,
    writes: DescribeWrites,
}

impl Health {
    /// The answers while the node starts. `metrics` renders those that need no node.
    #[must_use]
    pub fn starting(start: DescribeStart, metrics: RenderMetrics) -> Self {
        Self { start, metrics, node: Arc::default() }
    }

    /// The node is there: answers about it from now on. A second call changes nothing.
    pub fn serve(&self, latches: Latches, metrics: RenderMetrics, projects: DescribeProjects, writes: DescribeWrites) {
        let _ = self.node.set(NodeHealth { latches, metrics, projects, writes });
    }

    /// The answer about a node that is not there yet.
    fn starts(&self) -> (StatusCode, String) {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: start\n{}\n", (self.start)()))
    }
}

impl BoundHealth {
    /// Binds the address.
    ///
    /// # Errors
    /// The operating system refuses the address.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The address on which it listens, with the real port when port 0 was asked for.
    ///
    /// # Errors
    /// The operating system cannot tell the address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Starts a thread that serves until `shutdown` is cancelled.
    ///
    /// # Errors
    /// The thread or its runtime cannot be started.
    pub fn spawn(self, health: Health, shutdown: CancellationToken) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = router(health);
        std::thread::Builder::new().name("health".to_owned()).spawn(move || {
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(self.0) {
                    Ok(listener) => serve(listener, router, BOUNDS, shutdown).await,
                    Err(error) => tracing::error!(%error, "health and metrics cannot be served; restart this sidecar"),
                }
            });
        })
    }
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/startz", get(startz))
        .route("/readyz", get(readyz))
        .route("/writez", get(writez))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn startz(State(health): State<Health>) -> (StatusCode, String) {
    match health.node.get() {
        Some(_) => (StatusCode::OK, "ok\n".to_owned()),
        None => health.starts(),
    }
}

async fn readyz(State(health): State<Health>, RawQuery(query): RawQuery) -> (StatusCode, String) {
    let Some(health) = health.node.get() else { return health.starts() };
    let closed = health.latches.closed();
    let mut lines = match closed.is_empty() {
        true => "ok\n".to_owned(),
        false => waiting(&closed),
    };
    if query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="))) {
        lines.extend(
            health
                .latches
                .status()
                .iter()
                .map(|latch| format!("latch {}: {}\n", latch.name, if latch.open { "open" } else { "closed" })),
        );
        lines.extend((health.projects)().into_iter().map(|line| line + "\n"));
    }
    let status = if closed.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, lines)
}

async fn writez(State(health): State<Health>) -> (StatusCode, String) {
    let Some(health) = health.node.get() else { return health.starts() };
    let (closed, Writes { taken, role, active }) = (health.latches.closed(), (health.writes)());
    let taken = taken && closed.is_empty();
    let active: Vec<String> = active.iter().map(ToString::to_string).collect();
    let (answer, active) = (if taken { "yes" } else { "no" }, active.join(" "));
    let lines = format!("takes writes: {answer}\nrole: {role}\nactive: {active}\n{}", waiting(&closed));
    (if taken { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, lines)
}

/// One line per closed latch.
fn waiting(closed: &[String]) -> String {
    closed.iter().map(|name| format!("waiting for: {name}\n")).collect()
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    let render = health.node.get().map_or(&health.metrics, |node| &node.metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], render())
}
