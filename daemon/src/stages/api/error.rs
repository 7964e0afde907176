//! Error answers: the one place that gives each of them its HTTP status.
//!
//! Verdicts (committed, refused, unknown) are answered with 200 and a body of their own, and never come through here.

use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lockstep_proto::bridge::{ApiError, RefusalCode};

use crate::seams::tls::PeerName;

/// The value of `Retry-After` when a retry may help and nothing else is known. It is small because overloads and
/// restarts are short.
const RETRY_AFTER_SECONDS: u32 = 1;

/// An answer other than a verdict: an [`ApiError`] as the body, and its HTTP status.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: ApiError,
}

impl Failure {
    /// The request is malformed (400).
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, RefusalCode::Invalid, message, false)
    }

    /// The body is larger than the cap (413).
    pub(super) fn too_large(most: usize) -> Self {
        let message = format!("the request body is larger than {most} bytes; send fewer commands in one request");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, RefusalCode::Invalid, message, false)
    }

    /// The request of a fetch is longer than the cap (413).
    pub(super) fn too_large_fetch(most: usize) -> Self {
        let message = format!("the request of this fetch is longer than {most} bytes; fetch fewer refs at once");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, RefusalCode::Invalid, message, false)
    }

    /// The body did not arrive within `patience` (408).
    pub(super) fn too_slow(patience: Duration) -> Self {
        let message = format!(
            "the request body did not arrive within {} seconds; nothing was changed: send it again without pauses",
            patience.as_secs()
        );
        Self::new(StatusCode::REQUEST_TIMEOUT, RefusalCode::Invalid, message, true)
    }

    /// There is no valid bearer token (401).
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, RefusalCode::Invalid, message, false)
    }

    /// The request is for operators, and its caller is none (403).
    pub(super) fn operators_only() -> Self {
        let message = "this is for operators: call it on the operators' socket (setting api.operators_socket), or at \
                       operators.listen with an operator's token or certificate; nothing was changed";
        Self::new(StatusCode::FORBIDDEN, RefusalCode::Invalid, message, false)
    }

    /// The caller is a viewer, and the call is none of those that only show something (403).
    pub(super) fn viewers_only_look() -> Self {
        let message = "this token is one of a viewer, who changes nothing: use a token of an operator; nothing was \
                       changed";
        Self::new(StatusCode::FORBIDDEN, RefusalCode::Invalid, message, false)
    }

    /// The caller is an approver, and the call is neither an approval nor one that only shows something (403).
    pub(super) fn approvers_only_approve() -> Self {
        let message = "this token is one of an approver, who resumes a failover that is paused for an approval, and \
                       changes nothing else: use a token of an operator; nothing was changed";
        Self::new(StatusCode::FORBIDDEN, RefusalCode::Invalid, message, false)
    }

    /// No entry of the setting `allow` has one of the names in the caller's certificate (403).
    pub(super) fn not_allowed(names: &[PeerName], allow: &str) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let names = if names.is_empty() { "no SPIFFE id and no host name".to_owned() } else { names.join(", ") };
        let message =
            format!("the caller's certificate has {names}, which the setting {allow} of this node does not list");
        Self::new(StatusCode::FORBIDDEN, RefusalCode::Invalid, message, false)
    }

    /// The caller is a peer, and no operator (403).
    pub(super) fn peers_are_no_operators(name: &PeerName) -> Self {
        let message = format!("{name} is a peer (setting tls.allow), and peers are no operators; nothing was changed");
        Self::new(StatusCode::FORBIDDEN, RefusalCode::Invalid, message, false)
    }

    /// The call is not one of those that peers may make (403).
    pub(super) fn not_for_peers(method: &str, path: &str) -> Self {
        let message = format!("peers may not call {method} {path}; use the sidecar's own socket");
        Self::new(StatusCode::FORBIDDEN, RefusalCode::Invalid, message, false)
    }

    /// A push, where git may only fetch (403).
    pub(super) fn no_pushes() -> Self {
        let message = "a sidecar takes no pushes, it only lets git fetch: push to the site's Gerrit or git server; \
                       nothing was changed";
        Self::new(StatusCode::FORBIDDEN, RefusalCode::Invalid, message, false)
    }

    /// This sidecar cannot answer now (503).
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, RefusalCode::Unavailable, message, true)
    }

    /// The caller has to wait for others (429). It may come again after this time.
    pub(super) fn busy(message: impl Into<String>, seconds: u32) -> Self {
        let busy = Self::new(StatusCode::TOO_MANY_REQUESTS, RefusalCode::Unavailable, message, true);
        Self { error: ApiError { retry_after_seconds: Some(seconds), ..busy.error }, ..busy }
    }

    /// There is no such route (404).
    pub(super) fn no_route(method: &str, path: &str) -> Self {
        let message = format!(
            "there is no route {method} {path}; GET /v1/openapi.json lists the routes; send a '/' in a name as %2F"
        );
        Self::new(StatusCode::NOT_FOUND, RefusalCode::Invalid, message, false)
    }

    /// The route exists, but does not have this method (405).
    pub(super) fn no_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}; GET /v1/openapi.json lists the routes");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, RefusalCode::Invalid, message, false)
    }

    fn new(status: StatusCode, code: RefusalCode, message: impl Into<String>, retry: bool) -> Self {
        Self { status, error: ApiError::new(code, retry, message) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.error.message)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let status = match error.code {
            RefusalCode::Invalid => StatusCode::BAD_REQUEST,
            RefusalCode::NotServing | RefusalCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalCode::Project => StatusCode::NOT_FOUND,
            RefusalCode::Stale
            | RefusalCode::NonFastForward
            | RefusalCode::MissingObject
            | RefusalCode::NameConflict
            | RefusalCode::Locked
            | RefusalCode::Transaction => StatusCode::CONFLICT,
        };
        Self { status, error }
    }
}

impl Failure {
    fn retry_after(&self) -> Option<[(HeaderName, String); 1]> {
        tracing::debug!(status = %self.status, error = %self.error.message, "request answered without a verdict");
        let seconds = self.error.retry_after_seconds.unwrap_or(RETRY_AFTER_SECONDS);
        self.error.retry.then(|| [(header::RETRY_AFTER, seconds.to_string())])
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, self.retry_after(), Json(self.error)).into_response()
    }
}

/// An error answer in plain text, which git shows to its user.
#[derive(Debug)]
pub(super) struct Told(Failure);

impl From<Failure> for Told {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        let Self(failure) = self;
        (failure.status, failure.retry_after(), failure.error.message).into_response()
    }
}
