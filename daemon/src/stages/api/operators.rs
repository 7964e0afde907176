//! Operators: the callers who may change roles, fences, locks and data, and their socket.
//!
//! The operators' socket knows its callers by their user id; the listener in `operator_listener` knows them by a token
//! or a certificate. The bridge, the hooks and peers have sockets, tokens and certificates of their own, which open
//! neither.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream};

use super::error::Failure;
use super::operator_tokens::Holder;
use crate::seams::tls::PeerName;

/// The authenticated identity of an operator, for the audit trail. A handler that takes it answers 403 to everybody
/// else, before it reads the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// A user of this machine.
    Uid(u32),
    /// The holder of a token.
    Token(Holder),
    /// The holder of a certificate, by the name that the setting `operators.allow` lists.
    Certificate(PeerName),
}

impl fmt::Display for Operator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(out, "uid {uid}"),
            Self::Token(holder) => write!(out, "token {holder}"),
            Self::Certificate(name) => write!(out, "certificate {name}"),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Failure::operators_only)
    }
}

/// The holder of a token who approves the next step of a failover that is paused for it, and changes nothing else.
#[derive(Clone, Debug)]
pub(super) struct Approver(pub(super) Holder);

/// The caller who acts on a failover: an operator, or an approver. Everybody else gets 403, before the body is read.
pub(super) enum Acting {
    /// May pause, resume and abort.
    Operator(Operator),
    /// May approve. The identity is the one of the audit trail.
    Approver(Operator),
}

impl<S: Send + Sync> FromRequestParts<S> for Acting {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match parts.extensions.get::<Approver>().cloned() {
            Some(Approver(holder)) => Ok(Self::Approver(Operator::Token(holder))),
            None => Operator::from_request_parts(parts, state).await.map(Self::Operator),
        }
    }
}

/// The caller of a route that is open to bridges: an operator, or else a bridge.
#[derive(Clone, Debug)]
pub(super) struct Caller(Option<Operator>);

impl Caller {
    /// Refuses everybody but operators (403).
    pub(super) fn must_be_operator(&self) -> Result<(), Failure> {
        if self.0.is_some() { Ok(()) } else { Err(Failure::operators_only()) }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(operator) => operator.fmt(out),
            None => out.write_str("bridge"),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<Operator>().cloned()))
    }
}

/// Accepts connections of some users on the operators' socket.
pub(super) struct OperatorSocket {
    socket: UnixListener,
    uids: Vec<u32>,
}

impl OperatorSocket {
    /// Listens on a bound socket. `uids` are the users whose connections are served.
    pub(super) fn new(socket: UnixListener, uids: Vec<u32>) -> Self {
        Self { socket, uids }
    }

    /// Whether this user is an operator on this machine.
    pub(super) fn serves(&self, uid: u32) -> bool {
        self.uids.contains(&uid)
    }
}

impl Listener for OperatorSocket {
    type Io = UnixStream;
    type Addr = Operator;

    async fn accept(&mut self) -> (UnixStream, Operator) {
        loop {
            let (connection, _) = Listener::accept(&mut self.socket).await;
            match connection.peer_cred().map(|peer| peer.uid()) {
                Ok(uid) if self.uids.contains(&uid) => return (connection, Operator::Uid(uid)),
                Ok(uid) => tracing::warn!(uid, "a user who is not an operator was turned away"),
                Err(error) => tracing::warn!(%error, "a caller of the operators' socket has no user id"),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Operator> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}
