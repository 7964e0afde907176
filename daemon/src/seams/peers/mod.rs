//! Peers: other nodes' repositories, as a source of objects whose journal entries are collected.
//!
//! The contract that every implementation keeps:
//! - What [`Peers::objects`] answers is complete: with the closures of `haves`, the packs hold everything that `wants` need.
//!   They are taken in their order, each on top of those before it.
//! - It is complete or an error. [`PeerError::Missing`] names wanted objects that are not there *now*: another peer may have
//!   them, and this one may later.
//! - A peer is not trusted: what it sends is checked by [`crate::seams::git::Repositories::ingest`], like anything from outside.

mod fallback;
pub mod http;
pub mod serve;

use async_trait::async_trait;
use lockstep_proto::{Oid, ProjectName};

use crate::seams::blob::Payload;
pub use fallback::FallbackPeers;

/// Why there are no objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// These are not there: at least one of what was wanted, or of what that needs.
    #[error("no peer has {0:?}; they come when a peer has caught up, or add another peer to [peers]")]
    Missing(Vec<Oid>),
    /// No peer can be asked.
    #[error("no peer gives objects ({0}); try again")]
    NotNow(String),
}

/// Other nodes' repositories. The module's own documentation is the contract.
#[async_trait]
pub trait Peers: Send + Sync {
    /// Packs of what `wants` need beyond the closures of `haves`, which the caller has. Neither list has more than
    /// [`MOST_OIDS`] entries.
    async fn objects(&self, project: &ProjectName, wants: &[Oid], haves: &[Oid]) -> Result<Vec<Payload>, PeerError>;
}

/// Most ids in one list of a request: with both lists full it stays below the cap of a request's body.
pub const MOST_OIDS: usize = 5_000;
