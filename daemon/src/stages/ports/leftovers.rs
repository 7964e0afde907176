//! From membership to publish: the journals of dead incarnations.

use crate::seams::refdb::IncarnationRecord;

/// Publishes, in the background, the committed slots that dead incarnations left.
pub trait Leftovers: Send + Sync {
    /// Sets the poisoned incarnations that are this node's to publish. Called again with the same ones until they are
    /// drained. Returns at once.
    fn publish(&self, mine: Vec<IncarnationRecord>);
}
