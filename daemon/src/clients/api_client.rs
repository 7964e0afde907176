//! A client of the bridge API over its Unix socket, for the git hooks and the command line.
//!
//! Its errors keep apart what a caller must keep apart: nothing was sent ([`ClientError::NotSent`]: nothing
//! happened), and something was sent but no answer came ([`ClientError::NoAnswer`]: it may have happened).
//! [`Client::resend`] sends the same bytes again, with the same request id, until an answer comes or the
//! deadline ends; the sidecar gives a request id that it knows the answer of the first try.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Largest answer that is read, in bytes: a status with many checkpoints fits.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How long a sidecar that is not there is waited for, when nothing was sent yet: a restart of it.
const RESTART_PATIENCE: Duration = Duration::from_secs(2);

/// How long one that is there and takes nothing now is waited for: it starts, or has too much work.
const JAM_PATIENCE: Duration = Duration::from_secs(6);

/// The first pause between two tries; it doubles up to a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Speaks to one sidecar.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// One request: it can be sent again unchanged.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    body: Bytes,
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The request never left: nothing happened.
    #[error("the Lockstep sidecar at {} does not answer ({why}); nothing was changed: try again when it runs", socket.display())]
    NotSent {
        /// Its socket.
        socket: PathBuf,
        /// What the operating system says.
        why: String,
    },
    /// The request left and no answer came: it may have been done, or may yet be.
    #[error(
        "the Lockstep sidecar gave no answer ({0}); it is not known yet whether the change was made: fetch and look before trying again"
    )]
    NoAnswer(String),
    /// The sidecar answered with an error instead of a verdict: nothing was changed.
    #[error("{}{}", .0.message, if .0.retry { "; try again later" } else { "" })]
    Answered(ApiError),
}

impl ClientError {
    /// How long it pays to try again, when nothing happened yet.
    fn patience(&self) -> Option<Duration> {
        match self {
            Self::NotSent { .. } => Some(RESTART_PATIENCE),
            Self::Answered(error) => error.retry.then_some(JAM_PATIENCE),
            Self::NoAnswer(_) => None,
        }
    }
}

impl Call {
    /// A request with a JSON body. `path` begins with `/v1/`.
    ///
    /// # Errors
    /// The body cannot be written as JSON.
    pub fn new<T: Serialize>(method: Method, path: impl Into<String>, body: &T) -> Result<Self, serde_json::Error> {
        Ok(Self { method, path: path.into(), body: serde_json::to_vec(body)?.into() })
    }

    /// A request without a body.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Bytes::new() }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, http::Error> {
        Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(header::HOST, "lockstep")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(self.body.clone()))
    }
}

/// The path of a project, or of something below it: `/v1/projects/tools%2Fbuild/head`.
#[must_use]
pub fn project_path(project: &ProjectName, below: &str) -> String {
    format!("/v1/projects/{}{below}", utf8_percent_encode(project.as_str(), NON_ALPHANUMERIC))
}

impl Client {
    /// A client of the sidecar on this socket. Connects on each call.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Sends once, and waits for the answer at most until `deadline`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send<T: DeserializeOwned>(&self, call: &Call, deadline: Instant) -> Result<T, ClientError> {
        let connecting = tokio::time::timeout_at(deadline, self.connect()).await;
        let mut sender = connecting.map_err(|_| self.not_sent("the deadline ended while connecting"))??;
        let request = call.request().map_err(|error| self.not_sent(error))?;
        let exchange = async {
            let response = sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
                Some(_) => self.not_sent(error.error()),
                None => ClientError::NoAnswer(error.error().to_string()),
            })?;
            read_answer(response).await
        };
        match tokio::time::timeout_at(deadline, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::NoAnswer("the deadline ended".to_owned())),
        }
    }

    /// Sends until an answer comes or `deadline` ends. A sidecar that cannot be reached at all, or takes nothing now, is
    /// waited for only as long as a restart takes.
    ///
    /// # Errors
    /// See [`ClientError`]; once a try may have arrived it is never [`ClientError::NotSent`].
    pub async fn resend<T: DeserializeOwned>(&self, call: &Call, deadline: Instant) -> Result<T, ClientError> {
        let started = Instant::now();
        let (mut lost, mut pause) = (None, FIRST_PAUSE);
        loop {
            match self.send(call, deadline).await {
                Err(ClientError::NoAnswer(why)) => lost = Some(why),
                Err(ClientError::NotSent { .. }) if lost.is_some() => {}
                // After a lost try, "takes no commits now" says nothing about what became of that try.
                Err(ClientError::Answered(error)) if lost.is_some() && error.code != RefusalCode::Invalid => {}
                answer => match answer.as_ref().err().and_then(ClientError::patience) {
                    Some(patience) if Instant::now() + pause < deadline.min(started + patience) => {}
                    _ => return answer,
                },
            }
            if Instant::now() + pause >= deadline {
                return Err(ClientError::NoAnswer(lost.unwrap_or_else(|| "the deadline ended".to_owned())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_sent(error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.not_sent(error))?;
        // Ends with the sender; what goes wrong on it shows in the answer.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn not_sent(&self, why: impl ToString) -> ClientError {
        ClientError::NotSent { socket: self.socket.clone(), why: why.to_string() }
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
