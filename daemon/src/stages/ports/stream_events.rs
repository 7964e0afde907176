//! Port: the bridge API reaches the events stage.

use async_trait::async_trait;
use lockstep_proto::announcement::{AnnounceRequest, EventsDoneRequest, NextEventsRequest, NextEventsResponse};
use lockstep_proto::bridge::ApiError;

/// Takes the stream events of this node's Gerrit, and delivers those of other nodes.
#[async_trait]
pub trait StreamEvents: Send + Sync {
    /// Takes events of this node's Gerrit. They are durable when the call returns.
    async fn announce(&self, request: AnnounceRequest) -> Result<(), ApiError>;

    /// Returns events of other nodes. Waits for the first one as long as the request says.
    async fn next(&self, request: NextEventsRequest) -> Result<NextEventsResponse, ApiError>;

    /// Takes Gerrit's confirmation of delivered events.
    async fn done(&self, request: EventsDoneRequest) -> Result<(), ApiError>;
}
