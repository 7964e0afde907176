//! What the simulator needs below the seams: the raw services, raw volumes, and the node itself.
//!
//! Faults and watches stand between these and the nodes. Checkers look at the raw side, without faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::base::clock::{Clock, Entropy};
use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::blob::BlobStore;
use lockstep::seams::eventlog::EventLog;
use lockstep::seams::git::Repositories;
use lockstep::seams::peers::Peers;
use lockstep::seams::refdb::RefDb;
use lockstep::seams::volume::NodeStore;
use lockstep::stages::api::{Seeding, Transactions};
use lockstep::stages::ports::{Refreshes, StreamEvents};
use lockstep_proto::{NodeId, Oid, ProjectName, RefName, SiteId};

use super::trace::Trace;

/// One node's volume, raw.
pub trait Volume: Send + Sync {
    /// The repositories.
    fn repositories(&self) -> Arc<dyn Repositories>;
    /// The node's own store.
    fn store(&self) -> Arc<dyn NodeStore>;
    /// Puts a new object into a repository, as a push does before its refs are asked for.
    fn add_object(&self, project: &ProjectName, pointing_to: &[Oid], nonce: u64) -> Oid;
    /// Whether there is a repository.
    fn has(&self, project: &ProjectName) -> bool;
    /// Every ref as a reader sees it now.
    fn refs(&self, project: &ProjectName) -> BTreeMap<RefName, Oid>;
    /// Whether an object and everything that it needs are there.
    fn closure_is_complete(&self, project: &ProjectName, oid: &Oid) -> bool;
    /// Loses what was not synced, in any combination.
    fn power_cut(&self, entropy: &dyn Entropy);
    /// Loses everything.
    fn wipe(&self);
}

/// The services that all sites share, raw.
pub trait Backend: Send + Sync {
    /// The refdb.
    fn refdb(&self) -> RefDb;
    /// The event logs.
    fn eventlog(&self) -> Arc<dyn EventLog>;
    /// The blob store.
    fn blobs(&self) -> Arc<dyn BlobStore>;
    /// A new, empty volume.
    fn volume(&self) -> Arc<dyn Volume>;
    /// Splits or merges shards of a site's stream; says what it did, or nothing when it could not.
    fn reshard(&self, site: &SiteId, entropy: &dyn Entropy) -> Option<String>;
}

/// Everything that a node is started with: its seams, with the faults in front.
#[derive(Clone)]
pub struct NodeParts {
    /// Its site.
    pub site: SiteId,
    /// Its name.
    pub node: NodeId,
    /// Every site.
    pub sites: Vec<SiteId>,
    /// The machine's boot id: another one after each power cut.
    pub boot: String,
    /// Where it may say what it does.
    pub trace: Arc<Trace>,
    /// The refdb.
    pub refdb: RefDb,
    /// The event logs.
    pub eventlog: Arc<dyn EventLog>,
    /// The blob store.
    pub blobs: Arc<dyn BlobStore>,
    /// The other nodes' repositories.
    pub peers: Arc<dyn Peers>,
    /// Its repositories.
    pub repositories: Arc<dyn Repositories>,
    /// Its own store.
    pub store: Arc<dyn NodeStore>,
    /// Its wall clock.
    pub clock: Arc<dyn Clock>,
    /// Its randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Most items of one write of the refdb.
    pub write_items: usize,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

/// A running node.
#[async_trait]
pub trait SimNode: Send + Sync {
    /// Where clients hand in their transactions.
    fn transactions(&self) -> Arc<dyn Transactions>;
    /// Where its Gerrit asks what to look at; none of a node that has no Gerrit.
    fn refreshes(&self) -> Option<Arc<dyn Refreshes>>;
    /// Where a bridge posts and takes stream events; none at a node that knows none.
    fn events(&self) -> Option<Arc<dyn StreamEvents>>;
    /// Ends every task of it where it stands: a crash.
    fn kill(&self);
    /// Ends it in an orderly way.
    async fn stop(&self);
    /// Whether it serves.
    fn is_ready(&self) -> bool;
    /// Whether it found itself fenced, and serves no more.
    fn is_fenced(&self) -> bool;
    /// Who seeds projects, if it can.
    fn seeding(&self) -> Option<Arc<dyn Seeding>> {
        None
    }
}

/// Starts nodes.
#[async_trait]
pub trait NodeFactory: Send + Sync {
    /// Starts one; it may become ready later. A failed start is tried again by the world.
    async fn start(&self, parts: NodeParts) -> Result<Arc<dyn SimNode>, String>;
    /// Whether its nodes have Gerrits.
    fn have_gerrits(&self) -> bool;
}
