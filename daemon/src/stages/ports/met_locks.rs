//! From commit to membership: locks that stand in the way.

use lockstep_proto::TxnId;

/// Takes notice of locks whose transactions are neither committed nor void.
pub trait MetLocks: Send + Sync {
    /// A lock of this transaction stands in the way of a commit. If its owner is dead, its slot is to be poisoned, so
    /// that the lock can be removed. Returns at once.
    fn met(&self, lock: &TxnId);
}
