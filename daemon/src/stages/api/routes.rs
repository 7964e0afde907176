//! The routes of the bridge API, one handler each: read the request, call the port, write the answer.
//!
//! The work of a handler is a task of its own, which goes on when the client hangs up. A caller whose deadline ends
//! gets "unknown", never "refused".

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, OriginalUri, State};
use axum::http::{Method, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, Router};
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, Outcome, ProjectResponse, RefResult, RefTransactionRequest,
    RefTransactionResponse, Refusal, RefusalCode, SetHeadRequest,
};
use lockstep_proto::limits;
use lockstep_proto::status::{HeldStatus, NodeStatus};
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Look, Work};
use super::error::Failure;
use super::extract::{Body, Project, Txn};
use super::{Handshake, Inspection, Seeding, Transactions, check, events, gerrit, objects, openapi, refresh, seed};
use crate::seams::git::Repositories;
use crate::stages::ports::{Refreshes, StreamEvents};

/// How long past its deadline a request still waits for the commit stage, whose answer says more than "no answer".
const GRACE: Duration = Duration::from_millis(500);

/// The state that all handlers share.
#[derive(Clone)]
pub(super) struct Api {
    pub transactions: Arc<dyn Transactions>,
    pub inspection: Arc<dyn Inspection>,
    /// The repositories whose objects peers may fetch.
    pub repositories: Option<Arc<dyn Repositories>>,
    /// The stage whose refresh tasks a bridge inside Gerrit takes.
    pub refreshes: Option<Arc<dyn Refreshes>>,
    /// The stage that accepts or denies starting Gerrits.
    pub handshake: Option<Arc<dyn Handshake>>,
    /// The stage that seeds projects.
    pub seeding: Option<Arc<dyn Seeding>>,
    /// The stage that forwards stream events; none when they are not forwarded.
    pub events: Option<Arc<dyn StreamEvents>>,
    /// Tracks the tasks that do the work of requests, and that go on when a client hangs up.
    pub work: TaskTracker,
    /// The bounds on requests in progress.
    pub admission: Admission,
    /// The deadline of a request that names none.
    pub deadline: Duration,
}

/// A handler's answer: a JSON body with status 200, or an error.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// Every route: its path and its methods. A test compares the OpenAPI document with this table.
pub(super) fn table() -> Vec<(&'static str, MethodRouter<Api>)> {
    vec![
        ("/v1/projects/{project}/ref-transactions", post(ref_transactions)),
        ("/v1/projects/{project}/ref-transactions/look-up", post(look_up)),
        ("/v1/projects/{project}", put(create_project).delete(delete_project)),
        ("/v1/projects/{project}/head", put(set_head)),
        ("/v1/projects/{project}/objects", post(objects::objects)),
        ("/v1/projects/{project}/strays", get(gerrit::strays).post(gerrit::end_stray)),
        ("/v1/projects/{project}/seed", post(seed::seed)),
        ("/v1/gerrit/hello", post(gerrit::hello)),
        ("/v1/transactions/{txn}", get(transaction)),
        ("/v1/refresh", get(refresh::due)),
        ("/v1/refresh/tasks", post(refresh::tasks)),
        ("/v1/refresh/done", post(refresh::done)),
        ("/v1/events", post(events::announce)),
        ("/v1/events/next", post(events::next)),
        ("/v1/events/done", post(events::done)),
        ("/v1/status", get(status)),
        ("/v1/parked", get(parked)),
        ("/v1/quarantine", get(quarantine)),
        ("/v1/openapi.json", get(openapi_json)),
    ]
}

/// Builds the router over [`table`]. Unknown paths answer 404, and unknown methods 405.
pub(super) fn router(api: Api) -> Router {
    let routes = table().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    routes
        .fallback(|method: Method, OriginalUri(uri): OriginalUri| async move {
            Failure::no_route(method.as_str(), uri.path())
        })
        .method_not_allowed_fallback(|method: Method, OriginalUri(uri): OriginalUri| async move {
            Failure::no_method(method.as_str(), uri.path())
        })
        .layer(DefaultBodyLimit::max(limits::REQUEST_BODY_BYTES))
        .with_state(api)
}

impl Api {
    /// Runs `work` to its end, even if the caller hangs up. Returns `None` if there is no answer within `deadline` and
    /// [`GRACE`], or if `work` panicked: the outcome is then unknown. The permit is held until `work` has ended.
    pub(super) async fn outlive<T: Send + 'static>(
        &self,
        permit: Work,
        deadline: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let work = async move {
            let answer = work.await;
            drop(permit);
            answer
        };
        match tokio::time::timeout(deadline + GRACE, self.work.spawn(work)).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(panic)) => {
                tracing::error!(error = %panic, "the task of a request panicked; the request's outcome is unknown");
                None
            }
            Err(_) => None,
        }
    }

    /// Runs an operation on a project, with the default deadline. Answers "unknown" when it ends first.
    pub(super) async fn on_project(
        &self,
        permit: Work,
        request_id: &str,
        work: impl Future<Output = Result<ProjectResponse, ApiError>> + Send + 'static,
    ) -> Answer<ProjectResponse> {
        check::request_id(request_id)?;
        let answer = self.outlive(permit, self.deadline, work).await;
        Ok(Json(answer.unwrap_or_else(|| Ok(unknown_operation()))?))
    }
}

/// Commits a batch of ref commands on one project.
#[utoipa::path(post, path = "/v1/projects/{project}/ref-transactions", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = RefTransactionRequest,
    responses(
        (status = 200, description = "A verdict: committed, refused or unknown", body = RefTransactionResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 401, description = "There is no valid bearer token (TCP listener only)", body = ApiError),
        (status = 413, description = "The body is too large", body = ApiError),
        (status = 503,
            description = "This sidecar takes no commits now, or has too many requests in progress: try again",
            body = ApiError)))]
pub(super) async fn ref_transactions(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Body(mut request): Body<RefTransactionRequest>,
) -> Answer<RefTransactionResponse> {
    let deadline = check::batch(&request, api.deadline)?;
    request.deadline_ms = Some(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
    let unknown = unknown_batch(&request);
    let transactions = Arc::clone(&api.transactions);
    let answer = api.outlive(permit, deadline, async move { transactions.submit(&project, request).await }).await;
    Ok(Json(answer.unwrap_or(Ok(unknown))?))
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
            description = "This sidecar is starting or draining, or has too many requests in progress: try again",
            body = ApiError)))]
pub(super) async fn look_up(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Body(request): Body<RefTransactionRequest>,
) -> Answer<RefTransactionResponse> {
    let deadline = check::batch(&request, api.deadline)?;
    let unknown = unknown_batch(&request);
    let transactions = Arc::clone(&api.transactions);
    let answer = api.outlive(permit, deadline, async move { transactions.look_up(&project, &request).await }).await;
    Ok(Json(answer.unwrap_or(Ok(unknown))?))
}

/// Creates a project, at every site.
#[utoipa::path(put, path = "/v1/projects/{project}", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = CreateProjectRequest,
    responses((status = 200, description = "A verdict: committed, refused or unknown", body = ProjectResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503,
            description = "This sidecar takes no commits now, or has too many requests in progress: try again",
            body = ApiError)))]
pub(super) async fn create_project(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Body(request): Body<CreateProjectRequest>,
) -> Answer<ProjectResponse> {
    let (transactions, id) = (Arc::clone(&api.transactions), request.request_id.clone());
    api.on_project(permit, &id, async move { transactions.create_project(&project, request).await }).await
}

/// Deletes a project, at every site.
#[utoipa::path(delete, path = "/v1/projects/{project}", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = DeleteProjectRequest,
    responses((status = 200, description = "A verdict: committed, refused or unknown", body = ProjectResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503,
            description = "This sidecar takes no commits now, or has too many requests in progress: try again",
            body = ApiError)))]
pub(super) async fn delete_project(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Body(request): Body<DeleteProjectRequest>,
) -> Answer<ProjectResponse> {
    let (transactions, id) = (Arc::clone(&api.transactions), request.request_id.clone());
    api.on_project(permit, &id, async move { transactions.delete_project(&project, request).await }).await
}

/// Points the `HEAD` of a project at a branch.
#[utoipa::path(put, path = "/v1/projects/{project}/head", tag = "bridge",
    params(("project" = String, Path, description = "Project name, percent-encoded ('/' is %2F)")),
    request_body = SetHeadRequest,
    responses((status = 200, description = "A verdict: committed, refused or unknown", body = ProjectResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503,
            description = "This sidecar takes no commits now, or has too many requests in progress: try again",
            body = ApiError)))]
pub(super) async fn set_head(
    State(api): State<Api>,
    permit: Work,
    Project(project): Project,
    Body(request): Body<SetHeadRequest>,
) -> Answer<ProjectResponse> {
    let (transactions, id) = (Arc::clone(&api.transactions), request.request_id.clone());
    api.on_project(permit, &id, async move { transactions.set_head(&project, request).await }).await
}

/// Reports the outcome of a transaction.
#[utoipa::path(get, path = "/v1/transactions/{txn}", tag = "bridge",
    params(("txn" = String, Path, description = "Transaction id, from the field `txn` of an earlier answer")),
    responses((status = 200, description = "A verdict: committed, refused or unknown", body = ProjectResponse),
        (status = 400, description = "The request is malformed", body = ApiError),
        (status = 503, description = "The refdb does not answer, or too many requests are in progress: try again",
            body = ApiError)))]
pub(super) async fn transaction(State(api): State<Api>, permit: Work, Txn(txn): Txn) -> Answer<ProjectResponse> {
    let transactions = Arc::clone(&api.transactions);
    let answer = api.outlive(permit, api.deadline, async move { transactions.outcome(&txn).await }).await;
    Ok(Json(answer.unwrap_or_else(|| Ok(unknown_operation()))?))
}

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

/// Returns this OpenAPI document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "status",
    responses((status = 200, description = "The OpenAPI document", content_type = "application/json", body = String)))]
pub(super) async fn openapi_json() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document())
}

fn no_answer() -> Refusal {
    Refusal {
        code: RefusalCode::Unavailable,
        message: "no answer within the deadline; it may be committed: ask again with the same request id".to_owned(),
        expected: None,
        actual: None,
        caught_up: false,
        retry: true,
    }
}

fn unknown_operation() -> ProjectResponse {
    ProjectResponse { outcome: Outcome::Unknown, txn: None, refusal: Some(no_answer()) }
}

fn unknown_batch(request: &RefTransactionRequest) -> RefTransactionResponse {
    let result = |name: &lockstep_proto::RefName| RefResult {
        name: name.clone(),
        outcome: Outcome::Unknown,
        refusal: Some(no_answer()),
    };
    let results = request.commands.iter().map(|command| result(&command.name)).collect();
    RefTransactionResponse { outcome: Outcome::Unknown, txn: None, results }
}
