//! What a bridge inside Gerrit asks for: which of its documents and cache entries it has to look at again.
//!
//! A call that waits for tasks is no work: nothing in the sidecar is busy with it, and a commit must not be sent away because
//! of it. It has a bound of its own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::refresh::{DoneRequest, DoneResponse, TasksRequest, TasksResponse};
use lockstep_proto::status::DueStatus;

use super::admission::{Look, Wait};
use super::check;
use super::error::Failure;
use super::extract::Body;
use super::routes::Api;
use crate::stages::ports::Refreshes;

/// Hands out refresh tasks; waits for some when there are none.
#[utoipa::path(post, path = "/v1/refresh/tasks", tag = "gerrit",
    request_body = TasksRequest,
    responses((status = 200, description = "Tasks; none when there were none in time", body = TasksResponse),
        (status = 400, description = "Malformed, superseded by another session, or this sidecar refreshes no bridge", body = ApiError),
        (status = 401, description = "No valid bearer token (TCP listener only)", body = ApiError),
        (status = 503, description = "Too many wait already: try again", body = ApiError)))]
pub(super) async fn tasks(
    State(api): State<Api>,
    _permit: Wait,
    Body(request): Body<TasksRequest>,
) -> Result<Json<TasksResponse>, Failure> {
    check::tasks(&request)?;
    Ok(Json(refreshes(&api)?.tasks(request).await?))
}

/// Takes what became of refresh tasks.
#[utoipa::path(post, path = "/v1/refresh/done", tag = "gerrit",
    request_body = DoneRequest,
    responses((status = 200, description = "Noted", body = DoneResponse),
        (status = 400, description = "Malformed, superseded by another session, or this sidecar refreshes no bridge", body = ApiError),
        (status = 401, description = "No valid bearer token (TCP listener only)", body = ApiError),
        (status = 503, description = "Too many wait already: try again", body = ApiError)))]
pub(super) async fn done(
    State(api): State<Api>,
    _permit: Wait,
    Body(request): Body<DoneRequest>,
) -> Result<Json<DoneResponse>, Failure> {
    check::done(&request)?;
    Ok(Json(refreshes(&api)?.done(&request)?))
}

/// What Gerrit has to look at: the oldest 1,000.
#[utoipa::path(get, path = "/v1/refresh", tag = "status",
    responses((status = 200, description = "What is due", body = Vec<DueStatus>),
        (status = 503, description = "Too many look at the same time", body = ApiError)))]
pub(super) async fn due(State(api): State<Api>, _permit: Look) -> Json<Vec<DueStatus>> {
    Json(api.inspection.due().await)
}

fn refreshes(api: &Api) -> Result<&Arc<dyn Refreshes>, Failure> {
    api.refreshes.as_ref().ok_or_else(|| {
        Failure::malformed(
            "this sidecar hands out no refresh tasks: its setting gerrit.refresh is not \"bridge\"; set it, and start \
             the sidecar anew (a retry does not help before)",
        )
    })
}
