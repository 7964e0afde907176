//! This node as a peer, and the peers of this node.
//!
//! The calls of peers are cheap or bounded: the introduction reads no store, an answer with digests or refs is one
//! page, an explanation is about one ref, and a call for records waits in bounds of its own.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::digests::{DigestsPage, DigestsRequest, RefsAnswer, RefsRequest};
use lockstep_proto::explain::{RefAtNode, RefAtNodeRequest};
use lockstep_proto::peer::{PeerAnswer, PeerStatus};
use lockstep_proto::sharing::{RecordsAnswer, RecordsRequest};

use super::admission::{Follow, Look, Work};
use super::context::{Answer, Api};
use super::error::Failure;
use super::extract::Body;
use crate::stages::ports::PeerRefs;

/// Tells a peer which node this is, and whether it is ready.
#[utoipa::path(get, path = "/v1/peer", tag = "peers",
    responses((status = 200, description = "This node", body = PeerAnswer),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn answer(State(api): State<Api>, _permit: Look) -> Json<PeerAnswer> {
    Json(api.inspection.introduction())
}

/// Gives a page of the digests of this node's projects.
#[utoipa::path(post, path = "/v1/peer/digests", tag = "peers", request_body = DigestsRequest,
    responses((status = 200, description = "The page after the project", body = DigestsPage),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 503, description = "The node's store cannot be read, or too many requests are in progress: try again",
            body = ApiError)))]
pub(super) async fn digests(
    State(api): State<Api>,
    _permit: Work,
    Body(request): Body<DigestsRequest>,
) -> Answer<DigestsPage> {
    Ok(Json(refs_stage(&api)?.digests(request).await?))
}

/// Gives some refs of a project, as this node has them. The node first catches up with them, if the request says so.
#[utoipa::path(post, path = "/v1/peer/refs", tag = "peers", request_body = RefsRequest,
    responses((status = 200, description = "The refs, in the order of the request", body = RefsAnswer),
        (status = 400, description = "The body is malformed, or has too many refs", body = ApiError),
        (status = 503, description = "The refs cannot be read, or too many requests are in progress: try again",
            body = ApiError)))]
pub(super) async fn refs(
    State(api): State<Api>,
    _permit: Work,
    Body(request): Body<RefsRequest>,
) -> Answer<RefsAnswer> {
    Ok(Json(refs_stage(&api)?.refs(request).await?))
}

/// Tells how far a ref has come at this node, and the reason why it does not go on.
#[utoipa::path(post, path = "/v1/peer/explain", tag = "peers", request_body = RefAtNodeRequest,
    responses((status = 200, description = "The ref at this node", body = RefAtNode),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 503, description = "The node's store cannot be read, or too many requests are in progress: try again",
            body = ApiError)))]
pub(super) async fn ref_here(
    State(api): State<Api>,
    _permit: Work,
    Body(request): Body<RefAtNodeRequest>,
) -> Answer<RefAtNode> {
    Ok(Json(api.inspection.ref_here(request).await?))
}

/// Hands records of a shard to a sibling, which waits for them.
#[utoipa::path(post, path = "/v1/peer/records", tag = "peers", request_body = RecordsRequest,
    responses((status = 200, description = "The records behind the position, or why there are none",
            body = RecordsAnswer),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 503, description = "Too many calls wait for records, or this sidecar is starting: read the stream",
            body = ApiError)))]
pub(super) async fn records(
    State(api): State<Api>,
    _permit: Follow,
    Body(request): Body<RecordsRequest>,
) -> Answer<RecordsAnswer> {
    let stage = api.shared_records.as_deref();
    let stage = stage.ok_or_else(|| Failure::unavailable("this sidecar is starting; try again"))?;
    Ok(Json(stage.records(request).await?))
}

fn refs_stage(api: &Api) -> Result<&dyn PeerRefs, Failure> {
    api.peer_refs.as_deref().ok_or_else(|| Failure::unavailable("this sidecar is starting; try again"))
}

/// Asks every peer of `[peers]` for its name, and says how each answered.
#[utoipa::path(get, path = "/v1/peers", tag = "status",
    responses((status = 200, description = "The peers, in the order in which they are asked", body = Vec<PeerStatus>),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn peers(State(api): State<Api>, _permit: Look) -> Json<Vec<PeerStatus>> {
    Json(api.inspection.peers().await)
}
