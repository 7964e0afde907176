//! Port: the failover stage has the refs of this node compared with the refdb.

use async_trait::async_trait;
use lockstep_proto::failover::VerifiedAt;

/// Compares all refs of this node with the refdb.
#[async_trait]
pub trait Comparison: Send + Sync {
    /// Begins a comparison of all projects, and returns its number. One that is in progress is not taken for it.
    ///
    /// # Errors
    /// Another comparison is in progress, or the version map cannot be read. A retry may help.
    async fn begin_all(&self) -> Result<u64, String>;

    /// The result of a comparison. None while it is in progress.
    ///
    /// # Errors
    /// It is not known any more, because a later one has begun. Begin another one.
    fn result(&self, number: u64) -> Result<Option<VerifiedAt>, String>;
}
