//! Ref transactions: commits a batch, and tells the outcome of one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use lockstep_proto::bridge::{ApiError, ProjectResponse, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::named_batch::{BadNames, NamedBatch, NamedResponse};
use tokio::time::Instant;

use super::admission::Work;
use super::check;
use super::context::{Answer, Api, unknown_operation};
use super::error::Failure;
use super::extract::{BatchBody, Objects, Project, Txn};
use super::in_time::{submit_within, unknown_batch};

/// Commits a batch of ref commands on one project.
#[utoipa::path(post, path = "/v1/projects/{project}/ref-transactions", tag = "bridge",
    params(
        ("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)"),
        ("lockstep-objects" = Option<String>, Header,
            description = "`judged`: git's receive-pack or Gerrit's checker has judged the objects. `history`: an \
                existing history, taken as it is. Without it the sidecar judges, if the repository sets \
                `receive.fsckObjects`")),
    request_body = RefTransactionRequest,
    responses(
        (status = 200, description = "A verdict: committed, refused or unknown", body = RefTransactionResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 401, description = "There is no valid bearer token (TCP listener only)", body = ApiError),
        (status = 413, description = "The body is too large", body = ApiError),
        (status = 429, description = "Others have to have their turns first: come again after `Retry-After` seconds",
            body = ApiError),
        (status = 503,
            description = "This sidecar takes no commits now, or has too many requests in progress. `retry` says \
                whether to try again. At a site that is standby, draining, fenced or off it is false, and the message \
                names the site that takes writes",
            body = ApiError)))]
pub(super) async fn ref_transactions(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Objects(judged): Objects,
    BatchBody(batch, large): BatchBody<NamedBatch>,
) -> Answer<NamedResponse> {
    let (request, deadline, bad) = checked(batch, api.deadline)?;
    if let Some(answer) = bad.ends(&request) {
        return Ok(Json(bad.join(answer)));
    }
    let (turn, deadline) = match &api.turns {
        Some(turns) if !api.transactions.is_repeated(&project, &request.request_id) => {
            let began = Instant::now();
            let turn = turns.take(&project, request.actor.as_deref(), deadline).await?;
            (Some(turn), deadline.saturating_sub(began.elapsed()))
        }
        _ => (None, deadline),
    };
    let (batch, held) = ((project, request, judged), (large, turn, permit));
    let answer = submit_within(deadline, &api.work, Arc::clone(&api.transactions), batch, held).await;
    Ok(Json(bad.join(answer?)))
}

/// Reports the outcome of an earlier batch, and commits nothing.
#[utoipa::path(post, path = "/v1/projects/{project}/ref-transactions/look-up", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = RefTransactionRequest,
    responses(
        (status = 200,
            description = "`committed` if the batch was committed and its values can be read here, otherwise `unknown`",
            body = RefTransactionResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503,
            description = "This sidecar is starting or stopping, its site takes no writes, or too many requests are in \
                progress: the outcome cannot be told here now. Ask again, later or at the site that the message names",
            body = ApiError)))]
pub(super) async fn look_up(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    BatchBody(batch, large): BatchBody<NamedBatch>,
) -> Answer<NamedResponse> {
    let (request, deadline, bad) = checked(batch, api.deadline)?;
    if let Some(answer) = bad.ends(&request) {
        return Ok(Json(bad.join(answer)));
    }
    let unknown = unknown_batch(&request);
    let transactions = Arc::clone(&api.transactions);
    let work = async move {
        let answer = transactions.look_up(&project, &request).await;
        drop(large);
        answer
    };
    let answer = api.outlive_within(permit, deadline, work).await;
    Ok(Json(bad.join(answer.unwrap_or(Ok(unknown))?)))
}

/// Sorts a batch by the names of its refs, and checks it. Returns its deadline, too.
fn checked(batch: NamedBatch, usual: Duration) -> Result<(RefTransactionRequest, Duration, BadNames), Failure> {
    check::count(batch.count())?;
    let (request, bad) = batch.sort();
    let deadline = check::batch(&request, usual)?;
    Ok((request, deadline, bad))
}

/// Reports the outcome of a transaction.
#[utoipa::path(get, path = "/v1/transactions/{txn}", tag = "bridge",
    params(("txn" = String, Path, description = "Transaction id, from the field `txn` of an earlier answer")),
    responses((status = 200, description = "A verdict: committed, refused or unknown", body = ProjectResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503,
            description = "The refdb does not answer, this site takes no writes, or too many requests are in progress: \
                the outcome cannot be told here now. Ask again, later or at the site that the message names",
            body = ApiError)))]
pub(super) async fn transaction(State(api): State<Api>, permit: Work, Txn(txn): Txn) -> Answer<ProjectResponse> {
    let transactions = Arc::clone(&api.transactions);
    let answer = api.outlive(permit, api.deadline, async move { transactions.outcome(&txn).await }).await;
    Ok(Json(answer.unwrap_or_else(|| Ok(unknown_operation()))?))
}
