//! The state of this node: its status, and what is parked or quarantined.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::status::{HeldStatus, NodeStatus};

use super::admission::Look;
use super::context::{Answer, Api};

/// Reports the status of this node.
#[utoipa::path(get, path = "/v1/status", tag = "status",
    responses((status = 200, description = "The status of the node", body = NodeStatus),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn status(State(api): State<Api>, _permit: Look) -> Json<NodeStatus> {
    Json(api.inspection.status().await)
}

/// Lists the parked transactions, which wait for something that has not arrived.
#[utoipa::path(get, path = "/v1/parked", tag = "status",
    responses((status = 200, description = "The parked transactions", body = Vec<HeldStatus>),
        (status = 503,
            description = "The node's store cannot be read, or too many status calls are in progress: try again",
            body = ApiError)))]
pub(super) async fn parked(State(api): State<Api>, _permit: Look) -> Answer<Vec<HeldStatus>> {
    Ok(Json(api.inspection.parked().await?))
}

/// Lists the quarantined records, whose content is bad.
#[utoipa::path(get, path = "/v1/quarantine", tag = "status",
    responses((status = 200, description = "The quarantined records", body = Vec<HeldStatus>),
        (status = 503,
            description = "The node's store cannot be read, or too many status calls are in progress: try again",
            body = ApiError)))]
pub(super) async fn quarantine(State(api): State<Api>, _permit: Look) -> Answer<Vec<HeldStatus>> {
    Ok(Json(api.inspection.quarantined().await?))
}
