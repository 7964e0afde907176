//! How the bridge API reaches the refresh stage.

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::refresh::{DoneRequest, DoneResponse, TasksRequest, TasksResponse};

/// What the bridge API needs of the refresh stage.
#[async_trait]
pub trait Refreshes: Send + Sync {
    /// Hands out tasks; waits for the first one as long as the request says.
    ///
    /// # Errors
    /// The session is superseded.
    async fn tasks(&self, request: TasksRequest) -> Result<TasksResponse, ApiError>;

    /// Takes a report of tasks. Those that nobody knows are passed over: they come again.
    ///
    /// # Errors
    /// The session is superseded.
    fn done(&self, request: &DoneRequest) -> Result<DoneResponse, ApiError>;
}
