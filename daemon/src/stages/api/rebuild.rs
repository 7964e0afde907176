//! The version map for peers, and the rebuilding of a lost refdb.
//!
//! Peers may read the version map: names of refs and their values, which they have or may fetch anyway. Only
//! operators begin a rebuild.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::rebuild::{Rebuild, RebuildRequest, VersionsPage, VersionsRequest};

use super::admission::{Look, Work};
use super::context::{Answer, Api};
use super::error::Failure;
use super::extract::Body;
use super::operators::Operator;
use crate::stages::ports::Rebuilds;

/// Gives a page of this node's version map.
#[utoipa::path(post, path = "/v1/peer/versions", tag = "peers", request_body = VersionsRequest,
    responses((status = 200, description = "The page after the position", body = VersionsPage),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 503, description = "The version map cannot be read now: try again", body = ApiError)))]
pub(super) async fn versions(
    State(api): State<Api>,
    _permit: Work,
    Body(request): Body<VersionsRequest>,
) -> Answer<VersionsPage> {
    Ok(Json(stage(&api)?.versions(&request)?))
}

/// Begins to rebuild the refdb, or answers the rebuild that is in progress. Operators only.
#[utoipa::path(post, path = "/v1/refdb/rebuild", tag = "failover", request_body = RebuildRequest,
    responses((status = 200, description = "The rebuild that has begun", body = Rebuild),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "Another rebuild is in progress at this node", body = ApiError)))]
pub(super) async fn begin(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Body(request): Body<RebuildRequest>,
) -> Answer<Rebuild> {
    Ok(Json(stage(&api)?.begin(&operator.to_string(), request)?))
}

/// Shows the rebuild that is in progress at this node, or was the last one since its start.
#[utoipa::path(get, path = "/v1/refdb/rebuild", tag = "failover",
    responses((status = 200, description = "The rebuild; null if there was none", body = Option<Rebuild>),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn show(State(api): State<Api>, _permit: Look) -> Answer<Option<Rebuild>> {
    Ok(Json(stage(&api)?.rebuild()))
}

fn stage(api: &Api) -> Result<&dyn Rebuilds, Failure> {
    let stage = api.rebuilds.as_deref();
    stage.ok_or_else(|| Failure::unavailable("this sidecar is starting; try again"))
}
