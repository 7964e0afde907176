//! What readiness waits for: one latch a precondition, opened once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_proto::status::Latch;

/// The latches of one node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Latches(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Latches {
    /// All closed.
    #[must_use]
    pub fn new(names: &[&'static str]) -> Self {
        Self(Arc::new(Mutex::new(names.iter().map(|name| (*name, false)).collect())))
    }

    /// Opens one.
    pub fn open(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, true);
    }

    /// Closes one again: the node is no longer ready.
    pub fn close(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, false);
    }

    /// Whether every one is open.
    #[must_use]
    pub fn all_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().all(|open| *open)
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Latch> {
        let latches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latches.iter().map(|(name, open)| Latch { name: (*name).to_owned(), open: *open }).collect()
    }
}
