//! Port: from the API to verify: digests and refs of this node, for peers that compare themselves with it or fetch from
//! it.

use async_trait::async_trait;
use lockstep_proto::ProjectName;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::digests::{DigestsPage, DigestsRequest, RefsAnswer, RefsRequest};

/// Tells peers what this node has.
#[async_trait]
pub trait PeerRefs: Send + Sync {
    /// Returns if this node holds the project, with a repository that shows its refs.
    ///
    /// # Errors
    /// The project does not exist here, its repository is being restored, or the node's store failed.
    async fn holds(&self, project: &ProjectName) -> Result<(), ApiError>;

    /// A page of the digests of this node's projects. It is bounded in projects, in bytes, and in refs on the disk.
    ///
    /// # Errors
    /// The node's store failed.
    async fn digests(&self, request: DigestsRequest) -> Result<DigestsPage, ApiError>;

    /// Some refs of a project, as the version map and the disk have them, after a catch-up if the request asks for one.
    /// All catch-ups for peers together take the share of the refdb's read units that a verification takes by default.
    ///
    /// # Errors
    /// The request has too many refs, or the store or the repository cannot be read.
    async fn refs(&self, request: RefsRequest) -> Result<RefsAnswer, ApiError>;
}
