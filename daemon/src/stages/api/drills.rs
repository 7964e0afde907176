//! Drills, and the preflight of failovers and drills.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::drill::{DrillBegun, DrillRequest, Drills, Preflight, PreflightRequest};
use lockstep_proto::silent::{SilentBegun, SilentDrills, SilentRequest};

use super::admission::Look;
use super::context::{Answer, Api};
use super::extract::Body;
use super::operators::Operator;
use super::sites::desk;

/// Checks whether a failover or a drill to a site could go well now. Changes nothing.
#[utoipa::path(post, path = "/v1/preflight", tag = "failover", request_body = PreflightRequest,
    responses((status = 200, description = "The checks", body = Preflight),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn preflight(
    State(api): State<Api>,
    _permit: Look,
    Body(request): Body<PreflightRequest>,
) -> Answer<Preflight> {
    Ok(Json(desk(&api)?.preflight(&request).await?))
}

/// Shows past drills, newest first, and the one that is in progress.
#[utoipa::path(get, path = "/v1/drills", tag = "failover",
    responses((status = 200, description = "The drills", body = Drills),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn drills(State(api): State<Api>, _permit: Look) -> Answer<Drills> {
    Ok(Json(desk(&api)?.drills().await?))
}

/// Begins a drill, which changes no role of a real site. Operators only.
#[utoipa::path(post, path = "/v1/drills", tag = "failover", request_body = DrillRequest,
    responses((status = 200, description = "The drill has begun", body = DrillBegun),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "The preflight is red, or a drill is in progress", body = ApiError),
        (status = 503, description = "The refdb does not answer: look, then try again", body = ApiError)))]
pub(super) async fn drill(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Body(request): Body<DrillRequest>,
) -> Answer<DrillBegun> {
    Ok(Json(desk(&api)?.drill(&operator.to_string(), request).await?))
}

/// Shows past silent drills of all nodes, newest first, and the one that is in progress at this node.
#[utoipa::path(get, path = "/v1/drills/silent", tag = "failover",
    responses((status = 200, description = "The drills", body = SilentDrills),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn silent_drills(State(api): State<Api>, _permit: Look) -> Answer<SilentDrills> {
    Ok(Json(desk(&api)?.silent_drills().await?))
}

/// Begins a silent drill of this node: a standby on a copy of its volume. Changes no role. Operators only.
#[utoipa::path(post, path = "/v1/drills/silent", tag = "failover", request_body = SilentRequest,
    responses((status = 200, description = "The drill has begun", body = SilentBegun),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "The preflight is red, the site is no standby, a silent drill of this node is in \
            progress, or no copy can be made", body = ApiError),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn silent_drill(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Body(request): Body<SilentRequest>,
) -> Answer<SilentBegun> {
    Ok(Json(desk(&api)?.silent_drill(&operator.to_string(), request).await?))
}
