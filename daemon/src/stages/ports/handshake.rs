//! How the bridge API reaches the handshake of a starting Gerrit.

use async_trait::async_trait;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{ApiError, ProjectResponse};
use lockstep_proto::gerrit::{HelloRequest, HelloResponse, Stray, StrayRequest};

/// What the bridge API needs for a Gerrit that starts.
#[async_trait]
pub trait Handshake: Send + Sync {
    /// Whether this Gerrit may start here. What cannot be told yet is an [`ApiError`]; ask again.
    async fn hello(&self, gerrit: HelloRequest) -> Result<HelloResponse, ApiError>;

    /// The strays of a project.
    async fn strays(&self, project: &ProjectName) -> Result<Vec<Stray>, ApiError>;

    /// Adopts or discards a stray.
    async fn end_stray(&self, project: &ProjectName, request: StrayRequest) -> Result<ProjectResponse, ApiError>;
}
