//! The peers of a simulated node: each peer's repositories and its version map are behind the node's link, and
//! reachable only while the peer's process is up.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::seams::blob::Payload;
use lockstep::seams::git::Repositories;
use lockstep::seams::peers::{PeerError, Peers, serve};
use lockstep::stages::ports::{PeerRefs, Rebuilds, SharedRecords};
use lockstep_proto::digests::{DigestsPage, DigestsRequest, RefsAnswer, RefsRequest};
use lockstep_proto::peer::{PeerAnswer, PeerStatus};
use lockstep_proto::rebuild::{VersionsPage, VersionsRequest};
use lockstep_proto::sharing::{RecordsAnswer, RecordsRequest};
use lockstep_proto::{NodeId, Oid, ProjectName, SiteId};
use parking_lot::Mutex;

use super::backend::SimNode;
use super::faults::{Kind, NetworkError};
use super::link::Link;
use super::watch::Watch;

/// The nodes that are up.
#[derive(Clone, Default)]
pub struct Up(Arc<Mutex<BTreeMap<NodeId, Arc<dyn SimNode>>>>);

impl Up {
    /// Notes that a node's process has started, or ended for `None`.
    pub fn set(&self, node: &NodeId, running: Option<Arc<dyn SimNode>>) {
        let mut up = self.0.lock();
        match running {
            Some(running) => drop(up.insert(node.clone(), running)),
            None => drop(up.remove(node)),
        }
    }

    fn get(&self, node: &NodeId) -> Option<Arc<dyn SimNode>> {
        self.0.lock().get(node).cloned()
    }
}

/// The surroundings of a peer: the nodes that are up, and the watch, which learns of the ends of shards.
pub struct Sees {
    /// The nodes that are up.
    pub up: Up,
    /// Learns that a node has come to the end of a shard.
    pub watch: Arc<Watch>,
}

/// One peer, behind faults.
pub struct FaultyPeer {
    site: SiteId,
    node: NodeId,
    repositories: Arc<dyn Repositories>,
    up: Up,
    watch: Arc<Watch>,
    link: Link,
}

impl FaultyPeer {
    /// The peer `node` with these raw repositories, behind `link`.
    #[must_use]
    pub fn new((site, node): (SiteId, NodeId), repositories: Arc<dyn Repositories>, sees: Sees, link: Link) -> Self {
        let Sees { up, watch } = sees;
        Self { site, node, repositories, up, watch, link }
    }

    /// The port of the peer's process, if it is up.
    fn rebuilds(&self) -> Option<Arc<dyn Rebuilds>> {
        self.up.get(&self.node)?.rebuilds()
    }

    fn shared_records(&self) -> Option<Arc<dyn SharedRecords>> {
        self.up.get(&self.node)?.shared_records()
    }

    fn peer_refs(&self) -> Result<Arc<dyn PeerRefs>, PeerError> {
        let found = self.up.get(&self.node).and_then(|node| node.peer_refs());
        found.ok_or_else(|| PeerError::NotNow("connection refused".into()))
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

/// Records whose debug text is their sequence numbers.
struct Handed(RecordsAnswer);

impl std::fmt::Debug for Handed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RecordsAnswer::Records { records, ended, .. } = &self.0 else { return write!(out, "{:?}", self.0) };
        let numbers: Vec<&str> = records.iter().map(|record| record.sequence.as_str()).collect();
        write!(out, "{numbers:?}{}", if *ended { " end" } else { "" })
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
            let (is_up, repositories) = (up.get(&node).is_some(), Arc::clone(&repositories));
            async move {
                if !is_up {
                    return Err(PeerError::NotNow("connection refused".into()));
                }
                serve::objects(repositories.as_ref(), &project, &wants, &haves).await.map(Shown)
            }
        };
        self.link.remote(Kind::Read, what, None, call).await.map(|Shown(packs)| packs)
    }

    async fn statuses(&self) -> Vec<PeerStatus> {
        let answer = self.rebuilds().map(|_| PeerAnswer {
            site: self.site.clone(),
            node: self.node.clone(),
            version: "simulated".to_owned(),
            role: String::new(),
            epoch: 0,
            ready: true,
            waits_for: Vec::new(),
        });
        let problem = answer.is_none().then(|| "connection refused".to_owned());
        let (name, way) = (self.node.to_string(), "simulated".to_owned());
        vec![PeerStatus { address: name.clone(), name, way, answer, problem, took_ms: 0 }]
    }

    fn is(&self, peer: &str) -> bool {
        self.node.as_str() == peer
    }

    async fn versions(&self, _peer: &str, request: &VersionsRequest) -> Result<VersionsPage, PeerError> {
        let what = format!("versions of {} after {:?}", self.node, request.after);
        let (rebuilds, request) = (self.rebuilds(), request.clone());
        let call = move || {
            let (rebuilds, request) = (rebuilds.clone(), request.clone());
            async move {
                let Some(rebuilds) = rebuilds else { return Err(PeerError::NotNow("connection refused".into())) };
                rebuilds.versions(&request).map_err(|error| PeerError::NotNow(error.message))
            }
        };
        self.link.remote(Kind::Read, what, None, call).await
    }

    async fn digests(&self, _peer: &str, request: &DigestsRequest) -> Result<DigestsPage, PeerError> {
        let what = format!("digests of {} after {:?}", self.node, request.after);
        let (stage, request) = (self.peer_refs(), request.clone());
        let call = move || {
            let (stage, request) = (stage.clone(), request.clone());
            async move { stage?.digests(request).await.map_err(|error| PeerError::NotNow(error.message)) }
        };
        self.link.remote(Kind::Read, what, None, call).await
    }

    async fn refs(&self, _peer: &str, request: &RefsRequest) -> Result<RefsAnswer, PeerError> {
        let what = format!("refs of {}: {} {:?}", self.node, request.project, request.keys);
        let (stage, request) = (self.peer_refs(), request.clone());
        let call = move || {
            let (stage, request) = (stage.clone(), request.clone());
            async move { stage?.refs(request).await.map_err(|error| PeerError::NotNow(error.message)) }
        };
        self.link.remote(Kind::Read, what, None, call).await
    }

    async fn records(&self, _peer: &str, request: &RecordsRequest) -> Result<RecordsAnswer, PeerError> {
        let what = format!("records {}/{} of {} after {:?}", request.stream, request.shard, self.node, request.after);
        let (stage, asked) = (self.shared_records(), request.clone());
        let call = move || {
            let (stage, asked) = (stage.clone(), asked.clone());
            async move {
                let Some(stage) = stage else { return Err(PeerError::NotNow("connection refused".into())) };
                stage.records(asked).await.map(Handed).map_err(|error| PeerError::NotNow(error.message))
            }
        };
        let Handed(answer) = self.link.remote(Kind::Read, what, None, call).await?;
        if matches!(answer, RecordsAnswer::Records { ended: true, .. }) {
            self.watch.shard_ended(self.link.node(), &request.stream, &request.shard);
        }
        Ok(answer)
    }
}
