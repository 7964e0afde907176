//! Some peers of all, so that an operator can choose the senders of objects.

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::{Oid, ProjectName};

use super::{FallbackPeers, PeerError, Peers};
use crate::seams::blob::Payload;

/// Those of `peers` that have these names, in this order, as a source of objects alone.
#[must_use]
pub fn named_peers(peers: &Arc<dyn Peers>, names: Vec<String>) -> Arc<dyn Peers> {
    let chosen = names.into_iter().map(|name| Arc::new(NamedPeer { peers: Arc::clone(peers), name }) as Arc<dyn Peers>);
    Arc::new(FallbackPeers::new(chosen.collect()))
}

/// The peer with this name.
struct NamedPeer {
    peers: Arc<dyn Peers>,
    name: String,
}

#[async_trait]
impl Peers for NamedPeer {
    async fn objects(&self, project: &ProjectName, wants: &[Oid], haves: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        self.peers.objects_of(&self.name, project, wants, haves).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::seams::git::Repositories;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::peers::serve;

    /// A peer in the same process, with a name.
    struct Near(&'static str, ModelRepositories);

    #[async_trait]
    impl Peers for Near {
        async fn objects(
            &self,
            project: &ProjectName,
            wants: &[Oid],
            haves: &[Oid],
        ) -> Result<Vec<Payload>, PeerError> {
            serve::objects(&self.1, project, wants, haves).await
        }

        fn is(&self, peer: &str) -> bool {
            self.0 == peer
        }
    }

    #[tokio::test]
    async fn only_the_named_peer_is_asked() {
        let project: ProjectName = "p".parse().unwrap();
        let volumes = [(); 2].map(|()| ModelRepositories::new(InjectedBugs::default()));
        for volume in &volumes {
            volume.create(&project, &"refs/heads/main".parse().unwrap()).await.unwrap();
        }
        let value = volumes[0].add_object(&project, &[], 1);
        let [one, two] = volumes;
        let all: Arc<dyn Peers> =
            Arc::new(FallbackPeers::new(vec![Arc::new(Near("one", one)), Arc::new(Near("two", two))]));
        let ask = async |name: &str| named_peers(&all, vec![name.to_owned()]).objects(&project, &[value], &[]).await;
        assert_eq!(ask("one").await.map(|packs| packs.len()), Ok(1));
        assert_eq!(ask("two").await.unwrap_err(), PeerError::Missing(vec![value]));
        let unknown = ask("three").await.unwrap_err();
        assert!(matches!(&unknown, PeerError::NotNow(why) if why.contains("three")), "{unknown}");
    }
}
