//! How the bridge API reaches the events stage.

use async_trait::async_trait;
use lockstep_proto::announcement::{AnnounceRequest, EventsDoneRequest, NextEventsRequest, NextEventsResponse};
use lockstep_proto::bridge::ApiError;

/// What the bridge API needs of stream events.
#[async_trait]
pub trait StreamEvents: Send + Sync {
    /// Takes events of this node's Gerrit; they are durable when it answers.
    async fn announce(&self, request: AnnounceRequest) -> Result<(), ApiError>;

    /// Events of other nodes; waits for one as long as the request says.
    async fn next(&self, request: NextEventsRequest) -> Result<NextEventsResponse, ApiError>;

    /// Events that were heard.
    async fn done(&self, request: EventsDoneRequest) -> Result<(), ApiError>;
}
