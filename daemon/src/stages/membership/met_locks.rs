//! The locks that commits have met, for the watcher.

use std::collections::BTreeSet;

use lockstep_proto::TxnId;
use parking_lot::Mutex;

use crate::stages::ports::MetLocks;

/// Most locks that are noted. A commit that still meets its lock notes it again.
const MOST: usize = 1_000;

/// Locks that stood in the way of a commit since the watcher looked last.
#[derive(Debug, Default)]
pub struct NotedLocks(Mutex<BTreeSet<TxnId>>);

impl MetLocks for NotedLocks {
    fn met(&self, lock: &TxnId) {
        let mut noted = self.0.lock();
        if noted.len() < MOST {
            noted.insert(lock.clone());
        }
    }
}

impl NotedLocks {
    /// Takes all noted transactions out.
    pub(super) fn take(&self) -> BTreeSet<TxnId> {
        std::mem::take(&mut self.0.lock())
    }
}
