//! Kinesis in this process: the emulator `ferrokinesis` on a port of 127.0.0.1.
//!
//! Its streams live in memory and end with the process. A stream that is made again has another `created`, so every
//! node that reads it reconciles against the refdb, which is durable. The emulator can keep its state in a folder,
//! but writes **all of it** at each call; that is not used.
//!
//! The emulator numbers a record first and stores it after; a reader in between would go past it for ever. Calls
//! that change something therefore run one at a time, and no reader beside them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use ferrokinesis::retention::run_reaper;
use ferrokinesis::store::{Store, StoreOptions};
use ferrokinesis::{create_app, serve_plain_http};
use tokio::net::TcpListener;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Threads;
use crate::seams::eventlog::kinesis::ClientSettings;
use crate::seams::eventlog::limits::REQUEST_BYTES;

/// The region that the emulator plays.
const REGION: &str = "us-east-1";

/// How often records are looked at for their age, in seconds. A stream keeps them for 24 hours.
const RETENTION_LOOK_SECONDS: u64 = 60;

/// How the emulator behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedKinesisSettings {
    /// How long a stream takes to be made, changed or deleted.
    pub change_takes: Duration,
    /// How long an iterator lives, in seconds.
    pub iterator_seconds: u64,
    /// Whether a shard refuses more than Kinesis takes: 1 MiB or 1,000 records a second.
    pub throttles: bool,
}

impl Default for EmbeddedKinesisSettings {
    fn default() -> Self {
        Self { change_takes: Duration::from_millis(5), iterator_seconds: 300, throttles: false }
    }
}

/// A running emulator. It stops when this is dropped.
pub struct EmbeddedKinesis {
    address: SocketAddr,
    store: Store,
    stop: CancellationToken,
    server: JoinHandle<io::Result<()>>,
    _threads: Threads,
}

impl EmbeddedKinesis {
    /// Starts the emulator, without streams.
    pub async fn start(settings: &EmbeddedKinesisSettings) -> io::Result<Self> {
        let threads = Threads::start("kinesis")?;
        let listener = threads.spawn(TcpListener::bind(("127.0.0.1", 0))).await.map_err(io::Error::other)??;
        let address = listener.local_addr()?;
        let (app, store) = create_app(options(settings));
        let app = app
            .layer(from_fn_with_state(Arc::default(), one_writer))
            // A request's records travel in base64, which takes a third more.
            .layer(DefaultBodyLimit::max(REQUEST_BYTES * 2));
        let stop = CancellationToken::new();
        let serving = serve_plain_http(listener, app, stop.clone().cancelled_owned());
        let server = threads.spawn(serve(serving, store.clone()));
        Ok(Self { address, store, stop, server, _threads: threads })
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How a client reaches it.
    #[must_use]
    pub fn client_settings(&self) -> ClientSettings {
        ClientSettings {
            endpoint: Some(self.endpoint()),
            region: Some(REGION.to_owned()),
            test_credentials: true,
            ..ClientSettings::default()
        }
    }

    /// Forgets records as the end of their retention does, for tests: the shard's number and sequence numbers.
    pub async fn forget(&self, stream: &str, shard: u32, sequences: &[String]) {
        let keys: Vec<String> = sequences.iter().map(|sequence| format!("{shard:08x}/{sequence}")).collect();
        self.store.delete_record_keys(stream, &keys).await;
    }

    /// Stops accepting, lets the calls at hand end, and waits for that (at most 10 seconds).
    pub async fn stop(mut self) -> io::Result<()> {
        self.stop.cancel();
        (&mut self.server).await.map_err(io::Error::other)?
    }
}

impl Drop for EmbeddedKinesis {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.abort();
    }
}

/// Serves, and forgets what is older than its stream's retention, until the service ends.
async fn serve(serving: impl Future<Output = io::Result<()>>, store: Store) -> io::Result<()> {
    tokio::select! {
        biased;
        ended = serving => ended,
        () = run_reaper(store, RETENTION_LOOK_SECONDS) => Ok(()),
    }
}

fn options(settings: &EmbeddedKinesisSettings) -> StoreOptions {
    let change_ms = u64::try_from(settings.change_takes.as_millis()).unwrap_or(u64::MAX);
    StoreOptions {
        create_stream_ms: change_ms,
        delete_stream_ms: change_ms,
        update_stream_ms: change_ms,
        shard_limit: 10_000,
        iterator_ttl_seconds: settings.iterator_seconds,
        // The emulator's own task for this would outlive the emulator: see `serve`.
        retention_check_interval_secs: 0,
        enforce_limits: settings.throttles,
        aws_region: REGION.to_owned(),
        ..StoreOptions::default()
    }
}

/// Lets a call that changes something run alone, and the others beside each other.
async fn one_writer(State(lock): State<Arc<RwLock<()>>>, request: Request, next: Next) -> Response {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let action = target.rsplit('.').next().unwrap_or_default();
    if ["Get", "List", "Describe"].iter().any(|verb| action.starts_with(verb)) {
        let _shared = lock.read().await;
        return next.run(request).await;
    }
    let _alone = lock.write().await;
    next.run(request).await
}
