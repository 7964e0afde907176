//! Port: from the API to locks: the locks of operators and bridges.

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::locks::{AcquireRequest, Acquired, BreakRequest, LockList, ReleaseRequest, RenewRequest};

/// Takes requests about locks. Every change carries the authenticated identity of its caller.
#[async_trait]
pub trait Locking: Send + Sync {
    /// All locks, as the refdb has them.
    ///
    /// # Errors
    /// The refdb did not answer.
    async fn list(&self) -> Result<LockList, ApiError>;

    /// Acquires a lock, or goes on with the acquisition of the same request, and waits for a moment until it is held.
    ///
    /// # Errors
    /// Another lock overlaps, a field is malformed, or the refdb did not answer: then the lock may be in the list, and
    /// a repetition of the request finds it.
    async fn acquire(&self, by: &str, request: AcquireRequest) -> Result<Acquired, ApiError>;

    /// Renews a lock.
    ///
    /// # Errors
    /// No lock has this token, or the refdb did not answer.
    async fn renew(&self, by: &str, request: RenewRequest) -> Result<LockList, ApiError>;

    /// Releases a lock. A lock that is gone is released already.
    ///
    /// # Errors
    /// The refdb did not answer.
    async fn release(&self, by: &str, request: ReleaseRequest) -> Result<LockList, ApiError>;

    /// Breaks the lock of a target.
    ///
    /// # Errors
    /// The target has no lock, or the refdb did not answer.
    async fn break_lock(&self, by: &str, request: BreakRequest) -> Result<LockList, ApiError>;
}
