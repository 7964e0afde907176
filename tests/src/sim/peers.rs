//! The peers of a simulated node: each peer's repositories are behind the node's link, and reachable only while the
//! peer's process is up.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::seams::blob::Payload;
use lockstep::seams::git::Repositories;
use lockstep::seams::peers::{PeerError, Peers, serve};
use lockstep_proto::{NodeId, Oid, ProjectName};
use parking_lot::Mutex;

use super::faults::{Kind, NetworkError};
use super::link::Link;

/// The nodes that are up.
#[derive(Clone, Debug, Default)]
pub struct Up(Arc<Mutex<BTreeSet<NodeId>>>);

impl Up {
    /// Notes that a node's process has started or ended.
    pub fn set(&self, node: &NodeId, is_up: bool) {
        let mut up = self.0.lock();
        if is_up {
            up.insert(node.clone())
        } else {
            up.remove(node)
        };
    }

    fn has(&self, node: &NodeId) -> bool {
        self.0.lock().contains(node)
    }
}

/// One peer, behind faults.
pub struct FaultyPeer {
    node: NodeId,
    repositories: Arc<dyn Repositories>,
    up: Up,
    link: Link,
}

impl FaultyPeer {
    /// The peer `node` with these raw repositories, behind `link`.
    #[must_use]
    pub fn new(node: NodeId, repositories: Arc<dyn Repositories>, up: Up, link: Link) -> Self {
        Self { node, repositories, up, link }
    }
}

impl NetworkError for PeerError {
    fn not_now() -> Self {
        Self::NotNow("simulated refusal".into())
    }

    fn unknown() -> Self {
        Self::NotNow("simulated silence".into())
    }
}

/// Packs whose debug text is their lengths.
struct Shown(Vec<Payload>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?} bytes", self.0.iter().map(Payload::len).collect::<Vec<_>>())
    }
}

#[async_trait]
impl Peers for FaultyPeer {
    async fn objects(&self, project: &ProjectName, wants: &[Oid], haves: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        let what = format!("objects {project} of {}: {wants:?} on {haves:?}", self.node);
        let (project, wants, haves) = (project.clone(), wants.to_vec(), haves.to_vec());
        let (node, up, repositories) = (self.node.clone(), self.up.clone(), Arc::clone(&self.repositories));
        let call = move || {
            let (project, wants, haves) = (project.clone(), wants.clone(), haves.clone());
            let (is_up, repositories) = (up.has(&node), Arc::clone(&repositories));
            async move {
                if !is_up {
                    return Err(PeerError::NotNow("connection refused".into()));
                }
                serve::objects(repositories.as_ref(), &project, &wants, &haves).await.map(Shown)
            }
        };
        self.link.remote(Kind::Read, what, None, call).await.map(|Shown(packs)| packs)
    }
}
