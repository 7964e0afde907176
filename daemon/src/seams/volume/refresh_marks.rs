//! Refresh marks as the store keeps them: one mark per subject that the node's Gerrit must refresh.

use lockstep_proto::Oid;
use serde::{Deserialize, Serialize};

/// The mark of a subject whose refs have moved since Gerrit last acknowledged it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshMark {
    /// A number that every move on this node raises, across restarts. A refresh task carries it as its id.
    pub generation: u64,
    /// The time of the first of these moves, in milliseconds since 1970. It is shown to operators and decides nothing.
    pub since_ms: u64,
    /// Whether all these moves are this node's own commits.
    #[serde(default)]
    pub own: bool,
    /// Whether Gerrit has acknowledged the mark. It may still lose the refresh if it dies soon.
    #[serde(default)]
    pub acknowledged: bool,
    /// The difference since the last acknowledgement.
    #[serde(flatten)]
    pub difference: Difference,
}

/// The difference of a subject since Gerrit's last acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "difference", rename_all = "snake_case")]
pub enum Difference {
    /// An unspecified difference. Gerrit reads the refs itself.
    Some,
    /// A ref has another value.
    Value {
        /// The value at the last acknowledgement.
        old: Option<Oid>,
        /// The value of the latest applied move.
        new: Option<Oid>,
    },
    /// A project was created or deleted.
    Project {
        /// A project of this name was deleted.
        deleted: bool,
        /// A project of this name exists.
        exists: bool,
    },
}

impl RefreshMark {
    /// Combines this mark with a later one of the same subject.
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
