//! How far this volume's node has come in the refdb. Each number is durable here before the refdb gets it, so a refdb
//! that has a lower one is older than this volume, and a volume that has a lower one is older than the refdb.

use lockstep_proto::{NodeId, SiteId};
use serde::{Deserialize, Serialize};

/// The numbers that a node with this volume has written into the refdb.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The node, with its site. None on a new volume, and on one of a release that kept no numbers.
    #[serde(default)]
    pub node: Option<(SiteId, NodeId)>,
    /// The highest heartbeat that was sent. The refdb has this one or the one before.
    #[serde(default)]
    pub beat: u64,
    /// The highest incarnation number that was ever sent. Neither this number nor a lower one is used again.
    #[serde(default)]
    pub tried: u64,
    /// The highest incarnation number that the refdb has confirmed.
    #[serde(default)]
    pub opened: u64,
}

impl Registered {
    /// A heartbeat of a node.
    #[must_use]
    pub fn beat(site: &SiteId, node: &NodeId, beat: u64) -> Self {
        Self { beat, ..Self::default().of(site, node) }
    }

    /// The numbers together with later ones. Each number only grows, and a number that is missing in `later` stays.
    #[must_use]
    pub fn and(&self, later: &Self) -> Self {
        if self.node != later.node {
            return later.clone();
        }
        Self {
            node: self.node.clone(),
            beat: self.beat.max(later.beat),
            tried: self.tried.max(later.tried),
            opened: self.opened.max(later.opened),
        }
    }

    /// The numbers of this node. They are zeros if the volume was another node's.
    #[must_use]
    pub fn of(self, site: &SiteId, node: &NodeId) -> Self {
        let mine = Some((site.clone(), node.clone()));
        if self.node == mine { self } else { Self { node: mine, ..Self::default() } }
    }
}
