//! The simulator's backend: the raw services, the raw volumes, and the node itself.
//!
//! Faults and watches are between these and the nodes. Checkers read the raw side, without faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::base::clock::{Clock, Entropy};
use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::blob::BlobStore;
use lockstep::seams::eventlog::EventLog;
use lockstep::seams::git::Repositories;
use lockstep::seams::peers::Peers;
use lockstep::seams::refdb::memory::{Backup, MemoryTables};
use lockstep::seams::refdb::{RefDb, Tables};
use lockstep::seams::signing::SiteSigner;
use lockstep::seams::volume::NodeStore;
use lockstep::stages::api::{Inspection, Seeding, Transactions};
use lockstep::stages::ports::{
    Arrivals, Locking, Operators, PeerRefs, Rebuilds, Refreshes, SharedRecords, StreamEvents,
};
use lockstep_proto::drill::DrillRequest;
use lockstep_proto::{NodeId, Oid, ProjectName, RefName, SiteId};

use super::trace::Trace;

/// The raw volume of one node.
pub trait Volume: Send + Sync {
    /// The repositories, with no fault in front of them.
    fn repositories(&self) -> Arc<dyn Repositories>;
    /// The node's own store.
    fn store(&self) -> Arc<dyn NodeStore>;
    /// Puts a new object into a repository, as a push does before its refs are sent to the sidecar.
    fn add_object(&self, project: &ProjectName, pointing_to: &[Oid], nonce: u64) -> Oid;
    /// Whether the volume has a repository of this project.
    fn has(&self, project: &ProjectName) -> bool;
    /// Every ref, as a reader sees it now.
    fn refs(&self, project: &ProjectName) -> BTreeMap<RefName, Oid>;
    /// Whether the repository has an object and everything that it needs.
    fn closure_is_complete(&self, project: &ProjectName, oid: &Oid) -> bool;
    /// A power cut: loses any combination of the unsynced changes.
    fn power_cut(&self, entropy: &dyn Entropy);
    /// Takes a snapshot, and returns the function that restores it. None if this volume cannot.
    fn snapshot(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        None
    }
    /// Replaces the volume by an empty one: repositories, store and unsynced changes are lost.
    fn wipe(&self);
}

/// The raw services that all sites share.
pub trait Backend: Send + Sync {
    /// The refdb of all sites, with no fault in front of it.
    fn refdb(&self) -> RefDb;
    /// The streams of all sites, with no fault in front of them.
    fn eventlog(&self) -> Arc<dyn EventLog>;
    /// The blob store of all sites, with no fault in front of it.
    fn blobs(&self) -> Arc<dyn BlobStore>;
    /// Creates a new, empty volume.
    fn volume(&self) -> Arc<dyn Volume>;
    /// From now on, the refdb writes one item at a time.
    fn write_single_items(&self);
    /// A backup of the refdb.
    fn backup(&self) -> Backup;
    /// Replaces the refdb by a backup, while everything else goes on.
    fn restore(&self, backup: &Backup);
    /// The tables into which a lost refdb is rebuilt.
    fn tables(&self) -> MemoryTables;
    /// Splits or merges shards of a site's stream. Returns a description for the trace, or none if it was not possible.
    fn reshard(&self, site: &SiteId, entropy: &dyn Entropy) -> Option<String>;
    /// Removes the records of a site's stream before this sequence number.
    fn trim(&self, site: &SiteId, before: u64);
}

/// Everything that a node of the simulator is started with: its identity and its seams, with the faults in front. A
/// real node adds an observer and short settings, which makes it `NodeDependencies`. The tiny node has neither.
#[derive(Clone)]
pub struct SimDependencies {
    /// The name of its site.
    pub site: SiteId,
    /// The name of the node.
    pub node: NodeId,
    /// The names of all sites.
    pub sites: Vec<SiteId>,
    /// The machine's boot id. It changes with each power cut.
    pub boot: String,
    /// The trace, for lines about the node itself.
    pub trace: Arc<Trace>,
    /// The refdb, as this node's link lets it through.
    pub refdb: RefDb,
    /// The tables into which a lost refdb is rebuilt.
    pub tables: Arc<dyn Tables>,
    /// The streams of all sites, as this node's link lets them through.
    pub eventlog: Arc<dyn EventLog>,
    /// The blob store, as this node's link lets it through.
    pub blobs: Arc<dyn BlobStore>,
    /// The other nodes' repositories.
    pub peers: Arc<dyn Peers>,
    /// The repositories of its volume, which may be slow or fail.
    pub repositories: Arc<dyn Repositories>,
    /// The node's own store.
    pub store: Arc<dyn NodeStore>,
    /// The node's wall clock.
    pub clock: Arc<dyn Clock>,
    /// The node's source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The key with which the node signs. None if it does not sign.
    pub signer: Option<Arc<SiteSigner>>,
    /// The largest number of items in one write of the refdb.
    pub write_items: usize,
    /// Whether the node verifies itself in the background, all the time.
    pub verifies: bool,
    /// The most records in the buffers of a node that shares its reads. None if it reads alone.
    pub shares: Option<usize>,
    /// Whether an autoscaler sets the number of shards of its site's stream.
    pub autoscales: bool,
    /// The bugs to inject.
    pub bugs: InjectedBugs,
}

/// The handles of a running node, for clients and the nemesis.
#[async_trait]
pub trait SimNode: Send + Sync {
    /// The API for ref transactions, which clients call.
    fn transactions(&self) -> Arc<dyn Transactions>;
    /// The refresh tasks for its Gerrit. None if the node has no Gerrit.
    fn refreshes(&self) -> Option<Arc<dyn Refreshes>>;
    /// The API for stream events, which a bridge calls. None if the node has no stream events.
    fn events(&self) -> Option<Arc<dyn StreamEvents>>;
    /// A crash: ends all tasks of the node at once.
    fn kill(&self);
    /// Stops the node in an orderly way.
    async fn stop(&self);
    /// Whether the node serves.
    fn is_ready(&self) -> bool;
    /// Whether the node found itself fenced, and no longer serves.
    fn is_fenced(&self) -> bool;
    /// Whether the node says that the refdb is older than a node.
    fn went_back(&self) -> bool {
        false
    }
    /// The desk for operators' requests, if the node has one.
    fn operators(&self) -> Option<Arc<dyn Operators>> {
        None
    }
    /// The locks of operators and bridges, if the node has them.
    fn locking(&self) -> Option<Arc<dyn Locking>> {
        None
    }
    /// The version map for peers, and the rebuilding of a lost refdb, if the node has them.
    fn rebuilds(&self) -> Option<Arc<dyn Rebuilds>> {
        None
    }

    /// Digests and refs for peers, if the node has them.
    fn peer_refs(&self) -> Option<Arc<dyn PeerRefs>> {
        None
    }

    /// Hands records of streams to siblings, if the node can.
    fn shared_records(&self) -> Option<Arc<dyn SharedRecords>> {
        None
    }

    /// Tells when a site shows a transaction, if the node can.
    fn arrivals(&self) -> Option<Arc<dyn Arrivals>> {
        None
    }

    /// Begins a drill, and answers its number.
    ///
    /// # Errors
    /// Why it has not begun.
    async fn drill(&self, _request: DrillRequest) -> Result<u64, String> {
        Err("this node drives no drills".to_owned())
    }
    /// The status of the node, if it has one.
    fn inspection(&self) -> Option<Arc<dyn Inspection>> {
        None
    }
    /// The seeder of existing repositories, if the node has one.
    fn seeding(&self) -> Option<Arc<dyn Seeding>> {
        None
    }
}

/// Starts nodes: real ones, or the fakes that test the simulator.
#[async_trait]
pub trait NodeFactory: Send + Sync {
    /// Starts a node, which may become ready later. The world repeats a start that failed.
    async fn start(&self, parts: SimDependencies) -> Result<Arc<dyn SimNode>, String>;
    /// Whether nodes of this factory have Gerrits.
    fn have_gerrits(&self) -> bool;
}
