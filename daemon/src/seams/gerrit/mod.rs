//! The node's Gerrit, as far as the sidecar speaks to it.
//!
//! A Gerrit with the bridge asks for its tasks by itself (`api`); a stock Gerrit is told by REST calls ([`rest`]). The contract of
//! [`Gerrit`]: when a task is answered with `Ok`, searches and pages of that Gerrit show the refs as they were when it was
//! called, or later; done twice is done. What is answered with an error is tried again.

pub mod recording;
pub mod rest;

use async_trait::async_trait;
use lockstep_proto::refresh::Task;

/// Why a task was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GerritError {
    /// Gerrit does not answer, or not now: every other task would end the same.
    #[error("Gerrit does not answer: {0}; it is tried again")]
    Away(String),
    /// Gerrit does not let the user in: every other task would end the same, until somebody changes it.
    #[error("{0}; it is tried again")]
    Denied(String),
    /// This task alone: it is ill, or the user has not the right for its kind.
    #[error("{0}; it is tried again")]
    Failed(String),
}

/// Makes a Gerrit look again. The module's documentation is the contract.
#[async_trait]
pub trait Gerrit: Send + Sync {
    /// Does these tasks, in the order that its index and caches need; what became of each, in the order of `tasks`.
    async fn refresh(&self, tasks: &[Task]) -> Vec<Result<(), GerritError>>;

    /// A number that stays while the same process answers, and that another one does not answer with: it has lost what the
    /// one before had acknowledged and had not on its disk.
    ///
    /// # Errors
    /// It does not answer; which process will is not known.
    async fn process(&self) -> Result<u64, GerritError>;
}
