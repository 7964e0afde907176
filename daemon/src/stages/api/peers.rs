//! This node as a peer, and the peers of this node.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::peer::{PeerAnswer, PeerStatus};

use super::admission::Look;
use super::context::Api;

/// Tells a peer which node this is.
#[utoipa::path(get, path = "/v1/peer", tag = "peers",
    responses((status = 200, description = "This node", body = PeerAnswer),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn answer(State(api): State<Api>, _permit: Look) -> Json<PeerAnswer> {
    let status = api.inspection.status().await;
    Json(PeerAnswer {
        site: status.site,
        node: status.node,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: status.role,
        epoch: status.epoch,
        ready: status.ready,
    })
}

/// Asks every peer of `[peers]` for its name, and says how each answered.
#[utoipa::path(get, path = "/v1/peers", tag = "status",
    responses((status = 200, description = "The peers, in the order in which they are asked", body = Vec<PeerStatus>),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn peers(State(api): State<Api>, _permit: Look) -> Json<Vec<PeerStatus>> {
    Json(api.inspection.peers().await)
}
