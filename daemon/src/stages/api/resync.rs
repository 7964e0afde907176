//! Resyncs and replays: an operator has this node take the refdb's state again, or read streams again.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::replay::{Replay, ReplayRequest};
use lockstep_proto::resync::{Resync, ResyncRequest};

use super::admission::Look;
use super::check;
use super::context::{Answer, Api};
use super::extract::Body;
use super::operators::Operator;

/// Begins to bring one ref, one project, or every project of this node to the refdb's state, with objects from peers.
/// Answers the same resync if it is in progress. Operators only.
#[utoipa::path(post, path = "/v1/resync", tag = "status", request_body = ResyncRequest,
    responses((status = 200, description = "The resync that has begun, or is in progress", body = Resync),
        (status = 400, description = "The body is malformed, or names no ref or peer that there is", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 404, description = "The refdb has no such open project", body = ApiError),
        (status = 409, description = "Another resync is in progress at this node", body = ApiError),
        (status = 503, description = "The node is not ready, or the refdb does not answer: nothing was begun",
            body = ApiError)))]
pub(super) async fn begin(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Body(request): Body<ResyncRequest>,
) -> Answer<Resync> {
    check::reason(&request.reason)?;
    check::name("from", request.from.as_deref())?;
    Ok(Json(api.inspection.begin_resync(&operator.to_string(), request).await?))
}

/// Shows the resync that is in progress at this node, or was the last one since its start.
#[utoipa::path(get, path = "/v1/resync", tag = "status",
    responses((status = 200, description = "The resync; null if there was none", body = Option<Resync>),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn show(State(api): State<Api>, _permit: Look) -> Json<Option<Resync>> {
    Json(api.inspection.resync())
}

/// Begins to read streams of the event log again from a time or a position, or answers the same replay if it is in
/// progress. Transactions that are not applied here are applied; no checkpoint moves. Operators only.
#[utoipa::path(post, path = "/v1/replay", tag = "status", request_body = ReplayRequest,
    responses((status = 200, description = "The replay that has begun, or is in progress", body = Replay),
        (status = 400, description = "The body is malformed, or names no such stream or time", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "Another replay is in progress at this node", body = ApiError),
        (status = 503, description = "The node is not ready: nothing was begun", body = ApiError)))]
pub(super) async fn begin_replay(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Body(request): Body<ReplayRequest>,
) -> Answer<Replay> {
    check::reason(&request.reason)?;
    check::name("shard", request.shard.as_deref())?;
    Ok(Json(api.inspection.begin_replay(&operator.to_string(), request).await?))
}

/// Shows the replay that is in progress at this node, or was the last one since its start.
#[utoipa::path(get, path = "/v1/replay", tag = "status",
    responses((status = 200, description = "The replay; null if there was none", body = Option<Replay>),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn show_replay(State(api): State<Api>, _permit: Look) -> Json<Option<Replay>> {
    Json(api.inspection.replay())
}
