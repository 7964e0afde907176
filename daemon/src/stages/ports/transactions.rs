//! How the bridge API reaches the commit stage.

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, ProjectResponse, RefTransactionRequest,
    RefTransactionResponse, SetHeadRequest,
};
use lockstep_proto::{ProjectName, TxnId};

/// What the bridge API needs of the commit stage. Work goes on when the caller drops the future.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// Commits a batch and moves its refs. A malformed batch is an [`ApiError`]; every other end is a verdict.
    async fn submit(
        &self,
        project: &ProjectName,
        request: RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError>;

    /// Creates a project.
    async fn create_project(
        &self,
        project: &ProjectName,
        request: CreateProjectRequest,
    ) -> Result<ProjectResponse, ApiError>;

    /// Points `HEAD` elsewhere.
    async fn set_head(&self, project: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError>;

    /// Deletes a project.
    async fn delete_project(
        &self,
        project: &ProjectName,
        request: DeleteProjectRequest,
    ) -> Result<ProjectResponse, ApiError>;

    /// What became of a request, without a new try: committed, when what it committed can be seen here; else unknown.
    async fn look_up(
        &self,
        project: &ProjectName,
        request: &RefTransactionRequest,
    ) -> Result<RefTransactionResponse, ApiError>;

    /// What became of a transaction: answered by the slot that its id names.
    async fn outcome(&self, txn: &TxnId) -> Result<ProjectResponse, ApiError>;
}
