//! How the seed stage commits to a project that nobody else may commit to.

use async_trait::async_trait;
use lockstep_proto::bridge::{
    ApiError, CreateProjectRequest, ProjectResponse, RefTransactionRequest, RefTransactionResponse,
};
use lockstep_proto::{ProjectKey, ProjectName, RefName};

use crate::seams::git::IsCommitted;

/// The seed stage needs the commit stage for projects that nobody else may commit to.
#[async_trait]
pub trait SeedCommits: Send + Sync {
    /// Creates a project that takes the seeder's refs alone.
    async fn begin(&self, project: &ProjectName, request: CreateProjectRequest) -> Result<ProjectResponse, ApiError>;

    /// Commits refs of such a project. `behind` tells of objects, beside the values of refs, that are committed.
    async fn commit(
        &self,
        project: &ProjectKey,
        request: RefTransactionRequest,
        behind: &IsCommitted,
    ) -> Result<RefTransactionResponse, ApiError>;

    /// Opens it to everybody, with this `HEAD`.
    async fn open(&self, project: &ProjectKey, head: RefName, request_id: String) -> Result<ProjectResponse, ApiError>;
}
