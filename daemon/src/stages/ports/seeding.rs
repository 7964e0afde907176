//! How the bridge API reaches the seed stage.

use async_trait::async_trait;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::seed::{SeedRequest, SeedResponse};

/// What the bridge API needs for seeding.
#[async_trait]
pub trait Seeding: Send + Sync {
    /// Begins the seed of a project, or goes on with it, and answers how far it is. The work goes on when the caller drops
    /// the future.
    async fn seed(&self, project: &ProjectName, request: SeedRequest) -> Result<SeedResponse, ApiError>;
}
