//! Port: from the API to rebuild: pages of the version map for peers, and a new refdb for operators.

use lockstep_proto::bridge::ApiError;
use lockstep_proto::rebuild::{Rebuild, RebuildRequest, VersionsPage, VersionsRequest};

/// Serves the version map of this node, and rebuilds a lost refdb.
pub trait Rebuilds: Send + Sync {
    /// A page of the version map.
    ///
    /// # Errors
    /// The node's store failed.
    fn versions(&self, request: &VersionsRequest) -> Result<VersionsPage, ApiError>;

    /// Begins a rebuild, or answers the one that is in progress. `actor` is the authenticated identity of the operator.
    ///
    /// # Errors
    /// Another rebuild is in progress at this node.
    fn begin(&self, actor: &str, request: RebuildRequest) -> Result<Rebuild, ApiError>;

    /// The rebuild that is in progress, or was the last one since the start of the node.
    fn rebuild(&self) -> Option<Rebuild>;
}
