//! The other nodes of this site as peers. Their names come from the refdb, so nodes come and go without a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::NodeId;
use parking_lot::Mutex;

use super::Peers;

/// Makes the peer for a node. None: the node is reached in another way already.
type Reach = Box<dyn Fn(&NodeId) -> Option<Arc<dyn Peers>> + Send + Sync>;

/// The nodes of this site that were told last, each with its peer.
pub struct Siblings {
    reach: Reach,
    known: Mutex<BTreeMap<NodeId, Arc<dyn Peers>>>,
}

impl Siblings {
    /// Begins without any node. `reach` makes the peer for a node that is told.
    pub fn new(reach: impl Fn(&NodeId) -> Option<Arc<dyn Peers>> + Send + Sync + 'static) -> Self {
        Self { reach: Box::new(reach), known: Mutex::default() }
    }

    /// Takes over the list of the other nodes of this site. A node that stays keeps its peer.
    pub(super) fn tell(&self, nodes: &[NodeId]) {
        let mut known = self.known.lock();
        known.retain(|node, _| nodes.contains(node));
        let added = nodes.iter().filter(|node| !known.contains_key(*node));
        let added: Vec<_> = added.filter_map(|node| Some((node.clone(), (self.reach)(node)?))).collect();
        known.extend(added);
    }

    /// The peers, in the order of the names of their nodes.
    pub(super) fn all(&self) -> Vec<Arc<dyn Peers>> {
        self.known.lock().values().cloned().collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use async_trait::async_trait;
    use lockstep_proto::peer::PeerStatus;
    use lockstep_proto::{Oid, ProjectName};

    use super::super::PeerError;
    use super::*;
    use crate::seams::blob::Payload;

    /// A peer that knows its name, and has every object already.
    pub struct Named(pub String);

    #[async_trait]
    impl Peers for Named {
        async fn objects(&self, _: &ProjectName, _: &[Oid], _: &[Oid]) -> Result<Vec<Payload>, PeerError> {
            Ok(Vec::new())
        }

        async fn statuses(&self) -> Vec<PeerStatus> {
            let (name, address, way) = (self.0.clone(), String::new(), String::new());
            vec![PeerStatus { name, address, way, answer: None, problem: None, took_ms: 0 }]
        }

        fn is(&self, peer: &str) -> bool {
            self.0 == peer
        }
    }

    /// The names of nodes.
    pub fn nodes(names: &[&str]) -> Vec<NodeId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_node_that_stays_keeps_its_peer_and_one_that_is_named_elsewhere_gets_none() {
        let reach = |node: &NodeId| {
            let is_own = node.as_str() != "a-9";
            is_own.then(|| Arc::new(Named(node.to_string())) as Arc<dyn Peers>)
        };
        let siblings = Siblings::new(reach);
        assert!(siblings.all().is_empty(), "nobody was told yet");
        siblings.tell(&nodes(&["a-2", "a-1", "a-9"]));
        let before = siblings.all();
        assert_eq!(before.iter().map(|peer| peer.is("a-1")).collect::<Vec<_>>(), [true, false]);
        siblings.tell(&nodes(&["a-1", "a-3"]));
        let after = siblings.all();
        assert!(after.len() == 2 && Arc::ptr_eq(&before[0], &after[0]) && after[1].is("a-3"));
    }
}
