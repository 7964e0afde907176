//! Kinesis in this process: the emulator `ferrokinesis` on a port of 127.0.0.1.
//!
//! Its streams live in memory and end with the process. A stream that is created again has another `created` value, so
//! every node that reads it reconciles with the refdb, which is durable. The emulator could keep its state in a folder,
//! but it writes the **whole** state at each call, so this is not used.
//!
//! The emulator first numbers a record and then stores it. A reader between these two steps would miss the record for
//! ever. So a call that changes something runs alone, without any other call at the same time.

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
use super::subscriptions::subscribe;
use super::write_limits::{Answered, Limiter, WriteLimits};
use crate::seams::eventlog::kinesis::ClientSettings;
use crate::seams::eventlog::limits::REQUEST_BYTES;

/// The region that the emulator claims to be.
const REGION: &str = "us-east-1";

/// How often expired records are removed, in seconds. A stream keeps records for 24 hours.
const RETENTION_LOOK_SECONDS: u64 = 60;

/// The behaviour of the emulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedKinesisSettings {
    /// How long the creation, change or deletion of a stream takes.
    pub change_takes: Duration,
    /// How long an iterator is valid, in seconds.
    pub iterator_seconds: u64,
    /// Whether a shard refuses more than a shard of Kinesis takes: 1 MiB or 1,000 records per second.
    pub throttles: bool,
    /// Other limits in front of the emulator, for tests. None: it takes everything.
    pub limits: Option<WriteLimits>,
}

impl Default for EmbeddedKinesisSettings {
    fn default() -> Self {
        Self { change_takes: Duration::from_millis(5), iterator_seconds: 300, throttles: false, limits: None }
    }
}

/// A running emulator. It stops when this is dropped.
pub struct EmbeddedKinesis {
    address: SocketAddr,
    limiter: Option<Arc<Limiter>>,
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
            .layer(from_fn_with_state(Calls { store: store.clone(), lock: Arc::default() }, one_writer))
            // Records travel in base64 in a request, which takes a third more bytes.
            .layer(DefaultBodyLimit::max(REQUEST_BYTES * 2));
        let limiter = settings.limits.clone().map(|limits| Arc::new(Limiter::new(limits)));
        let app = match &limiter {
            Some(limiter) => app.layer(from_fn_with_state(Arc::clone(limiter), limited)),
            None => app,
        };
        let stop = CancellationToken::new();
        let serving = serve_plain_http(listener, app, stop.clone().cancelled_owned());
        let server = threads.spawn(serve(serving, store.clone()));
        Ok(Self { address, limiter, store, stop, server, _threads: threads })
    }

    /// The URL at which it listens.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Settings with which a client reaches it.
    #[must_use]
    pub fn client_settings(&self) -> ClientSettings {
        ClientSettings {
            endpoint: Some(self.endpoint()),
            region: Some(REGION.to_owned()),
            test_credentials: true,
            ..ClientSettings::default()
        }
    }

    /// How the limits of the streams answered so far. Zero if there are no limits.
    #[must_use]
    pub fn answered(&self) -> Answered {
        self.limiter.as_ref().map(|limiter| limiter.answered()).unwrap_or_default()
    }

    /// Removes records, as the end of their retention does, for tests. Takes the shard's number and sequence numbers.
    pub async fn forget(&self, stream: &str, shard: u32, sequences: &[String]) {
        let keys: Vec<String> = sequences.iter().map(|sequence| format!("{shard:08x}/{sequence}")).collect();
        self.store.delete_record_keys(stream, &keys).await;
    }

    /// Stops accepting connections, and waits until the calls in progress have ended, at most 10 seconds.
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

/// Serves, and removes records that are older than the retention of their stream, until the service ends.
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
        // The emulator's own task for this would outlive the emulator. `serve` does it instead.
        retention_check_interval_secs: 0,
        enforce_limits: settings.throttles,
        aws_region: REGION.to_owned(),
        ..StoreOptions::default()
    }
}

/// Puts the limits in front of the emulator.
async fn limited(State(limiter): State<Arc<Limiter>>, request: Request, next: Next) -> Response {
    limiter.enforce(request, next).await
}

/// The records, and the lock that a call holds alone while it changes something.
#[derive(Clone)]
struct Calls {
    store: Store,
    lock: Arc<RwLock<()>>,
}

/// Lets a call that changes something run alone, and all other calls in parallel.
async fn one_writer(State(Calls { store, lock }): State<Calls>, request: Request, next: Next) -> Response {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let action = target.rsplit('.').next().unwrap_or_default();
    if action.starts_with("Subscribe") {
        return subscribe(&store, lock, request).await;
    }
    if ["Get", "List", "Describe"].iter().any(|verb| action.starts_with(verb)) {
        let _shared = lock.read().await;
        return next.run(request).await;
    }
    let _alone = lock.write().await;
    next.run(request).await
}
