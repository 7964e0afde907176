//! Port: the seed stage commits to a project that takes no other commits.

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, ProjectResponse, RefTransactionRequest, RefTransactionResponse, SetHeadRequest,
};
use lockstep_proto::{ProjectKey, ProjectName, RefName};

use crate::seams::git::IsCommitted;

/// The seeder's commits to a project that is read-only for everybody else.
#[async_trait]
pub trait SeedCommits: Send + Sync {
    /// Creates a project that takes only the seeder's refs.
    async fn begin(&self, project: &ProjectName, request: CreateProjectRequest) -> Result<ProjectResponse, ApiError>;

    /// Commits refs of such a project. `behind` tells which objects are committed besides the values of refs.
    async fn commit(
        &self,
        project: &ProjectKey,
        request: RefTransactionRequest,
        behind: &IsCommitted,
    ) -> Result<RefTransactionResponse, ApiError>;

    /// Opens the project to everybody, with this `HEAD`.
    async fn open(&self, project: &ProjectKey, head: RefName, request_id: String) -> Result<ProjectResponse, ApiError>;

    /// Points the `HEAD` of a project that takes commits.
    async fn point_head(&self, project: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError>;
}
