//! Refresh calls from the sidecar to the node's Gerrit.
//!
//! A Gerrit with the bridge asks for its refresh tasks itself (`api`). A stock Gerrit gets them by REST calls
//! ([`rest`]). This is the contract of [`Gerrit`]: when a task returns `Ok`, searches and pages of that Gerrit show the
//! refs as they were when the task was called, or later. Tasks are idempotent. The caller retries a task that returns
//! an error.

pub mod recording;
pub mod rest;

use async_trait::async_trait;
use lockstep_proto::refresh::Task;

/// Why a refresh task failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GerritError {
    /// Gerrit does not answer, or cannot answer now. Every other task would fail in the same way.
    #[error("Gerrit does not answer: {0}; Lockstep retries")]
    Away(String),
    /// Gerrit rejects the configured user. Every other task would fail in the same way until an operator corrects it.
    #[error("{0}; Lockstep retries")]
    Denied(String),
    /// Only this task failed: Gerrit cannot do it, or the user lacks a right for its kind.
    #[error("{0}; Lockstep retries")]
    Failed(String),
}

/// Makes a Gerrit refresh its index and caches. The contract is in the module's documentation.
#[async_trait]
pub trait Gerrit: Send + Sync {
    /// Runs these tasks in the order that Gerrit's index and caches need. Returns one result per task, in the order of
    /// `tasks`.
    async fn refresh(&self, tasks: &[Task]) -> Vec<Result<(), GerritError>>;

    /// Returns a number that identifies the Gerrit process. It stays the same while one process answers, and changes
    /// with the next process. That one has lost everything that the previous process had acknowledged but had not
    /// written to disk.
    ///
    /// # Errors
    /// Gerrit does not answer, so its process is unknown.
    async fn process(&self) -> Result<u64, GerritError>;
}
