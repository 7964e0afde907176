//! Reads paths and bodies into validated types. Unreadable ones are answered with an [`ApiError`] body.
//!
//! [`ApiError`]: lockstep_proto::bridge::ApiError

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use lockstep_proto::bridge::{OBJECTS_HEADER, OBJECTS_HISTORY, OBJECTS_JUDGED};
use lockstep_proto::{NameError, NodeId, ProjectName, SiteId, TxnId, limits};
use serde::de::DeserializeOwned;

use super::admission::{Admission, Large};
use super::error::Failure;
use crate::seams::git::Judged;

/// How long a body may take to arrive. Its request already counts as work, so a slow body must not hold it for long.
const BODY: Duration = Duration::from_secs(10);

/// The `{project}` of a path. It is percent-encoded there, because project names contain `/`.
pub(super) struct Project(pub ProjectName);

/// The `{txn}` of a path: a transaction id.
pub(super) struct Txn(pub TxnId);

/// The `{site}` of a path.
pub(super) struct Site(pub SiteId);

/// The `{node}` of a path.
pub(super) struct Node(pub NodeId);

/// The judge of a batch's objects, by the header `lockstep-objects`. A value of a later release counts as none.
pub(super) struct Objects(pub Judged);

impl<S: Send + Sync> FromRequestParts<S> for Objects {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let value = parts.headers.get(OBJECTS_HEADER).and_then(|value| value.to_str().ok());
        Ok(Self(match value {
            Some(OBJECTS_JUDGED) => Judged::ByServer,
            Some(OBJECTS_HISTORY) => Judged::TakenAsItIs,
            _ => Judged::No,
        }))
    }
}

/// A JSON body, decoded into `T`.
pub(super) struct Body<T>(pub T);

/// The JSON body of a batch, decoded into `T`. It may be large, and then has a permit of its own.
pub(super) struct BatchBody<T>(pub T, pub Large);

impl<S: Send + Sync> FromRequestParts<S> for Project {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Self(parse("project", &segment(parts, state).await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Txn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Self(parse("txn", &segment(parts, state).await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Site {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Self(parse("site", &segment(parts, state).await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Node {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Self(parse("node", &segment(parts, state).await?)?))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let Ok(read) = tokio::time::timeout(BODY, Json::<T>::from_request(request, state)).await else {
            return Err(Failure::too_slow(BODY));
        };
        match read {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Failure::too_large(limits::REQUEST_BODY_BYTES))
            }
            Err(rejection) => Err(malformed(&rejection.body_text())),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for BatchBody<T>
where
    Admission: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_none_or(|length: usize| length <= limits::REQUEST_BODY_BYTES) {
            let Body(body) = Body::from_request(request, state).await?;
            return Ok(Self(body, Admission::from_ref(state).body(false)?));
        }
        if length.is_some_and(|length| length > limits::BATCH_BODY_BYTES) {
            return Err(Failure::too_large(limits::BATCH_BODY_BYTES));
        }
        let permit = Admission::from_ref(state).body(true)?;
        let read = axum::body::to_bytes(request.into_body(), limits::BATCH_BODY_BYTES);
        match tokio::time::timeout(BODY, read).await {
            Ok(Ok(bytes)) => match Json::from_bytes(&bytes) {
                Ok(Json(body)) => Ok(Self(body, permit)),
                Err(rejection) => Err(malformed(&rejection.body_text())),
            },
            Ok(Err(error)) => Err(malformed(&error.to_string())),
            Err(_) => Err(Failure::too_slow(BODY)),
        }
    }
}

fn malformed(why: &str) -> Failure {
    Failure::malformed(format!("request body: {why}; GET /v1/openapi.json shows its form"))
}

async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Failure> {
    match Path::<String>::from_request_parts(parts, state).await {
        Ok(Path(text)) => Ok(text),
        Err(rejection) => Err(Failure::malformed(format!(
            "path {}: {}; percent-encode the UTF-8 bytes of a name ('/' is %2F)",
            parts.uri.path(),
            rejection.body_text()
        ))),
    }
}

fn parse<T: std::str::FromStr<Err = NameError>>(field: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::malformed(format!("path field {field}: {error}; correct the name")))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let body = axum::body::Body::from_stream(stream::pending::<std::io::Result<Vec<u8>>>());
        let request = Request::post("/").header("content-type", "application/json").body(body).unwrap();
        let Err(failure) = Body::<serde_json::Value>::from_request(request, &()).await else {
            panic!("a body arrived")
        };
        assert!(format!("{failure:?}").contains("408"), "{failure:?}");
    }
}
