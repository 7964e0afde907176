//! All sites, and failover: what every caller may see, and what operators may change.
//!
//! A change is taken on the operators' socket alone. Everywhere else its route answers 403.

use axum::Json;
use axum::extract::{Extension, State};
use lockstep_proto::bridge::ApiError;
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverPlan, PlanRequest, RoleRequest, SitesStatus,
};

use super::admission::Look;
use super::context::{Answer, Api};
use super::error::Failure;
use super::extract::{Body, Site};
use super::operators::Operator;
use crate::stages::ports::Operators;

/// Shows all sites, and the failover that is in progress or was the last one.
#[utoipa::path(get, path = "/v1/sites", tag = "failover",
    responses((status = 200, description = "The sites and the failover", body = SitesStatus),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn sites(State(api): State<Api>, _permit: Look) -> Answer<SitesStatus> {
    Ok(Json(desk(&api)?.sites().await?))
}

/// Plans a failover, and changes nothing.
#[utoipa::path(post, path = "/v1/failover/plan", tag = "failover", request_body = PlanRequest,
    responses((status = 200, description = "The plan, with its blockers and its hash", body = FailoverPlan),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn plan(
    State(api): State<Api>,
    _permit: Look,
    Body(request): Body<PlanRequest>,
) -> Answer<FailoverPlan> {
    Ok(Json(desk(&api)?.plan(&request).await?))
}

/// Begins a failover. Operators only.
#[utoipa::path(post, path = "/v1/failover", tag = "failover", request_body = ExecuteRequest,
    responses((status = 200, description = "The failover that has begun", body = Failover),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "Not on the operators' socket", body = ApiError),
        (status = 409, description = "The plan has changed or has blockers; nothing was changed", body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn execute(
    State(api): State<Api>,
    operator: Option<Extension<Operator>>,
    _permit: Look,
    Body(request): Body<ExecuteRequest>,
) -> Answer<Failover> {
    Ok(Json(desk(&api)?.execute(&actor(operator)?, request).await?))
}

/// Pauses, resumes or aborts the failover that is in progress. Operators only.
#[utoipa::path(post, path = "/v1/failover/acts", tag = "failover", request_body = ActRequest,
    responses((status = 200, description = "The failover after the act", body = Failover),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "Not on the operators' socket", body = ApiError),
        (status = 409, description = "The act does not fit the failover; nothing was changed", body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn act(
    State(api): State<Api>,
    operator: Option<Extension<Operator>>,
    _permit: Look,
    Body(request): Body<ActRequest>,
) -> Answer<Failover> {
    Ok(Json(desk(&api)?.act(&actor(operator)?, request).await?))
}

/// Changes the role of a site to active or standby. Operators only.
#[utoipa::path(put, path = "/v1/sites/{site}/role", tag = "failover", request_body = RoleRequest,
    params(("site" = String, Path, description = "The name of the site")),
    responses((status = 200, description = "The sites after the change", body = SitesStatus),
        (status = 400, description = "The body is malformed, or there is no such site", body = ApiError),
        (status = 403, description = "Not on the operators' socket", body = ApiError),
        (status = 409, description = "The site has another epoch, or must keep its role", body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn change_role(
    State(api): State<Api>,
    operator: Option<Extension<Operator>>,
    _permit: Look,
    Site(site): Site,
    Body(request): Body<RoleRequest>,
) -> Answer<SitesStatus> {
    Ok(Json(desk(&api)?.change_role(&actor(operator)?, &site, request).await?))
}

fn desk(api: &Api) -> Result<&dyn Operators, Failure> {
    let desk = api.operators.as_deref();
    desk.ok_or_else(|| Failure::unavailable("this sidecar is starting and knows no sites yet; try again"))
}

/// The identity of the operator who asks.
fn actor(operator: Option<Extension<Operator>>) -> Result<String, Failure> {
    let Extension(operator) = operator.ok_or_else(Failure::operators_only)?;
    Ok(operator.to_string())
}
