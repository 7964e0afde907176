//! Seeding: brings the refs and objects of an existing repository into the refdb, as a project.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::seed::{Differences, SeedRequest, SeedResponse};

use super::admission::Work;
use super::context::{Answer, Api};
use super::error::Failure;
use super::extract::{Body, Project};
use super::operators::Operator;

/// The longest time that one call may wait for the end of a seed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Begins or continues the seed of a project, and reports its progress. Ask again until it is open or has failed. A
/// request that takes values from the disk, or sets them aside, in an open project is for operators only.
#[utoipa::path(post, path = "/v1/projects/{project}/seed", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = SeedRequest,
    responses((status = 200, description = "The progress of the seed", body = SeedResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 403, description = "`differences` is not `refuse`, and the caller is no operator", body = ApiError),
        (status = 503, description = "Too many requests are in progress: try again", body = ApiError)))]
pub(super) async fn seed(
    State(api): State<Api>,
    operator: Result<Operator, Failure>,
    _permit: Work,
    Project(project): Project,
    Body(request): Body<SeedRequest>,
) -> Answer<SeedResponse> {
    if request.differences != Differences::Refuse {
        let (actor, differences) = (operator?, request.differences);
        tracing::warn!(%actor, %project, ?differences, "an operator ends differences between disk and refdb");
    }
    let most = LONGEST_WAIT.as_millis();
    if u128::from(request.wait_ms) > most {
        let message = format!("field wait_ms is {}; give 0 to {most} milliseconds, and ask again", request.wait_ms);
        return Err(Failure::malformed(message));
    }
    let none = || Failure::unavailable("this sidecar seeds no projects; ask another sidecar");
    let seeding = api.seeding.clone().ok_or_else(none)?;
    Ok(Json(seeding.seed(&project, request).await?))
}
