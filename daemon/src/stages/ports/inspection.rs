//! How the status API reaches the node.

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::status::{DueStatus, HeldStatus, NodeStatus};

/// What the status API needs of the node.
#[async_trait]
pub trait Inspection: Send + Sync {
    /// The whole status.
    async fn status(&self) -> NodeStatus;

    /// What Gerrit has to look at, the oldest first; not more than a page of it.
    async fn due(&self) -> Vec<DueStatus>;

    /// What is parked.
    async fn parked(&self) -> Result<Vec<HeldStatus>, ApiError>;

    /// What is quarantined.
    async fn quarantined(&self) -> Result<Vec<HeldStatus>, ApiError>;
}
