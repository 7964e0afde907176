//! The nodes whose heartbeat stands still for a lease, as the watcher of this node sees them. A hint: no safety rests
//! on it.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_proto::NodeId;
use parking_lot::Mutex;

/// The names of these nodes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct GoneNodes(Arc<Mutex<BTreeSet<NodeId>>>);

impl GoneNodes {
    /// Replaces the set of names.
    pub fn set(&self, gone: BTreeSet<NodeId>) {
        *self.0.lock() = gone;
    }

    /// The names of all such nodes.
    #[must_use]
    pub fn all(&self) -> BTreeSet<NodeId> {
        self.0.lock().clone()
    }
}
