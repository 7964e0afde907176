//! Health and metrics: `/livez`, `/readyz`, `/metrics`, on a listener and a thread of their own, so that they
//! answer when the pipeline's runtime is stuck.
//!
//! `/livez` is 200 as long as this process runs: a restart cures nothing that readiness can show. `/readyz` is
//! 200 when every latch is open, else 503 with the names of the closed ones, one a line.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use super::latch::Latches;
use super::serve::{Bounds, SILENCE, serve};

/// Probes and scrapers are few.
const BOUNDS: Bounds = Bounds { connections: 256, silence: SILENCE };

/// Renders the metrics in Prometheus' text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// A bound health listener, not served yet.
#[derive(Debug)]
pub struct BoundHealth(TcpListener);

#[derive(Clone)]
struct Health {
    latches: Latches,
    metrics: RenderMetrics,
}

impl BoundHealth {
    /// Binds the address.
    ///
    /// # Errors
    /// The operating system refuses it.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system does not know.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves on a thread of its own until `shutdown`.
    ///
    /// # Errors
    /// The thread or its runtime cannot be started.
    pub fn spawn(
        self,
        latches: Latches,
        metrics: RenderMetrics,
        shutdown: CancellationToken,
    ) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = router(Health { latches, metrics });
        std::thread::Builder::new().name("health".to_owned()).spawn(move || {
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(self.0) {
                    Ok(listener) => serve(listener, router, BOUNDS, shutdown).await,
                    Err(error) => tracing::error!(%error, "health and metrics cannot be served"),
                }
            });
        })
    }
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let closed = health.latches.closed();
    if closed.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines: String = closed.iter().map(|name| format!("waiting for: {name}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], (health.metrics)())
}
