//! Peers: other nodes' repositories, as a source of objects whose journal entries are collected.
//!
//! Every implementation keeps this contract:
//! - The answer of [`Peers::objects`] is complete: together with the closures of `haves`, the packs hold everything
//!   that `wants` need. Packs must be ingested in order, because each one may build on those before it.
//! - A peer that cannot give a complete answer returns an error. [`PeerError::Missing`] names wanted objects that are
//!   absent *now*: another peer may have them, and this one may have them later.
//! - The answer of [`Peers::versions`] is one page of bounded size. A reader compares the heads of all pages: a
//!   version map that changed in between must be read again.
//! - So is the answer of [`Peers::digests`]. It is no snapshot: a project may move between its page and the next.
//! - A peer of an earlier release serves no digests. That is an error which says so, and never an empty page.
//! - The answer of [`Peers::records`] has records of a stream as a peer of the same site has read them. A caller takes
//!   those alone that follow its own position.
//! - A peer is not trusted: [`crate::seams::git::Repositories::ingest`] checks its packs, like all content from
//!   outside.
//!
//! | file | content |
//! |---|---|
//! | `fallback` | asks one peer after the other |
//! | `http` | peers over HTTP |
//! | `named` | some peers of all, which an operator has chosen |
//! | `portions` | fetches objects into a repository, in portions, or some of them alone |
//! | `serve` | the serving side |
//! | `siblings` | the other nodes of this site, which come and go |

mod fallback;
pub mod http;
mod named;
mod portions;
pub mod serve;
mod siblings;

use async_trait::async_trait;
use lockstep_proto::digests::{DigestsPage, DigestsRequest, RefsAnswer, RefsRequest};
use lockstep_proto::doctor::SharedSettings;
use lockstep_proto::explain::{RefAtNode, RefAtNodeRequest};
use lockstep_proto::peer::PeerStatus;
use lockstep_proto::rebuild::{VersionsPage, VersionsRequest};
use lockstep_proto::sharing::{RecordsAnswer, RecordsRequest};
use lockstep_proto::{NodeId, Oid, ProjectName};

use crate::seams::blob::Payload;
pub use fallback::FallbackPeers;
pub use named::named_peers;
pub use portions::{MOST_ALONE, OnArrival, fetch, fetch_alone};
pub use siblings::Siblings;

/// Why a request for objects failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The peers lack these objects: at least one of the wanted objects, or of the objects behind them.
    #[error("no peer has {0:?}; retry when a peer has caught up, or add another peer to [peers]")]
    Missing(Vec<Oid>),
    /// No peer could be asked.
    #[error("no peer can send objects ({0}); try again")]
    NotNow(String),
}

/// Access to other nodes' repositories. The contract is in the module's documentation.
#[async_trait]
pub trait Peers: Send + Sync {
    /// Returns packs of the objects that `wants` need beyond the closures of `haves`, which the caller has. Each list
    /// has at most [`MOST_OIDS`] entries.
    async fn objects(&self, project: &ProjectName, wants: &[Oid], haves: &[Oid]) -> Result<Vec<Payload>, PeerError>;

    /// Returns packs of these objects alone: the caller has everything to which they point. A peer may send more.
    async fn objects_alone(&self, project: &ProjectName, wants: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        self.objects(project, wants, &[]).await
    }

    /// Returns the same as [`Peers::objects`] from the peer with this name alone, as [`PeerStatus`] gives it.
    async fn objects_of(
        &self,
        peer: &str,
        _project: &ProjectName,
        _wants: &[Oid],
        _haves: &[Oid],
    ) -> Result<Vec<Payload>, PeerError> {
        Err(unknown(peer))
    }

    /// The peers, as each answers now. Peers in the same process are not listed.
    async fn statuses(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// Tells which other nodes this site has, as the refdb lists them. Peers that a configuration names stay the same.
    fn tell_siblings(&self, _nodes: &[NodeId]) {}

    /// Whether the peer of this name is reached here.
    fn is(&self, _peer: &str) -> bool {
        false
    }

    /// Returns a page of the version map of the peer with this name, as [`PeerStatus`] gives it.
    async fn versions(&self, peer: &str, _request: &VersionsRequest) -> Result<VersionsPage, PeerError> {
        Err(unknown(peer))
    }

    /// Returns a page of the digests of the peer with this name.
    async fn digests(&self, peer: &str, _request: &DigestsRequest) -> Result<DigestsPage, PeerError> {
        Err(unknown(peer))
    }

    /// Returns some refs of the peer with this name.
    async fn refs(&self, peer: &str, _request: &RefsRequest) -> Result<RefsAnswer, PeerError> {
        Err(unknown(peer))
    }

    /// Returns the part of the peer with this name in the explanation of a ref.
    async fn explain(&self, peer: &str, _request: &RefAtNodeRequest) -> Result<RefAtNode, PeerError> {
        Err(unknown(peer))
    }

    /// Returns the records that the peer with this name has read from a stream, and waits for them as the request says.
    async fn records(&self, peer: &str, _request: &RecordsRequest) -> Result<RecordsAnswer, PeerError> {
        Err(unknown(peer))
    }

    /// Returns the settings of the peer with this name that all nodes should share.
    async fn shared_settings(&self, peer: &str) -> Result<SharedSettings, PeerError> {
        Err(unknown(peer))
    }
}

fn unknown(peer: &str) -> PeerError {
    PeerError::NotNow(format!("peer {peer} is not one of [peers]"))
}

/// Most ids per list in a request. With both lists full, the request stays below the cap on its body.
pub const MOST_OIDS: usize = 5_000;
