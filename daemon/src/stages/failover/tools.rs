//! The means of a node that its driver uses.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::stages::ports::{Comparison, Fencing, Probes};

/// The means of a node that a driver uses.
#[derive(Clone)]
pub struct Tools {
    /// Ends incarnations of any node.
    pub fencing: Arc<dyn Fencing>,
    /// Compares the refs of this node with the refdb.
    pub comparison: Arc<dyn Comparison>,
    /// Acts as users of this node do.
    pub probes: Arc<dyn Probes>,
    /// Wakes the jobs of this node that bring it up to date with the journal.
    pub hurry: Vec<Arc<Notify>>,
}
