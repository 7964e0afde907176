//! Refresh tasks: a bridge inside Gerrit asks which documents and cache entries Gerrit has to look at again.
//!
//! A call that waits for tasks does not count as work: it keeps nothing in the sidecar busy, and must not cause a
//! commit to be rejected. Such calls have a bound of their own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::refresh::{DoneRequest, DoneResponse, TasksRequest, TasksResponse};
use lockstep_proto::status::DueStatus;

use super::admission::{Look, Wait};
use super::check;
use super::context::Api;
use super::error::Failure;
use super::extract::Body;
use crate::stages::ports::Refreshes;

/// Hands out refresh tasks. When there are none, waits for the first one.
#[utoipa::path(post, path = "/v1/refresh/tasks", tag = "gerrit",
    request_body = TasksRequest,
    responses((status = 200, description = "Refresh tasks; none when the wait has ended", body = TasksResponse),
        (status = 400,
            description = "The request is malformed, a newer session superseded this one, or this sidecar hands out \
                           no refresh tasks",
            body = ApiError),
        (status = 401, description = "There is no valid bearer token (TCP listener only)", body = ApiError),
        (status = 503, description = "Too many calls wait: try again", body = ApiError)))]
pub(super) async fn tasks(
    State(api): State<Api>,
    _permit: Wait,
    Body(request): Body<TasksRequest>,
) -> Result<Json<TasksResponse>, Failure> {
    check::tasks(&request)?;
    Ok(Json(refreshes(&api)?.tasks(request).await?))
}

/// Takes the report of a bridge on its refresh tasks: which are done, and which failed.
#[utoipa::path(post, path = "/v1/refresh/done", tag = "gerrit",
    request_body = DoneRequest,
    responses((status = 200, description = "The report was taken", body = DoneResponse),
        (status = 400,
            description = "The request is malformed, a newer session superseded this one, or this sidecar hands out \
                           no refresh tasks",
            body = ApiError),
        (status = 401, description = "There is no valid bearer token (TCP listener only)", body = ApiError),
        (status = 503, description = "Too many calls wait: try again", body = ApiError)))]
pub(super) async fn done(
    State(api): State<Api>,
    _permit: Wait,
    Body(request): Body<DoneRequest>,
) -> Result<Json<DoneResponse>, Failure> {
    check::done(&request)?;
    Ok(Json(refreshes(&api)?.done(&request)?))
}

/// Lists the subjects that Gerrit has to look at again: the oldest 1,000.
#[utoipa::path(get, path = "/v1/refresh", tag = "status",
    responses((status = 200, description = "The subjects that are due", body = Vec<DueStatus>),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn due(State(api): State<Api>, _permit: Look) -> Json<Vec<DueStatus>> {
    Json(api.inspection.due().await)
}

fn refreshes(api: &Api) -> Result<&Arc<dyn Refreshes>, Failure> {
    api.refreshes.as_ref().ok_or_else(|| {
        Failure::malformed(
            "this sidecar hands out no refresh tasks, because its setting gerrit.refresh is not \"bridge\"; set it, \
             and restart the sidecar (a retry before that does not help)",
        )
    })
}
