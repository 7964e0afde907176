//! Port: the bridge API reaches the commit stage.

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, ProjectResponse, RefTransactionRequest,
    RefTransactionResponse, SetHeadRequest,
};
use lockstep_proto::{ProjectName, TxnId};

use crate::seams::git::Judged;

/// Commits the bridge's requests. The work goes on when the caller drops the future.
///
/// Requests are well-formed: counts and lengths keep `lockstep_proto::limits`, and a batch names each ref once. The API
/// checks this for requests from outside. Stages that submit batches of their own build them so.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// Commits a batch and moves its refs. An [`ApiError`] means that the batch was not tried, because two of its names
    /// exclude each other or this node cannot take it now. Every other outcome is a verdict in the response.
    async fn submit(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError> {
        self.submit_judged(project, request, Judged::No).await
    }

    /// Does the same for a batch whose objects were judged as `judged` says.
    async fn submit_judged(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
        judged: Judged,
    ) -> Result<RefTransactionResponse, ApiError>;

    /// Whether a request with this id is in progress here, or has an answer that is kept. A repeated one gets that
    /// answer, and is no work.
    fn is_repeated(&self, _project: &ProjectName, _request_id: &str) -> bool {
        false
    }

    /// Creates a project that takes commits at once.
    async fn create_project(
        &self,
        project: &ProjectName,
        request: CreateProjectRequest,
    ) -> Result<ProjectResponse, ApiError>;

    /// Points `HEAD` of a project to another ref.
    async fn set_head(&self, project: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError>;

    /// Deletes a project at every site.
    async fn delete_project(
        &self,
        project: &ProjectName,
        request: DeleteProjectRequest,
    ) -> Result<ProjectResponse, ApiError>;

    /// Looks up the outcome of a request without trying it again. It is "committed" when the commit can be seen here,
    /// else "unknown".
    async fn look_up(
        &self,
        project: &ProjectName,
        request: &RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError>;

    /// Looks up the outcome of a transaction in the slot that its id names.
    async fn outcome(&self, txn: &TxnId) -> Result<ProjectResponse, ApiError>;
}
