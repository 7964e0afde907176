//! Port: the failover stage has the refs of this node compared with the refdb.

use async_trait::async_trait;
use lockstep_proto::failover::VerifiedAt;

use crate::seams::volume::StoreError;

/// Why a comparison did not begin, or has no result.
#[derive(Debug, thiserror::Error)]
pub enum ComparisonError {
    /// Another comparison is in progress: its number, the projects and the other side, and its share in percent.
    #[error("verification {0} of {1} at {2} % is in progress; that of the failover waits for its end")]
    InProgress(u64, String, u32),
    /// The comparison of this number is not known any more, because a later one has begun. Begin another one.
    #[error("verification {0} is not the last one any more")]
    NotLast(u64),
    /// The version map cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares all refs of this node with the refdb.
#[async_trait]
pub trait Comparison: Send + Sync {
    /// Begins a comparison of all projects, and returns its number. One that is in progress is not taken for it.
    ///
    /// # Errors
    /// Another comparison is in progress, or the version map cannot be read. A retry may help.
    async fn begin_all(&self) -> Result<u64, ComparisonError>;

    /// The result of a comparison. None while it is in progress.
    ///
    /// # Errors
    /// [`ComparisonError::NotLast`].
    fn result(&self, number: u64) -> Result<Option<VerifiedAt>, ComparisonError>;
}
