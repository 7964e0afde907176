//! The bridge API's listeners: a Unix socket, whose folder's permissions are the access rule, and optionally a
//! loopback TCP port, which asks for a bearer token.
//!
//! Building binds and may fail; spawning serves and cannot. Work that was taken is ended by
//! [`ApiTasks::finish`] even when its caller is gone.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::middleware;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{self, TokenFile};
use super::admission::Admission;
use super::routes::{self, Api};
use super::serve::{Bounds, SILENCE, serve};
use super::{Handshake, Inspection, Seeding, Transactions};
use crate::seams::git::Repositories;
use crate::stages::ports::{Refreshes, StreamEvents};

/// Requests in work at the same time, when nothing else is said. A push holds one until it is answered.
pub const DEFAULT_REQUESTS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// How long a caller waits that does not say how long, when nothing else is said.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// The longest that a caller may wait.
pub const LONGEST_DEADLINE: Duration = Duration::from_secs(600);

/// Connections of one listener beside those of the requests in work.
const SPARE_CONNECTIONS: usize = 256;

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers on the socket.
    #[error("api.socket {0}: another process listens on it; stop that sidecar, or give this one another socket")]
    InUse(PathBuf),
    /// Something that is no socket has the name.
    #[error("api.socket {0} exists and is no socket; remove it, or give another path")]
    NotASocket(PathBuf),
    /// The TCP address is open to other machines.
    #[error("api.listen {0} is not a loopback address; the token travels in the clear: give 127.0.0.1:<port>")]
    NotLoopback(SocketAddr),
    /// The operating system refuses.
    #[error("{field} {value} cannot be bound: {source}; free it, or give another")]
    Io {
        /// Which setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What the operating system says.
        source: io::Error,
    },
}

/// Bound listeners, not served yet.
pub struct BoundApi {
    unix: UnixListener,
    tcp: Option<(TcpListener, TokenFile)>,
    repositories: Option<Arc<dyn Repositories>>,
    refreshes: Option<Arc<dyn Refreshes>>,
    handshake: Option<Arc<dyn Handshake>>,
    seeding: Option<Arc<dyn Seeding>>,
    events: Option<Arc<dyn StreamEvents>>,
    most_requests: NonZeroUsize,
    deadline: Duration,
}

/// The running servers.
#[derive(Debug)]
pub struct ApiTasks {
    servers: Vec<JoinHandle<()>>,
    work: TaskTracker,
}

impl BoundApi {
    /// Binds the socket (its folder is made, mode 0700; a stale socket is replaced) and the TCP address.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(socket: &Path, tcp: Option<(SocketAddr, TokenFile)>) -> Result<Self, BindError> {
        let unix = bind_unix(socket).await?;
        let tcp = match tcp {
            Some((address, tokens)) => Some((bind_loopback(address).await?, tokens)),
            None => None,
        };
        Ok(Self {
            unix,
            tcp,
            repositories: None,
            refreshes: None,
            handshake: None,
            seeding: None,
            events: None,
            most_requests: DEFAULT_REQUESTS,
            deadline: DEFAULT_DEADLINE,
        })
    }

    /// Gives peers objects of these repositories.
    #[must_use]
    pub fn giving(self, repositories: Arc<dyn Repositories>) -> Self {
        Self { repositories: Some(repositories), ..self }
    }

    /// Forwards stream events.
    #[must_use]
    pub fn forwarding(self, events: Option<Arc<dyn StreamEvents>>) -> Self {
        Self { events, ..self }
    }

    /// Hands out the refresh tasks of this stage.
    #[must_use]
    pub fn refreshing(self, refreshes: Option<Arc<dyn Refreshes>>) -> Self {
        Self { refreshes, ..self }
    }

    /// Lets Gerrits in, or not.
    #[must_use]
    pub fn guarded(self, handshake: Arc<dyn Handshake>) -> Self {
        Self { handshake: Some(handshake), ..self }
    }

    /// Seeds projects.
    #[must_use]
    pub fn seeding(self, seeding: Arc<dyn Seeding>) -> Self {
        Self { seeding: Some(seeding), ..self }
    }

    /// Works on at most so many requests at the same time.
    #[must_use]
    pub fn taking(self, most_requests: NonZeroUsize) -> Self {
        Self { most_requests, ..self }
    }

    /// Waits so long for callers that do not say how long.
    #[must_use]
    pub fn waiting(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Where the TCP listener is, when there is one.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// Serves until `shutdown`.
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
            work: work.clone(),
            admission,
            deadline,
        };
        let router = routes::router(api);
        // Who is sent away needs a connection to be told so.
        let connections = self.most_requests.get().saturating_add(SPARE_CONNECTIONS);
        let bounds = Bounds { connections, silence: SILENCE };
        let mut servers = Vec::new();
        if let Some((listener, tokens)) = self.tcp {
            let guarded = router.clone().layer(middleware::from_fn_with_state(tokens, access::require_token));
            servers.push(tokio::spawn(serve(listener, guarded, bounds, shutdown.clone())));
        }
        servers.push(tokio::spawn(serve(self.unix, router, bounds, shutdown.clone())));
        ApiTasks { servers, work }
    }
}

impl ApiTasks {
    /// Waits until the servers have stopped and all work that they took has ended. The caller bounds the wait.
    pub async fn finish(self) {
        for server in self.servers {
            if let Err(error) = server.await {
                tracing::error!(%error, "an API server ended badly");
            }
        }
        self.work.close();
        self.work.wait().await;
    }
}

async fn bind_unix(socket: &Path) -> Result<UnixListener, BindError> {
    let failed = |source| BindError::Io { field: "api.socket", value: socket.display().to_string(), source };
    if let Some(folder) = socket.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    match std::fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(socket.to_owned())),
        Ok(_) if UnixStream::connect(socket).await.is_ok() => return Err(BindError::InUse(socket.to_owned())),
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
