//! The refdb that a volume belongs to. A node commits only into this one, whatever its configuration says.

use lockstep_proto::rebuild::{KnownSite, RefdbIdentity};
use serde::{Deserialize, Serialize};

/// The refdb of a volume, and the sites as the node knew them last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundTo {
    /// The identity of the refdb. None on a new volume, and on one of a release without identities.
    #[serde(default)]
    pub refdb: Option<RefdbIdentity>,
    /// The sites. A rebuild takes their roles from here when the refdb is lost.
    #[serde(default)]
    pub sites: Vec<KnownSite>,
}
