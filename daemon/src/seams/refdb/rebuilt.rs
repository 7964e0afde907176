//! The items that a rebuild writes into a new refdb, and the answer to such a write.

use lockstep_proto::rebuild::KnownSite;
use lockstep_proto::{ProjectKey, RefName, limits};

use super::RefItem;

/// The most items of one write of a rebuild. One more item is the condition on the identity.
pub const REBUILT_ITEMS: usize = limits::WRITE_COMMANDS;

/// An item of a refdb that is being rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebuilt {
    /// A ref or pseudo-ref, with its version, value and transaction. A directory mark of the name stays.
    Ref(ProjectKey, RefItem),
    /// A name that refs lie below. It must not be live.
    Directory(ProjectKey, RefName),
    /// A site with its role and epoch.
    Site(KnownSite),
}

/// The answer to a write of a rebuild.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebuildAnswer {
    /// Every item is written, or there already with the same or a higher version or epoch.
    Written,
    /// Nothing was written: the document of the identity has another revision. Another run has taken over, or the
    /// refdb is complete.
    Superseded,
    /// Nothing was written: this name is a live ref, and a live ref lies below it. git cannot hold both.
    NamesExclude(ProjectKey, RefName),
}
