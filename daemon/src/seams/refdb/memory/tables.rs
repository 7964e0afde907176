//! Refdbs in memory under names, as tables of one store are.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::MemoryRefDb;
use crate::seams::refdb::{RefDb, Tables};

/// Some refdbs under names. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryTables(Arc<Mutex<BTreeMap<String, MemoryRefDb>>>);

impl MemoryTables {
    /// The prefix of the node's own tables.
    pub const CURRENT: &'static str = "current";

    /// The refdb under this name. It is empty at first.
    #[must_use]
    pub fn at(&self, prefix: &str) -> MemoryRefDb {
        self.0.lock().entry(prefix.to_owned()).or_default().clone()
    }
}

impl Tables for MemoryTables {
    fn current(&self) -> String {
        Self::CURRENT.to_owned()
    }

    fn open(&self, prefix: &str) -> RefDb {
        self.at(prefix).refdb()
    }
}
