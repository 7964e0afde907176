//! The state of this node: its status, its parked and quarantined transactions, and whether its refs are those of the
//! refdb. Also one ref at every site.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::debt::{Repair, RepairAnswer};
use lockstep_proto::explain::{ExplainRequest, Explanation};
use lockstep_proto::status::{HeldStatus, NodeStatus};
use lockstep_proto::verify::{Verification, VerifyRequest};

use super::admission::{Look, Work};
use super::context::{Answer, Api};
use super::extract::Body;
use super::operators::Operator;

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

/// The longest name of a site or a peer, in bytes.
const MOST_NAME: usize = 255;

/// The longest time that a repair may take until it is answered. The work goes on.
const REPAIR: Duration = Duration::from_secs(120);

/// Ends a debt of this node: tries a quarantined or parked transaction again, takes the refdb's values in place of a
/// quarantined one, discards a record that was never committed, or brings a degraded project up to date now. Operators
/// only.
#[utoipa::path(post, path = "/v1/repairs", tag = "status", request_body = Repair,
    responses((status = 200, description = "Whether the debt has ended, and if not, why", body = RepairAnswer),
        (status = 400, description = "There is no such entry or debt", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 503, description = "Too many requests are in progress, or there is no answer in time: try again",
            body = ApiError)))]
pub(super) async fn repair(
    State(api): State<Api>,
    operator: Operator,
    permit: Work,
    Body(repair): Body<Repair>,
) -> Answer<RepairAnswer> {
    tracing::warn!(actor = %operator, ?repair, "an operator ends a debt");
    let inspection = Arc::clone(&api.inspection);
    let answer = api.outlive(permit, REPAIR, async move { inspection.repair(repair).await }).await;
    let late = || Err(ApiError::unavailable("the repair is not done yet; it goes on, look at `lockstep status`"));
    Ok(Json(answer.unwrap_or_else(late)?))
}

/// Begins to compare the refs of this node, on its disk and in its version map, with the refdb or with peers. If a
/// verification is in progress, answers that one.
#[utoipa::path(post, path = "/v1/verification", tag = "status", request_body = VerifyRequest,
    responses((status = 200, description = "The verification that has begun, or is in progress", body = Verification),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 503, description = "The node's store cannot be read: try again", body = ApiError)))]
pub(super) async fn verify(
    State(api): State<Api>,
    _permit: Look,
    Body(request): Body<VerifyRequest>,
) -> Answer<Verification> {
    if let Some(share) = request.share.filter(|share| !(1..=100).contains(share)) {
        let message = format!("share {share} is not a percentage; give 1 to 100");
        return Err(ApiError::new(RefusalCode::Invalid, false, message).into());
    }
    let against = request.against.as_deref();
    if against.is_some_and(|against| against.is_empty() || against.len() > MOST_NAME) {
        let message =
            format!("against has {} bytes; give the name of a site or of a peer, or all", against.map_or(0, str::len));
        return Err(ApiError::new(RefusalCode::Invalid, false, message).into());
    }
    if request.maps_only && against.is_none() {
        let message = "maps_only is for a comparison with peers; give against, too, or leave it out";
        return Err(ApiError::new(RefusalCode::Invalid, false, message).into());
    }
    Ok(Json(api.inspection.verify(request).await?))
}

/// Shows the verification that is in progress, or was the last one.
#[utoipa::path(get, path = "/v1/verification", tag = "status",
    responses((status = 200, description = "The verification; null if there was none", body = Option<Verification>),
        (status = 503, description = "Too many status calls are in progress: try again", body = ApiError)))]
pub(super) async fn verification(State(api): State<Api>, _permit: Look) -> Json<Option<Verification>> {
    Json(api.inspection.verification().await)
}

/// Explains a ref: how far its last transaction has come at every site, and why it does not go on. Nodes of other sites
/// are asked as peers.
#[utoipa::path(post, path = "/v1/explain", tag = "status", request_body = ExplainRequest,
    responses((status = 200, description = "The ref at every site", body = Explanation),
        (status = 400, description = "The body is malformed, or the refdb has no such project or ref", body = ApiError),
        (status = 503,
            description = "The refdb or the node's store does not answer, or too many looks are in progress: try again",
            body = ApiError)))]
pub(super) async fn explain(
    State(api): State<Api>,
    _permit: Look,
    Body(request): Body<ExplainRequest>,
) -> Answer<Explanation> {
    Ok(Json(api.inspection.explain(request).await?))
}
