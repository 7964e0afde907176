//! A client of the bridge API over its Unix socket, for the git hooks and the command line; and over the network, for
//! operators.
//!
//! Its errors separate two cases that a caller must treat differently. [`ClientError::NotSent`]: the request was not
//! sent, so nothing happened. [`ClientError::NoAnswer`]: the request was sent and no answer came, so it may have been
//! executed.
//!
//! [`Client::resend`] sends the same bytes again, with the same request id, until an answer comes or the deadline
//! passes. If the sidecar knows the request id, it returns the answer to the first attempt.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{ApiError, OBJECTS_HEADER, RefusalCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};

use crate::seams::tls::{self, ClientMaterial, PeerName};

/// Size of the largest answer that is read, in bytes. A status with many checkpoints fits.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How long to retry while the sidecar cannot be reached and nothing was sent yet. It covers a restart of the sidecar.
const RESTART_PATIENCE: Duration = Duration::from_secs(2);

/// How long to retry while the sidecar answers that it takes no requests now, because it is starting or is overloaded.
const JAM_PATIENCE: Duration = Duration::from_secs(6);

/// How long opening a connection over the network may take, with its handshake.
const CONNECT: Duration = Duration::from_secs(8);

/// The first pause between two attempts. It doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts, unless the sidecar asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A client of one sidecar.
#[derive(Clone)]
pub struct Client {
    way: Way,
}

/// The way to a sidecar.
#[derive(Clone)]
enum Way {
    Socket(PathBuf),
    Network(Arc<OperatorAccess>),
}

/// The way of an operator to a sidecar over the network: its listener for operators.
pub struct OperatorAccess {
    /// `host:port`.
    pub address: String,
    /// The name that the sidecar's certificate must have.
    pub identity: PeerName,
    /// The trusted authorities, and the operator's certificate, if it has one.
    pub tls: ClientMaterial,
    /// The operator's token, if it has one.
    pub token: Option<String>,
}

impl fmt::Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(out),
            Self::Network(access) => write!(out, "https://{}", access.address),
        }
    }
}

/// One request, which can be sent again unchanged.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    body: Bytes,
    /// The value of the header that says who judged the objects; `None` when nobody did.
    objects: Option<&'static str>,
}

/// An error of a call that got no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The request was not sent. Nothing happened.
    #[error("the Lockstep sidecar at {at} does not answer ({why}); nothing was changed: try again when it is running")]
    NotSent {
        /// The path of the sidecar's socket, or its URL.
        at: String,
        /// The error of the connection.
        why: String,
    },
    /// The request was sent and no answer came. The sidecar may have executed it, or may execute it later.
    #[error(
        "the Lockstep sidecar gave no answer ({0}); it is not known yet whether the change was made: fetch and check \
         before you try again"
    )]
    NoAnswer(String),
    /// The sidecar answered with an error instead of a verdict. Nothing was changed.
    #[error("{}{}", .0.message, if .0.retry && .0.retry_after_seconds.is_none() { "; try again later" } else { "" })]
    Answered(ApiError),
}

impl ClientError {
    /// How long to retry after this error, or `None` if a retry does not help. Only for calls of which nothing was
    /// executed.
    fn patience(&self) -> Option<Duration> {
        match self {
            Self::NotSent { .. } => Some(RESTART_PATIENCE),
            Self::Answered(error) => error.retry.then_some(JAM_PATIENCE),
            Self::NoAnswer(_) => None,
        }
    }

    /// When the sidecar wants to be asked again: others have their turns first.
    fn again_after(&self) -> Duration {
        match self {
            Self::Answered(error) => Duration::from_secs(error.retry_after_seconds.unwrap_or_default().into()),
            Self::NotSent { .. } | Self::NoAnswer(_) => Duration::ZERO,
        }
    }
}

impl Call {
    /// A request with a JSON body. `path` begins with `/v1/`.
    ///
    /// # Errors
    /// The body cannot be written as JSON.
    pub fn new<T: Serialize>(method: Method, path: impl Into<String>, body: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { method, path: path.into(), body: serde_json::to_vec(body)?.into(), objects: None })
    }

    /// A request without a body.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Bytes::new(), objects: None }
    }

    /// Says who judged the objects of a ref transaction: a value of [`OBJECTS_HEADER`].
    #[must_use]
    pub fn objects(self, value: &'static str) -> Self {
        Self { objects: Some(value), ..self }
    }

    fn request(&self, token: Option<&str>) -> Result<Request<Full<Bytes>>, http::Error> {
        let request =
            self.objects.iter().fold(Request::builder(), |request, value| request.header(OBJECTS_HEADER, *value));
        let bearer = token.map(|token| format!("Bearer {token}"));
        bearer
            .iter()
            .fold(request, |request, bearer| request.header(header::AUTHORIZATION, bearer))
            .method(self.method.clone())
            .uri(&self.path)
            .header(header::HOST, "lockstep")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(self.body.clone()))
    }
}

/// The path of a project, or of a resource `below` it: `/v1/projects/tools%2Fbuild/head`.
#[must_use]
pub fn project_path(project: &ProjectName, below: &str) -> String {
    format!("/v1/projects/{}{below}", utf8_percent_encode(project.as_str(), NON_ALPHANUMERIC))
}

impl Client {
    /// A client of the sidecar on this socket. Each call opens a connection.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { way: Way::Socket(socket.to_owned()) }
    }

    /// A client of a sidecar's listener for operators. Each call opens a connection.
    #[must_use]
    pub fn remote(access: OperatorAccess) -> Self {
        Self { way: Way::Network(Arc::new(access)) }
    }

    /// Sends the call once, and waits for the answer until `deadline`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send<T: DeserializeOwned>(&self, call: &Call, deadline: Instant) -> Result<T, ClientError> {
        let connecting = tokio::time::timeout_at(deadline, self.connect()).await;
        let mut sender = connecting.map_err(|_| self.not_sent("the deadline passed while connecting"))??;
        let token = match &self.way {
            Way::Socket(_) => None,
            Way::Network(access) => access.token.as_deref(),
        };
        let request = call.request(token).map_err(|error| self.not_sent(error))?;
        let exchange = async {
            let response = sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                Some(_) => self.not_sent(error.error()),
                None => ClientError::NoAnswer(error.error().to_string()),
            })?;
            read_answer(response).await
        };
        match tokio::time::timeout_at(deadline, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::NoAnswer("the deadline passed".to_owned())),
        }
    }

    /// Sends the call until an answer comes or `deadline` passes. While the sidecar cannot be reached, or takes no
    /// requests, it retries only for as long as a restart takes.
    ///
    /// # Errors
    /// See [`ClientError`]. Once an attempt may have reached the sidecar, the error is never [`ClientError::NotSent`].
    pub async fn resend<T: DeserializeOwned>(&self, call: &Call, deadline: Instant) -> Result<T, ClientError> {
        let started = Instant::now();
        let (mut lost, mut pause) = (None, FIRST_PAUSE);
        loop {
            let answer = self.send(call, deadline).await;
            if lost.is_none() {
                pause = pause.max(answer.as_ref().err().map_or(Duration::ZERO, ClientError::again_after));
            }
            match answer {
                Err(ClientError::NoAnswer(why)) => lost = Some(why),
                Err(ClientError::NotSent { .. }) if lost.is_some() => {}
                // After an attempt without an answer, "takes no commits now" does not tell the outcome of that attempt.
                Err(ClientError::Answered(error)) if lost.is_some() && error.code != RefusalCode::Invalid => {}
                answer => match answer.as_ref().err().and_then(ClientError::patience) {
                    Some(patience) if Instant::now() + pause < deadline.min(started + patience) => {}
                    _ => return answer,
                },
            }
            if Instant::now() + pause >= deadline {
                return Err(ClientError::NoAnswer(lost.unwrap_or_else(|| "the deadline passed".to_owned())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, ClientError> {
        match &self.way {
            Way::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| self.not_sent(error))?;
                self.converse(stream).await
            }
            Way::Network(access) => {
                let opened = timeout(CONNECT, access.open()).await;
                let opened = opened.map_err(|_| self.not_sent("it did not accept the connection in time"))?;
                self.converse(opened.map_err(|error| self.not_sent(error))?).await
            }
        }
    }

    async fn converse<S>(&self, stream: S) -> Result<http1::SendRequest<Full<Bytes>>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.not_sent(error))?;
        // The task ends with the sender. An error of the connection shows in the answer.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn not_sent(&self, why: impl ToString) -> ClientError {
        ClientError::NotSent { at: self.way.to_string(), why: why.to_string() }
    }
}

impl OperatorAccess {
    async fn open(&self) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let stream = TcpStream::connect(&self.address).await?;
        tls::connect(&self.tls, host, self.identity.clone(), stream).await
    }
}

async fn read_answer<T: DeserializeOwned>(response: http::Response<hyper::body::Incoming>) -> Result<T, ClientError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| ClientError::NoAnswer(error.to_string()))?.to_bytes();
    let unreadable = |error: serde_json::Error| ClientError::NoAnswer(format!("HTTP {status}, unreadable: {error}"));
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(unreadable);
    }
    Err(ClientError::Answered(serde_json::from_slice(&body).map_err(unreadable)?))
}
