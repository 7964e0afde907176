//! Asks several peers in turn until everything is found. Each peer sends the part that it has, and the next peer is
//! asked for the rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use lockstep_proto::digests::{DigestsPage, DigestsRequest, RefsAnswer, RefsRequest};
use lockstep_proto::doctor::SharedSettings;
use lockstep_proto::explain::{RefAtNode, RefAtNodeRequest};
use lockstep_proto::peer::PeerStatus;
use lockstep_proto::rebuild::{VersionsPage, VersionsRequest};
use lockstep_proto::sharing::{RecordsAnswer, RecordsRequest};
use lockstep_proto::{NodeId, Oid, ProjectName};

use super::siblings::Siblings;
use super::{MOST_OIDS, PeerError, Peers, unknown};
use crate::seams::blob::Payload;

/// Peers in the order in which they are asked. An empty list stands for a node without peers.
pub struct FallbackPeers {
    peers: Vec<Arc<dyn Peers>>,
    /// The other nodes of this site. They are asked after the peers of the list.
    siblings: Option<Siblings>,
}

impl FallbackPeers {
    /// Creates a chain that asks these peers in order.
    #[must_use]
    pub fn new(peers: Vec<Arc<dyn Peers>>) -> Self {
        Self { peers, siblings: None }
    }

    /// Adds the other nodes of this site, as [`Peers::tell_siblings`] names them.
    #[must_use]
    pub fn with_siblings(self, siblings: Siblings) -> Self {
        Self { siblings: Some(siblings), ..self }
    }

    fn all(&self) -> Vec<Arc<dyn Peers>> {
        let siblings = self.siblings.as_ref().map(Siblings::all).unwrap_or_default();
        self.peers.iter().cloned().chain(siblings).collect()
    }

    /// Takes from each peer the objects that those before it lack: alone, or with all that they need.
    async fn gather(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        haves: &[Oid],
        is_alone: bool,
    ) -> Result<Vec<Payload>, PeerError> {
        let mut gathered = Gathered { packs: Vec::new(), left: wants.iter().copied().collect(), haves: haves.to_vec() };
        let (peers, mut away) = (self.all(), Vec::new());
        for peer in &peers {
            if gathered.left.is_empty() {
                break;
            }
            if let Err(why) = ask(peer.as_ref(), project, &mut gathered, is_alone).await {
                away.push(why);
            }
        }
        match (gathered.left.is_empty(), away.is_empty() && !peers.is_empty()) {
            (true, _) => Ok(gathered.packs),
            (false, true) => Err(PeerError::Missing(gathered.left.into_iter().collect())),
            (false, false) if peers.is_empty() => Err(PeerError::NotNow("none is configured in [peers]".into())),
            (false, false) => Err(PeerError::NotNow(away.join("; "))),
        }
    }

    fn named(&self, peer: &str) -> Result<Arc<dyn Peers>, PeerError> {
        self.all().into_iter().find(|one| one.is(peer)).ok_or_else(|| unknown(peer))
    }
}

/// The objects received so far, and those still wanted.
struct Gathered {
    packs: Vec<Payload>,
    left: BTreeSet<Oid>,
    haves: Vec<Oid>,
}

impl Gathered {
    fn take(&mut self, packs: Vec<Payload>, wants: &[Oid]) {
        self.packs.extend(packs);
        wants.iter().for_each(|oid| _ = self.left.remove(oid));
        // The objects just received are the likeliest bases. The next peer refuses a list longer than [`MOST_OIDS`].
        self.haves.splice(0..0, wants.iter().copied());
        self.haves.truncate(MOST_OIDS);
    }
}

#[async_trait]
impl Peers for FallbackPeers {
    async fn objects(&self, project: &ProjectName, wants: &[Oid], haves: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        self.gather(project, wants, haves, false).await
    }

    async fn objects_alone(&self, project: &ProjectName, wants: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        self.gather(project, wants, &[], true).await
    }

    async fn objects_of(
        &self,
        peer: &str,
        project: &ProjectName,
        wants: &[Oid],
        haves: &[Oid],
    ) -> Result<Vec<Payload>, PeerError> {
        self.named(peer)?.objects(project, wants, haves).await
    }

    async fn statuses(&self) -> Vec<PeerStatus> {
        let peers = self.all();
        join_all(peers.iter().map(|peer| peer.statuses())).await.concat()
    }

    fn tell_siblings(&self, nodes: &[NodeId]) {
        if let Some(siblings) = &self.siblings {
            siblings.tell(nodes);
        }
    }

    fn is(&self, peer: &str) -> bool {
        self.all().iter().any(|one| one.is(peer))
    }

    async fn versions(&self, peer: &str, request: &VersionsRequest) -> Result<VersionsPage, PeerError> {
        self.named(peer)?.versions(peer, request).await
    }

    async fn digests(&self, peer: &str, request: &DigestsRequest) -> Result<DigestsPage, PeerError> {
        self.named(peer)?.digests(peer, request).await
    }

    async fn refs(&self, peer: &str, request: &RefsRequest) -> Result<RefsAnswer, PeerError> {
        self.named(peer)?.refs(peer, request).await
    }

    async fn explain(&self, peer: &str, request: &RefAtNodeRequest) -> Result<RefAtNode, PeerError> {
        self.named(peer)?.explain(peer, request).await
    }

    async fn records(&self, peer: &str, request: &RecordsRequest) -> Result<RecordsAnswer, PeerError> {
        self.named(peer)?.records(peer, request).await
    }

    async fn shared_settings(&self, peer: &str) -> Result<SharedSettings, PeerError> {
        self.named(peer)?.shared_settings(peer).await
    }
}

/// Takes those of the remaining objects that one peer has. Each round asks for fewer objects, or ends.
async fn ask(peer: &dyn Peers, project: &ProjectName, gathered: &mut Gathered, is_alone: bool) -> Result<(), String> {
    let mut wants: Vec<Oid> = gathered.left.iter().copied().collect();
    while !wants.is_empty() {
        let answer = match is_alone {
            true => peer.objects_alone(project, &wants).await,
            false => peer.objects(project, &wants, &gathered.haves).await,
        };
        match answer {
            Ok(packs) => {
                gathered.take(packs, &wants);
                return Ok(());
            }
            Err(PeerError::Missing(absent)) => {
                let before = wants.len();
                wants.retain(|oid| !absent.contains(oid));
                if wants.len() == before {
                    // The peer lacks an object behind a wanted one, and does not say behind which.
                    return Ok(());
                }
            }
            Err(PeerError::NotNow(why)) => return Err(why),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::siblings::tests::{Named, nodes};
    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::seams::git::Repositories;
    use crate::seams::git::model::ModelRepositories;

    /// A peer in the same process.
    struct Near(ModelRepositories);

    #[async_trait]
    impl Peers for Near {
        async fn objects(
            &self,
            project: &ProjectName,
            wants: &[Oid],
            haves: &[Oid],
        ) -> Result<Vec<Payload>, PeerError> {
            super::super::serve::objects(&self.0, project, wants, haves).await
        }
    }

    /// A peer that refuses lists above the bound, as the API does.
    struct Strict(Near);

    #[async_trait]
    impl Peers for Strict {
        async fn objects(
            &self,
            project: &ProjectName,
            wants: &[Oid],
            haves: &[Oid],
        ) -> Result<Vec<Payload>, PeerError> {
            if wants.len().max(haves.len()) > MOST_OIDS {
                return Err(PeerError::NotNow("too many ids".into()));
            }
            self.0.objects(project, wants, haves).await
        }
    }

    fn project() -> ProjectName {
        "p".parse().unwrap()
    }

    async fn volume() -> ModelRepositories {
        let volume = ModelRepositories::new(InjectedBugs::default());
        volume.create(&project(), &"refs/heads/main".parse().unwrap()).await.unwrap();
        volume
    }

    #[tokio::test]
    async fn the_next_peer_gives_objects_that_one_peer_lacks() {
        let (one, two, here) = (volume().await, volume().await, volume().await);
        let base = [&one, &two].map(|volume| volume.add_object(&project(), &[], 1))[0];
        let a = one.add_object(&project(), &[base], 2);
        let b = two.add_object(&project(), &[base], 3);
        let peers = FallbackPeers::new(vec![Arc::new(Near(one)), Arc::new(Near(two))]);
        let packs = peers.objects(&project(), &[a, b], &[]).await.unwrap();
        here.ingest(&project(), &packs, &[a, b], &[]).await.unwrap();
        assert!(here.closure_is_complete(&project(), a) && here.closure_is_complete(&project(), b));
    }

    fn named(name: &str) -> Arc<dyn Peers> {
        Arc::new(Named(name.to_owned()))
    }

    async fn names(peers: &FallbackPeers) -> Vec<String> {
        peers.statuses().await.into_iter().map(|status| status.name).collect()
    }

    #[tokio::test]
    async fn a_site_that_grows_and_shrinks_has_the_peers_of_its_nodes() {
        let siblings = Siblings::new(|node| Some(named(node.as_str())));
        let peers = FallbackPeers::new(vec![named("b-0")]).with_siblings(siblings);
        assert_eq!(names(&peers).await, ["b-0"], "one node");
        peers.tell_siblings(&nodes(&["a-1", "a-2"]));
        assert_eq!(names(&peers).await, ["b-0", "a-1", "a-2"], "three nodes");
        assert!(peers.is("a-2"));
        peers.tell_siblings(&[]);
        assert_eq!(names(&peers).await, ["b-0"], "one node again");
        assert!(!peers.is("a-2"));
    }

    #[tokio::test]
    async fn a_site_without_other_peers_takes_objects_from_its_nodes() {
        let peers = FallbackPeers::new(Vec::new()).with_siblings(Siblings::new(|node| Some(named(node.as_str()))));
        let wanted: Oid = format!("{:040x}", 1).parse().unwrap();
        let alone = peers.objects(&project(), &[wanted], &[]).await.unwrap_err();
        assert!(matches!(alone, PeerError::NotNow(_)), "{alone}");
        peers.tell_siblings(&nodes(&["a-1"]));
        assert_eq!(peers.objects(&project(), &[wanted], &[]).await.map(|packs| packs.len()), Ok(0));
        assert_eq!(peers.objects_of("a-1", &project(), &[wanted], &[]).await.map(|packs| packs.len()), Ok(0));
        let unknown = peers.objects_of("a-2", &project(), &[wanted], &[]).await.unwrap_err();
        assert!(matches!(&unknown, PeerError::NotNow(why) if why.contains("a-2")), "{unknown}");
    }

    /// A peer that sends objects alone, and nothing else.
    struct Alone(ModelRepositories);

    #[async_trait]
    impl Peers for Alone {
        async fn objects(&self, _: &ProjectName, _: &[Oid], _: &[Oid]) -> Result<Vec<Payload>, PeerError> {
            Err(PeerError::NotNow("everything was asked for".into()))
        }

        async fn objects_alone(&self, project: &ProjectName, wants: &[Oid]) -> Result<Vec<Payload>, PeerError> {
            super::super::serve::objects_alone(&self.0, project, wants).await
        }
    }

    #[tokio::test]
    async fn objects_alone_are_asked_for_as_such_at_each_peer() {
        let (one, two, here) = (volume().await, volume().await, volume().await);
        let (a, b) = (one.add_object(&project(), &[], 1), two.add_object(&project(), &[], 2));
        let peers = FallbackPeers::new(vec![Arc::new(Alone(one)), Arc::new(Alone(two))]);
        let packs = peers.objects_alone(&project(), &[a, b]).await.unwrap();
        here.ingest(&project(), &packs, &[a, b], &[]).await.unwrap();
        assert!(here.closure_is_complete(&project(), a) && here.closure_is_complete(&project(), b));
    }

    #[tokio::test]
    async fn no_list_grows_beyond_what_a_peer_takes() {
        let (one, two) = (volume().await, volume().await);
        let (a, b) = (one.add_object(&project(), &[], 1), two.add_object(&project(), &[], 2));
        let haves: Vec<Oid> = (0..MOST_OIDS).map(|n| format!("{:040x}", n + 1).parse().unwrap()).collect();
        let strict = |volume| Arc::new(Strict(Near(volume))) as Arc<dyn Peers>;
        let peers = FallbackPeers::new(vec![strict(one), strict(two)]);
        assert_eq!(peers.objects(&project(), &[a, b], &haves).await.map(|packs| packs.len()), Ok(2));
    }

    #[tokio::test]
    async fn an_object_that_no_peer_has_is_missing_and_without_peers_the_answer_is_not_now() {
        let one = volume().await;
        let elsewhere = volume().await.add_object(&project(), &[], 9);
        let known = one.add_object(&project(), &[], 1);
        let peers = FallbackPeers::new(vec![Arc::new(Near(one))]);
        let missing = peers.objects(&project(), &[elsewhere, known], &[]).await.unwrap_err();
        assert_eq!(missing, PeerError::Missing(vec![elsewhere]));
        let nobody = FallbackPeers::new(Vec::new()).objects(&project(), &[known], &[]).await.unwrap_err();
        assert!(matches!(nobody, PeerError::NotNow(_)), "{nobody}");
    }
}
