//! The bridge API's listeners: a Unix socket, protected by the permissions of its folder, and optionally a loopback
//! TCP port, protected by a bearer token; also those for operators and for peers.
//!
//! [`BoundApi::bind`] binds the listeners and may fail. [`BoundApi::spawn`] starts to serve and cannot fail.
//! [`ApiTasks::finish`] waits for all accepted work, even for work whose caller has hung up.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, middleware};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{self, TokenFile};
use super::admission::Admission;
use super::context::Api;
use super::deadlines::DEFAULT_DEADLINE;
use super::operator_listener::{BoundOperators, OperatorListenerSettings};
use super::operators::OperatorSocket;
use super::out_of_reach::User;
use super::peer_listener::{BoundPeers, PeerListenerSettings};
use super::routes;
use super::serve::{Bounds, SILENCE, serve, serve_each};
use super::turns::Turns;
use super::{Handshake, Inspection, Seeding, Transactions};
use crate::seams::git::Repositories;
use crate::seams::tls::Credentials;
use crate::stages::ports::{
    Arrivals, Console, Doctor, Locking, Operators, PeerRefs, Rebuilds, Refreshes, SharedRecords, StreamEvents,
};

/// The default bound on requests in progress. A push counts as one request until it is answered.
pub const DEFAULT_REQUESTS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Connections that one listener accepts in addition to one per request in progress. Siblings may wait in half of them.
const SPARE_CONNECTIONS: usize = 512;

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens on the socket.
    #[error("{0} {1}: another process listens on it; stop that sidecar, or set {0} to another path")]
    InUse(&'static str, PathBuf),
    /// The path exists and is not a socket.
    #[error("{0} {1} exists and is not a socket; remove it, or set {0} to another path")]
    NotASocket(&'static str, PathBuf),
    /// Other machines could reach the TCP address.
    #[error("api.listen {0} is not a loopback address; tokens are sent unencrypted, so set it to 127.0.0.1:<port>")]
    NotLoopback(SocketAddr),
    /// The user of this process is no operator, and could make one.
    #[error(
        "operators.token_file {}: this sidecar's own user could change {}, but api.operators does not list that user; \
         name a file that belongs to root, in a folder that belongs to root: /etc/lockstep/operators",
        .0.display(), .1.display()
    )]
    WithinReach(PathBuf, PathBuf),
    /// The operating system refused to bind.
    #[error("{field} {value} cannot be bound: {source}; free it, or set {field} to another value")]
    Io {
        /// The setting, as in the configuration file.
        field: &'static str,
        /// The value of the setting.
        value: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Bound listeners that do not serve yet.
pub struct BoundApi {
    unix: UnixListener,
    tcp: Option<(TcpListener, TokenFile)>,
    operators: Option<OperatorSocket>,
    remote_operators: Option<BoundOperators>,
    peers: Option<BoundPeers>,
    desk: Option<Arc<dyn Operators>>,
    locks: Option<Arc<dyn Locking>>,
    rebuilds: Option<Arc<dyn Rebuilds>>,
    peer_refs: Option<Arc<dyn PeerRefs>>,
    shared_records: Option<Arc<dyn SharedRecords>>,
    arrivals: Option<Arc<dyn Arrivals>>,
    doctor: Option<Arc<dyn Doctor>>,
    repositories: Option<Arc<dyn Repositories>>,
    refreshes: Option<Arc<dyn Refreshes>>,
    handshake: Option<Arc<dyn Handshake>>,
    seeding: Option<Arc<dyn Seeding>>,
    events: Option<Arc<dyn StreamEvents>>,
    most_requests: NonZeroUsize,
    turns: Option<Arc<Turns>>,
    console: Option<Arc<dyn Console>>,
    deadline: Duration,
}

/// The running listeners and the work that they accepted.
#[derive(Debug)]
pub struct ApiTasks {
    servers: Vec<JoinHandle<()>>,
    work: TaskTracker,
}

impl BoundApi {
    /// Binds the socket and the TCP address. Creates the socket's folder with mode 0700, and replaces a stale socket.
    ///
    /// # Errors
    /// The socket or the address cannot be used: see [`BindError`].
    pub async fn bind(socket: &Path, tcp: Option<(SocketAddr, TokenFile)>) -> Result<Self, BindError> {
        let unix = bind_unix("api.socket", socket).await?;
        let tcp = match tcp {
            Some((address, tokens)) => Some((bind_loopback(address).await?, tokens)),
            None => None,
        };
        Ok(Self {
            unix,
            tcp,
            operators: None,
            remote_operators: None,
            peers: None,
            desk: None,
            locks: None,
            rebuilds: None,
            peer_refs: None,
            shared_records: None,
            arrivals: None,
            doctor: None,
            repositories: None,
            refreshes: None,
            handshake: None,
            seeding: None,
            events: None,
            most_requests: DEFAULT_REQUESTS,
            turns: None,
            console: None,
            deadline: DEFAULT_DEADLINE,
        })
    }

    /// Binds the operators' socket in addition. It serves the users with these ids.
    ///
    /// # Errors
    /// The socket cannot be used: see [`BindError`].
    pub async fn operated(self, path: &Path, uids: Vec<u32>) -> Result<Self, BindError> {
        const FIELD: &str = "api.operators_socket";
        let socket = bind_unix(FIELD, path).await?;
        Ok(Self { operators: Some(OperatorSocket::new(socket, uids)), ..self })
    }

    /// Binds the listener for operators in addition. Call this after [`BoundApi::operated`], which has the operators on
    /// this machine.
    ///
    /// # Errors
    /// The address cannot be used: see [`BindError`].
    pub async fn operated_remotely(
        self,
        settings: OperatorListenerSettings,
        credentials: Arc<Credentials>,
    ) -> Result<Self, BindError> {
        let value = settings.address.to_string();
        let failed = |source| BindError::Io { field: "operators.listen", value, source };
        let own = User::of_process();
        let others = self.operators.as_ref().filter(|socket| !socket.serves(own.uid)).map(|_| own);
        if let (Some(file), Some(own)) = (&settings.token_file, &others) {
            // A file that is not there yet is looked at when it is used.
            if let Ok(Some(part)) = own.reaches(file) {
                return Err(BindError::WithinReach(file.clone(), part));
            }
        }
        let bound = BoundOperators::bind(settings, others, credentials).await.map_err(failed)?;
        Ok(Self { remote_operators: Some(bound), ..self })
    }

    /// Binds the listener for peers in addition.
    ///
    /// # Errors
    /// The address cannot be used: see [`BindError`].
    pub async fn peered(
        self,
        settings: PeerListenerSettings,
        credentials: Arc<Credentials>,
    ) -> Result<Self, BindError> {
        let value = settings.address.to_string();
        let failed = |source| BindError::Io { field: "tls.listen", value, source };
        Ok(Self { peers: Some(BoundPeers::bind(settings, credentials).await.map_err(failed)?), ..self })
    }

    /// Sets the stage that takes the requests of operators.
    #[must_use]
    pub fn obeying(self, desk: Arc<dyn Operators>) -> Self {
        Self { desk: Some(desk), ..self }
    }

    /// Sets the stage that takes requests about locks.
    #[must_use]
    pub fn locking(self, locks: Arc<dyn Locking>) -> Self {
        Self { locks: Some(locks), ..self }
    }

    /// Sets the stage that serves the version map and rebuilds a lost refdb.
    #[must_use]
    pub fn rebuilding(self, rebuilds: Arc<dyn Rebuilds>) -> Self {
        Self { rebuilds: Some(rebuilds), ..self }
    }

    /// Sets the stage that tells peers what this node has.
    #[must_use]
    pub fn telling(self, peer_refs: Arc<dyn PeerRefs>) -> Self {
        Self { peer_refs: Some(peer_refs), ..self }
    }

    /// Sets the stage that hands records of streams to siblings.
    #[must_use]
    pub fn sharing(self, shared_records: Arc<dyn SharedRecords>) -> Self {
        Self { shared_records: Some(shared_records), ..self }
    }

    /// Sets the stage that tells when a site shows a transaction.
    #[must_use]
    pub fn awaiting(self, arrivals: Arc<dyn Arrivals>) -> Self {
        Self { arrivals: Some(arrivals), ..self }
    }

    /// Sets the checks of this node.
    #[must_use]
    pub fn diagnosing(self, doctor: Arc<dyn Doctor>) -> Self {
        Self { doctor: Some(doctor), ..self }
    }

    /// Sets the repositories whose objects peers may fetch.
    #[must_use]
    pub fn giving(self, repositories: Arc<dyn Repositories>) -> Self {
        Self { repositories: Some(repositories), ..self }
    }

    /// Sets the stage that forwards stream events. Without one the events routes answer 400.
    #[must_use]
    pub fn forwarding(self, events: Option<Arc<dyn StreamEvents>>) -> Self {
        Self { events, ..self }
    }

    /// Sets the stage whose refresh tasks are handed out. Without one the refresh routes answer 400.
    #[must_use]
    pub fn refreshing(self, refreshes: Option<Arc<dyn Refreshes>>) -> Self {
        Self { refreshes, ..self }
    }

    /// Sets the stage that accepts or denies starting Gerrits.
    #[must_use]
    pub fn guarded(self, handshake: Arc<dyn Handshake>) -> Self {
        Self { handshake: Some(handshake), ..self }
    }

    /// Sets the stage that seeds projects.
    #[must_use]
    pub fn seeding(self, seeding: Arc<dyn Seeding>) -> Self {
        Self { seeding: Some(seeding), ..self }
    }

    /// Sets the bound on requests in progress.
    #[must_use]
    pub fn taking(self, most_requests: NonZeroUsize) -> Self {
        Self { most_requests, ..self }
    }

    /// Lets batches take turns.
    #[must_use]
    pub fn turning(self, turns: Arc<Turns>) -> Self {
        Self { turns: Some(turns), ..self }
    }

    /// Serves the console at the listener for operators.
    #[must_use]
    pub fn showing(self, console: Option<Arc<dyn Console>>) -> Self {
        Self { console, ..self }
    }

    /// Sets the deadline of requests that name none.
    #[must_use]
    pub fn waiting(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The address of the TCP listener, if there is one.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// The address of the listener for peers, if there is one.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peers.as_ref().and_then(BoundPeers::address)
    }

    /// The address of the listener for operators, if there is one.
    #[must_use]
    pub fn operators_address(&self) -> Option<SocketAddr> {
        self.remote_operators.as_ref().and_then(BoundOperators::address)
    }

    /// Starts to serve, until `shutdown` is cancelled.
    #[must_use]
    pub fn spawn(
        self,
        transactions: Arc<dyn Transactions>,
        inspection: Arc<dyn Inspection>,
        shutdown: &CancellationToken,
    ) -> ApiTasks {
        let admission = Admission::new(self.most_requests);
        let (repositories, refreshes, events) = (self.repositories, self.refreshes, self.events);
        let (handshake, seeding, deadline) = (self.handshake, self.seeding, self.deadline);
        let work = TaskTracker::new();
        let api = Api {
            transactions,
            inspection,
            repositories,
            refreshes,
            handshake,
            seeding,
            events,
            operators: self.desk,
            locks: self.locks,
            rebuilds: self.rebuilds,
            peer_refs: self.peer_refs,
            shared_records: self.shared_records,
            arrivals: self.arrivals,
            doctor: self.doctor,
            work: work.clone(),
            admission,
            turns: self.turns,
            deadline,
        };
        let peers = self.peers.map(|bound| bound.into_parts(&api));
        let remote_operators = self.remote_operators.map(|bound| bound.into_parts(&api, self.console.as_deref()));
        let router = routes::router(api);
        // An excess request needs a connection too, to receive its rejection.
        let connections = self.most_requests.get().saturating_add(SPARE_CONNECTIONS);
        let bounds = Bounds { connections, silence: SILENCE, keep_alive: true };
        let mut servers = Vec::new();
        if let Some((listener, tokens)) = self.tcp {
            let guarded = router.clone().layer(middleware::from_fn_with_state(tokens, access::require_token));
            servers.push(tokio::spawn(serve(listener, guarded, bounds, shutdown.clone())));
        }
        if let Some(listener) = self.operators {
            let router = router.clone();
            let for_caller = move |caller| router.clone().layer(Extension(caller));
            servers.push(tokio::spawn(serve_each(listener, for_caller, bounds, shutdown.clone())));
        }
        if let Some((listener, for_caller, bounds)) = remote_operators {
            servers.push(tokio::spawn(serve_each(listener, for_caller, bounds, shutdown.clone())));
        }
        if let Some((listener, for_caller, bounds)) = peers {
            servers.push(tokio::spawn(serve_each(listener, for_caller, bounds, shutdown.clone())));
        }
        servers.push(tokio::spawn(serve(self.unix, router, bounds, shutdown.clone())));
        ApiTasks { servers, work }
    }
}

impl ApiTasks {
    /// Waits until the listeners have stopped and all work that they accepted has ended. The caller bounds the wait.
    pub async fn finish(self) {
        for server in self.servers {
            if let Err(error) = server.await {
                tracing::error!(%error, "the task of an API listener panicked or was aborted");
            }
        }
        self.work.close();
        self.work.wait().await;
    }
}

async fn bind_unix(field: &'static str, socket: &Path) -> Result<UnixListener, BindError> {
    let failed = |source| BindError::Io { field, value: socket.display().to_string(), source };
    if let Some(folder) = socket.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    match std::fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(field, socket.to_owned())),
        Ok(_) if UnixStream::connect(socket).await.is_ok() => return Err(BindError::InUse(field, socket.to_owned())),
        Ok(_) => std::fs::remove_file(socket).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    UnixListener::bind(socket).map_err(failed)
}

async fn bind_loopback(address: SocketAddr) -> Result<TcpListener, BindError> {
    if !address.ip().is_loopback() {
        return Err(BindError::NotLoopback(address));
    }
    let failed = |source| BindError::Io { field: "api.listen", value: address.to_string(), source };
    TcpListener::bind(address).await.map_err(failed)
}
