//! Port: from the API to share: the records of a shard, for siblings that do not read it themselves.

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::sharing::{RecordsAnswer, RecordsRequest};

/// Hands records of streams to the other nodes of a site.
#[async_trait]
pub trait SharedRecords: Send + Sync {
    /// The records behind a position of a shard. Waits for them as long as the request says. The answer is bounded in
    /// records and bytes.
    ///
    /// # Errors
    /// Too many calls wait at this node.
    async fn records(&self, request: RecordsRequest) -> Result<RecordsAnswer, ApiError>;
}
