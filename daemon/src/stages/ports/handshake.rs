//! Port: the bridge API reaches the handshake of a starting Gerrit.

use async_trait::async_trait;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{ApiError, ProjectResponse};
use lockstep_proto::gerrit::{HandshakeRequest, HandshakeResponse, Stray, StrayRequest};

/// Answers a Gerrit that starts, and handles the strays of its projects.
#[async_trait]
pub trait Handshake: Send + Sync {
    /// Decides whether this Gerrit may start here. An [`ApiError`] means that this cannot be decided yet: ask again.
    async fn admit(&self, gerrit: HandshakeRequest) -> Result<HandshakeResponse, ApiError>;

    /// Lists the strays of a project.
    async fn strays(&self, project: &ProjectName) -> Result<Vec<Stray>, ApiError>;

    /// Adopts or discards a stray.
    async fn end_stray(&self, project: &ProjectName, request: StrayRequest) -> Result<ProjectResponse, ApiError>;
}
