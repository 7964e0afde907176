//! Port: the bridge API reaches the seed stage.

use async_trait::async_trait;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::seed::{SeedRequest, SeedResponse};

/// Seeds projects from existing repositories.
#[async_trait]
pub trait Seeding: Send + Sync {
    /// Begins or continues the seed of a project, and returns its progress. The work goes on when the caller drops the
    /// future.
    async fn seed(&self, project: &ProjectName, request: SeedRequest) -> Result<SeedResponse, ApiError>;
}
