//! Port: the bridge API reaches the refresh stage.

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::refresh::{DoneRequest, DoneResponse, TasksRequest, TasksResponse};

/// Hands refresh tasks to Gerrit, and takes Gerrit's reports.
#[async_trait]
pub trait Refreshes: Send + Sync {
    /// Hands out tasks. Waits for the first task as long as the request says.
    ///
    /// # Errors
    /// The session is superseded, or the sidecar is shutting down.
    async fn tasks(&self, request: TasksRequest) -> Result<TasksResponse, ApiError>;

    /// Takes a report of tasks. Ignores unknown task ids; their subjects are handed out again.
    ///
    /// # Errors
    /// The session is superseded.
    fn done(&self, request: &DoneRequest) -> Result<DoneResponse, ApiError>;
}
