//! All sites, and failover: requests that every caller may make, and those of operators.
//!
//! A change is taken from operators alone. To everybody else its route answers 403.

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverPlan, ModeRequest, PlanRequest, RoleRequest, SitesStatus,
};
use lockstep_proto::history::History;
use lockstep_proto::overview::Overview;
use lockstep_proto::site_list::{AddSiteRequest, RemoveNodeRequest, RemoveSiteRequest};

use super::admission::Look;
use super::context::{Answer, Api};
use super::error::Failure;
use super::extract::{Body, Node, Site};
use super::operators::{Acting, Operator};
use crate::stages::ports::Operators;

/// Shows all sites, and the failover that is in progress or was the last one.
#[utoipa::path(get, path = "/v1/sites", tag = "failover",
    responses((status = 200, description = "The sites and the failover", body = SitesStatus),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn sites(State(api): State<Api>, _permit: Look) -> Answer<SitesStatus> {
    Ok(Json(desk(&api)?.sites().await?))
}

/// Shows all sites with the digests of their nodes, and for each site whether it is safe to fail over to it now, and
/// what it lacks.
#[utoipa::path(get, path = "/v1/overview", tag = "failover",
    responses((status = 200, description = "The overview", body = Overview),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn overview(State(api): State<Api>, _permit: Look) -> Answer<Overview> {
    Ok(Json(desk(&api)?.overview().await?))
}

/// Shows past failovers and changes of role, newest first.
#[utoipa::path(get, path = "/v1/history", tag = "failover",
    responses((status = 200, description = "The history", body = History),
        (status = 503, description = "The refdb does not answer: try again", body = ApiError)))]
pub(super) async fn history(State(api): State<Api>, _permit: Look) -> Answer<History> {
    Ok(Json(desk(&api)?.history().await?))
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
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "The plan has changed or has blockers; nothing was changed", body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn execute(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Body(request): Body<ExecuteRequest>,
) -> Answer<Failover> {
    Ok(Json(desk(&api)?.execute(&operator.to_string(), request).await?))
}

/// Pauses, resumes or aborts the failover that is in progress. Operators only. An approver may resume one that is
/// paused before a step of `pause_before`.
#[utoipa::path(post, path = "/v1/failover/acts", tag = "failover", request_body = ActRequest,
    responses((status = 200, description = "The failover after the act", body = Failover),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "The caller is neither an operator nor an approver", body = ApiError),
        (status = 409, description = "The act does not fit the failover, or is none of an approver",
            body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn act(
    State(api): State<Api>,
    caller: Acting,
    _permit: Look,
    Body(request): Body<ActRequest>,
) -> Answer<Failover> {
    let desk = desk(&api)?;
    let failover = match caller {
        Acting::Operator(operator) => desk.act(&operator.to_string(), request).await?,
        Acting::Approver(approver) => desk.approve(&approver.to_string(), request).await?,
    };
    Ok(Json(failover))
}

/// Changes the role of a site to active or standby. Operators only.
#[utoipa::path(put, path = "/v1/sites/{site}/role", tag = "failover", request_body = RoleRequest,
    params(("site" = String, Path, description = "The name of the site")),
    responses((status = 200, description = "The sites after the change", body = SitesStatus),
        (status = 400, description = "The body is malformed, or there is no such site", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "The site has another epoch, or must keep its role", body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn change_role(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Site(site): Site,
    Body(request): Body<RoleRequest>,
) -> Answer<SitesStatus> {
    Ok(Json(desk(&api)?.change_role(&operator.to_string(), &site, request).await?))
}

/// Switches Lockstep off at a site, or on again. Operators only.
///
/// The nodes of a site that is off end their commits, and take no part until it is on again. Then each of them compares
/// its repositories with the committed state. It takes commits when no ref differs any more.
#[utoipa::path(put, path = "/v1/sites/{site}/mode", tag = "failover", request_body = ModeRequest,
    params(("site" = String, Path, description = "The name of the site")),
    responses((status = 200, description = "The sites after the change", body = SitesStatus),
        (status = 400, description = "The body is malformed, or there is no such site", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "The site has another epoch, or that mode already", body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn change_mode(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Site(site): Site,
    Body(request): Body<ModeRequest>,
) -> Answer<SitesStatus> {
    Ok(Json(desk(&api)?.change_mode(&operator.to_string(), &site, request).await?))
}

/// Adds a site to the list of sites, as a standby. Every node reads its stream from then on. Operators only.
#[utoipa::path(put, path = "/v1/sites/{site}", tag = "failover", request_body = AddSiteRequest,
    params(("site" = String, Path, description = "The name of the site")),
    responses((status = 200, description = "The sites after the change", body = SitesStatus),
        (status = 400, description = "The body is malformed", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "The site is in the list, or a node would not follow it", body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn add_site(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Site(site): Site,
    Body(request): Body<AddSiteRequest>,
) -> Answer<SitesStatus> {
    Ok(Json(desk(&api)?.add_site(&operator.to_string(), &site, request).await?))
}

/// Removes a site that is not active from the list of sites. Its nodes are expelled, and take no part any more.
/// Operators only.
#[utoipa::path(delete, path = "/v1/sites/{site}", tag = "failover", request_body = RemoveSiteRequest,
    params(("site" = String, Path, description = "The name of the site")),
    responses((status = 200, description = "The sites after the change", body = SitesStatus),
        (status = 400, description = "The body is malformed, or there is no such site", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "The site is active, has another epoch, or a node would not follow the list",
            body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn remove_site(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Site(site): Site,
    Body(request): Body<RemoveSiteRequest>,
) -> Answer<SitesStatus> {
    Ok(Json(desk(&api)?.remove_site(&operator.to_string(), &site, request).await?))
}

/// Removes a node that will not come back: nothing waits for it any more. A node that lives is refused. Operators only.
#[utoipa::path(delete, path = "/v1/nodes/{node}", tag = "failover", request_body = RemoveNodeRequest,
    params(("node" = String, Path, description = "The name of the node")),
    responses((status = 200, description = "The sites after the change", body = SitesStatus),
        (status = 400, description = "The body is malformed, or there is no such node", body = ApiError),
        (status = 403, description = "The caller is no operator", body = ApiError),
        (status = 409, description = "The node lives, or its commits have not ended", body = ApiError),
        (status = 503, description = "The refdb does not answer: look at the sites, then try again", body = ApiError)))]
pub(super) async fn remove_node(
    State(api): State<Api>,
    operator: Operator,
    _permit: Look,
    Node(node): Node,
    Body(request): Body<RemoveNodeRequest>,
) -> Answer<SitesStatus> {
    Ok(Json(desk(&api)?.remove_node(&operator.to_string(), &node, request).await?))
}

pub(super) fn desk(api: &Api) -> Result<&dyn Operators, Failure> {
    let desk = api.operators.as_deref();
    desk.ok_or_else(|| Failure::unavailable("this sidecar is starting and knows no sites yet; try again"))
}
