//! What the node's Gerrit has not looked at yet, as the store keeps it: one mark a subject.

use lockstep_proto::Oid;
use serde::{Deserialize, Serialize};

/// A subject whose refs have moved since Gerrit acknowledged it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshMark {
    /// Raised by every move of the node, over all its lives: a task carries it as its id.
    pub generation: u64,
    /// When the first of the moves was, in milliseconds since 1970; for people.
    pub since_ms: u64,
    /// This node's own commits alone made it.
    #[serde(default)]
    pub own: bool,
    /// Gerrit has acknowledged it, and may lose it again if it dies soon.
    #[serde(default)]
    pub acknowledged: bool,
    /// What is different.
    #[serde(flatten)]
    pub difference: Difference,
}

/// What is different since the last acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "difference", rename_all = "snake_case")]
pub enum Difference {
    /// Something; Gerrit reads what.
    Some,
    /// A ref had one value, and has another one.
    Value {
        /// At the last acknowledgement.
        old: Option<Oid>,
        /// Now.
        new: Option<Oid>,
    },
    /// A project came or went.
    Project {
        /// One of this name was deleted.
        deleted: bool,
        /// One of this name is there.
        exists: bool,
    },
}

impl RefreshMark {
    /// This mark, and a later one of the same subject.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        let difference = match (self.difference, later.difference) {
            (Difference::Value { old, .. }, Difference::Value { new, .. }) => Difference::Value { old, new },
            (Difference::Project { deleted, .. }, Difference::Project { deleted: again, exists }) => {
                Difference::Project { deleted: deleted || again, exists }
            }
            (_, difference) => difference,
        };
        Self {
            generation: later.generation,
            since_ms: self.since_ms.min(later.since_ms),
            own: self.own && later.own,
            acknowledged: self.acknowledged && later.acknowledged,
            difference,
        }
    }
}
