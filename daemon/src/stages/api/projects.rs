//! Projects: creates and deletes them, and moves their `HEAD`.

use std::sync::Arc;

use axum::extract::State;
use lockstep_proto::bridge::{ApiError, CreateProjectRequest, DeleteProjectRequest, ProjectResponse, SetHeadRequest};

use super::admission::Work;
use super::context::{Answer, Api};
use super::extract::{Body, Project};

/// Creates a project, at every site.
#[utoipa::path(put, path = "/v1/projects/{project}", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = CreateProjectRequest,
    responses((status = 200, description = "A verdict: committed, refused or unknown", body = ProjectResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503,
            description = "This sidecar takes no commits now, or has too many requests in progress. `retry` says \
                whether to try again. At a site that is standby, draining, fenced or off it is false, and the message \
                names the site that takes writes",
            body = ApiError)))]
pub(super) async fn create_project(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Body(request): Body<CreateProjectRequest>,
) -> Answer<ProjectResponse> {
    let (transactions, id) = (Arc::clone(&api.transactions), request.request_id.clone());
    api.on_project(permit, &id, async move { transactions.create_project(&project, request).await }).await
}

/// Deletes a project, at every site.
#[utoipa::path(delete, path = "/v1/projects/{project}", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = DeleteProjectRequest,
    responses((status = 200, description = "A verdict: committed, refused or unknown", body = ProjectResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503,
            description = "This sidecar takes no commits now, or has too many requests in progress. `retry` says \
                whether to try again. At a site that is standby, draining, fenced or off it is false, and the message \
                names the site that takes writes",
            body = ApiError)))]
pub(super) async fn delete_project(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Body(request): Body<DeleteProjectRequest>,
) -> Answer<ProjectResponse> {
    let (transactions, id) = (Arc::clone(&api.transactions), request.request_id.clone());
    api.on_project(permit, &id, async move { transactions.delete_project(&project, request).await }).await
}

/// Points the `HEAD` of a project at a branch.
#[utoipa::path(put, path = "/v1/projects/{project}/head", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = SetHeadRequest,
    responses((status = 200, description = "A verdict: committed, refused or unknown", body = ProjectResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503,
            description = "This sidecar takes no commits now, or has too many requests in progress. `retry` says \
                whether to try again. At a site that is standby, draining, fenced or off it is false, and the message \
                names the site that takes writes",
            body = ApiError)))]
pub(super) async fn set_head(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Body(request): Body<SetHeadRequest>,
) -> Answer<ProjectResponse> {
    let (transactions, id) = (Arc::clone(&api.transactions), request.request_id.clone());
    api.on_project(permit, &id, async move { transactions.set_head(&project, request).await }).await
}
