//! The operators' socket: a Unix socket that knows its callers by their user id.
//!
//! The bridge, the hooks and peers have sockets or tokens of their own, which do not open it.

use std::fmt;

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream};

/// The authenticated identity of a caller on the operators' socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    uid: u32,
}

impl fmt::Display for Operator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "uid {}", self.uid)
    }
}

/// Accepts connections of some users.
pub(super) struct OperatorListener {
    socket: UnixListener,
    uids: Vec<u32>,
}

impl OperatorListener {
    /// Listens on a bound socket. `uids` are the users whose connections are served.
    pub(super) fn new(socket: UnixListener, uids: Vec<u32>) -> Self {
        Self { socket, uids }
    }
}

impl Listener for OperatorListener {
    type Io = UnixStream;
    type Addr = Operator;

    async fn accept(&mut self) -> (UnixStream, Operator) {
        loop {
            let (connection, _) = Listener::accept(&mut self.socket).await;
            match connection.peer_cred().map(|peer| peer.uid()) {
                Ok(uid) if self.uids.contains(&uid) => return (connection, Operator { uid }),
                Ok(uid) => tracing::warn!(uid, "a user who is not an operator was turned away"),
                Err(error) => tracing::warn!(%error, "a caller of the operators' socket has no user id"),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Operator> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
