//! The handshake of a starting Gerrit, and strays: uncommitted values, written by `init` for instance, that gave way to
//! committed ones.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::{ApiError, ProjectResponse};
use lockstep_proto::gerrit::{HandshakeRequest, HandshakeResponse, Stray, StrayRequest};

use super::admission::Work;
use super::check;
use super::context::{Answer, Api};
use super::error::Failure;
use super::extract::{Body, Project};
use super::operators::Operator;
use crate::stages::ports::Handshake;

impl Api {
    fn handshake(&self) -> Result<Arc<dyn Handshake>, Failure> {
        self.handshake.clone().ok_or_else(|| Failure::unavailable("this sidecar serves no handshake; ask another one"))
    }
}

/// Answers the handshake of a starting Gerrit: whether it may start here.
#[utoipa::path(post, path = "/v1/gerrit/hello", tag = "bridge",
    request_body = HandshakeRequest,
    responses((status = 200, description = "Whether the Gerrit may start, and the reason if it may not",
            body = HandshakeResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503,
            description = "Not known yet, because this sidecar is starting or the refdb does not answer: ask again",
            body = ApiError)))]
pub(super) async fn handshake(
    State(api): State<Api>,
    permit: Work,
    Body(gerrit): Body<HandshakeRequest>,
) -> Answer<HandshakeResponse> {
    check::gerrit(&gerrit)?;
    let handshake = api.handshake()?;
    let answer = api.outlive(permit, api.deadline, async move { handshake.admit(gerrit).await }).await;
    let late = "the repositories on disk are still being compared with the refdb; ask again";
    Ok(Json(answer.unwrap_or_else(|| Err(ApiError::unavailable(late)))?))
}

/// Lists the strays of a project: uncommitted values of its refs that gave way to committed ones.
#[utoipa::path(get, path = "/v1/projects/{project}/strays", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    responses((status = 200, description = "The strays of the project", body = Vec<Stray>),
        (status = 503,
            description = "The repository cannot be read now, or too many requests are in progress: try again",
            body = ApiError)))]
pub(super) async fn strays(State(api): State<Api>, _permit: Work, Project(project): Project) -> Answer<Vec<Stray>> {
    Ok(Json(api.handshake()?.strays(&project).await?))
}

/// Adopts or discards one stray. Operators only.
#[utoipa::path(post, path = "/v1/projects/{project}/strays", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = StrayRequest,
    responses((status = 200, description = "A verdict: committed, refused or unknown", body = ProjectResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 503,
            description = "This sidecar takes no commits now, or has too many requests in progress. `retry` says \
                whether to try again. At a site that is standby, draining, fenced or off it is false, and the message \
                names the site that takes writes",
            body = ApiError)))]
pub(super) async fn end_stray(
    State(api): State<Api>,
    operator: Operator,
    permit: Work,
    Project(project): Project,
    Body(request): Body<StrayRequest>,
) -> Answer<ProjectResponse> {
    tracing::warn!(actor = %operator, %project, stray = ?request.stray, end = ?request.end, "an operator ends a stray");
    let (handshake, id) = (api.handshake()?, request.request_id.clone());
    api.on_project(permit, &id, async move { handshake.end_stray(&project, request).await }).await
}
