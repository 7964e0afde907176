//! The bridge API: where ref transactions come in, and where operators look.
//!
//! This stage turns HTTP into calls of [`Transactions`] and [`Inspection`] and their answers into HTTP; it knows
//! neither git nor AWS. `app` hands it the implementations.

pub mod access;
mod check;
mod error;
mod extract;
pub mod health;
pub mod latch;
pub mod openapi;
mod routes;
pub mod server;

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, DeleteProjectRequest, ProjectResponse, RefTransactionRequest,
    RefTransactionResponse, SetHeadRequest,
};
use lockstep_proto::status::{HeldStatus, NodeStatus};
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

    /// What became of a transaction: answered by the slot that its id names.
    async fn outcome(&self, txn: &TxnId) -> Result<ProjectResponse, ApiError>;
}

/// What the status API needs of the node.
#[async_trait]
pub trait Inspection: Send + Sync {
    /// The whole status.
    async fn status(&self) -> NodeStatus;

    /// What is parked.
    async fn parked(&self) -> Result<Vec<HeldStatus>, ApiError>;

    /// What is quarantined.
    async fn quarantined(&self) -> Result<Vec<HeldStatus>, ApiError>;
}
