//! Sends one REST call to Gerrit as its service user.

use std::path::PathBuf;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::seams::gerrit::GerritError;

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes. A page of 500 changes fits.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// The prefix of Gerrit's JSON, which prevents browsers from running it as a script.
const GUARD: &str = ")]}'";
/// Most characters of an answer that an error message quotes.
const TOLD: usize = 200;

/// The address of Gerrit's REST API, and the credentials for it.
#[derive(Clone, Debug)]
pub struct RestSettings {
    /// The address as `host:port`.
    pub address: String,
    /// The prefix of every path: empty, or for example `/gerrit`.
    pub prefix: String,
    /// The name of the Gerrit user.
    pub user: String,
    /// The file with the user's HTTP password or token. It is read on each call, so a change takes effect at once.
    pub password_file: PathBuf,
    /// How long a call may take.
    pub timeout: Duration,
}

/// Gerrit's answer to a call of an authenticated user.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Answer {
    /// Parses the answer as JSON. Returns null when it is not JSON.
    pub(super) fn json(&self) -> Value {
        let text = self.text.strip_prefix(GUARD).unwrap_or(&self.text);
        serde_json::from_str(text).unwrap_or(Value::Null)
    }

    /// Formats the status and the beginning of the text for error messages.
    pub(super) fn told(&self) -> String {
        let text: String = self.text.trim().chars().take(TOLD).collect();
        format!("HTTP {} {text}", self.status.as_u16())
    }
}

impl RestSettings {
    /// Sends one call. `path` begins with `/` and is below `/a`.
    ///
    /// # Errors
    /// Gerrit does not answer or has an internal error, rejects the user, or forbids the call. The caller judges every
    /// other answer.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, GerritError> {
        let request = self.request(&method, path, body).await?;
        let answer = timeout(self.timeout, self.exchange(request)).await;
        let late =
            |_| GerritError::Away(format!("{method} {path} took longer than gerrit.timeout ({:?})", self.timeout));
        let answer = answer.map_err(late)??;
        match answer.status {
            StatusCode::UNAUTHORIZED => Err(GerritError::Denied(format!(
                "Gerrit rejects the password of user {:?} (HTTP 401): correct gerrit.user or the file {}",
                self.user,
                self.password_file.display()
            ))),
            StatusCode::FORBIDDEN => Err(GerritError::Failed(format!(
                "Gerrit forbids user {:?} the call {method} {path} ({}): grant it Maintain Server, Flush Caches and \
                 Administrate Server in All-Projects",
                self.user,
                answer.told()
            ))),
            status if status.is_server_error() => Err(GerritError::Away(format!("{method} {path}: {}", answer.told()))),
            _ => Ok(answer),
        }
    }

    async fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, GerritError> {
        let text = tokio::fs::read_to_string(&self.password_file).await;
        let text = text.map_err(|error| {
            GerritError::Denied(format!(
                "cannot read the password of the Gerrit user: gerrit.password_file {}: {error}",
                self.password_file.display()
            ))
        })?;
        let password = text.lines().next().unwrap_or_default().trim();
        let secret = BASE64_STANDARD.encode(format!("{}:{password}", self.user));
        let request = Request::builder()
            .method(method.clone())
            .uri(format!("{}/a{path}", self.prefix))
            .header(header::HOST, &self.address)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json; charset=UTF-8")
            .header(header::AUTHORIZATION, format!("Basic {secret}"));
        let body = body.map(Value::to_string).unwrap_or_default();
        request.body(Full::new(body.into())).map_err(|error| GerritError::Failed(format!("{method} {path}: {error}")))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, GerritError> {
        let away = |why: String| GerritError::Away(format!("{}: {why}", self.address));
        let connecting = timeout(CONNECT, TcpStream::connect(&self.address)).await;
        let stream = connecting.map_err(|_| away("it did not accept the connection in time".to_owned()))?;
        let stream = stream.map_err(|error| away(error.to_string()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| away(error.to_string()))?;
        // The task ends with the sender. An error of the connection also shows in the answer.
        tokio::spawn(async move { drop(connection.await) });
        let answer = sender.send_request(request).await.map_err(|error| away(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| away(error.to_string()))?.to_bytes();
        Ok(Answer { status, text: String::from_utf8_lossy(&body).into_owned() })
    }
}
