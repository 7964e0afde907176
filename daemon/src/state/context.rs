//! The handles that nearly every stage of a node is built from: its seams, and its state.
//!
//! A stage's constructor takes these two structs and copies the handles that the stage uses, so its own fields tell its
//! dependencies.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{NodeId, SiteId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::base::clock::{Clock, Entropy};
use crate::base::faults::injected_bug::InjectedBugs;
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::blob::BlobStore;
use crate::seams::blob::long_form::LongForms;
use crate::seams::eventlog::EventLog;
use crate::seams::git::Repositories;
use crate::seams::peers::Peers;
use crate::seams::refdb::RefDb;
use crate::seams::signing::SiteSigner;
use crate::seams::volume::{NodeStore, StoreError};
use crate::state::bootstrap::Bootstrapping;
use crate::state::bound_refdb::BoundRefdb;
use crate::state::coming_back::ComesBack;
use crate::state::committed_requests::CommittedRequests;
use crate::state::debts::{Debts, RetryPace};
use crate::state::durability::Durability;
use crate::state::gone_nodes::GoneNodes;
use crate::state::known_folders::KnownFolders;
use crate::state::low_water::LowWater;
use crate::state::materialize::Materializer;
use crate::state::operator_locks::OperatorLocks;
use crate::state::plain_slots::PlainSlots;
use crate::state::quiesce::Quiesce;
use crate::state::signing::{Signing, SigningParts};
use crate::state::site_roles::SiteRoles;
use crate::state::version_map::{Mover, VersionMap};
use crate::state::went_back::WentBack;

/// The part of a node's dependencies that its stages share, and the handles of this life of the node: its tasks and its
/// fence. The assembly makes it from `NodeDependencies`, and gives each stage its own settings beside it.
#[derive(Clone)]
pub struct NodeContext {
    /// The site of the node.
    pub site: SiteId,
    /// The name of the node.
    pub node: NodeId,
    /// The global ref database.
    pub refdb: RefDb,
    /// The event logs of all sites.
    pub eventlog: Arc<dyn EventLog>,
    /// The blob store for large packs.
    pub blobs: Arc<dyn BlobStore>,
    /// The long forms of transactions that do not fit into a journal slot.
    pub long_forms: LongForms,
    /// Other nodes' sidecars, as sources of objects.
    pub peers: Arc<dyn Peers>,
    /// The repositories on the node's volume.
    pub repositories: Arc<dyn Repositories>,
    /// The node's own durable store.
    pub store: Arc<dyn NodeStore>,
    /// The wall clock: for people to read, and for lag. No decision depends on it.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and for the jitter of retries.
    pub entropy: Arc<dyn Entropy>,
    /// Receives every event and failure of the stages.
    pub observer: Arc<dyn Observer>,
    /// Owns the tasks of the stages.
    pub tasks: Tasks,
    /// Cancelled by a stage that finds this node fenced, or its volume failed.
    pub fenced: CancellationToken,
    /// Whether the refdb is older than this node.
    pub went_back: WentBack,
    /// The key with which this node signs its transactions. None if it does not sign.
    pub signer: Option<Arc<SiteSigner>>,
    /// The bugs that a test has switched on. Production has none.
    pub bugs: InjectedBugs,
}

/// The state of a node that its stages share.
#[derive(Clone)]
pub struct NodeState {
    /// The durable record of each ref's version and value.
    pub versions: Arc<VersionMap>,
    /// Moves local refs to committed values.
    pub materializer: Materializer,
    /// Makes the state durable, step by step.
    pub durability: Durability,
    /// The low-water marks of the node.
    pub low_water: Arc<LowWater>,
    /// Committed requests, for callers that repeat them.
    pub requests: Arc<CommittedRequests>,
    /// The debts: projects and refs that this node cannot bring up to date.
    pub debts: Arc<Debts>,
    /// The refdb that the node's volume belongs to.
    pub bound: Arc<BoundRefdb>,
    /// The roles of all sites, as this node read them last.
    pub roles: Arc<SiteRoles>,
    /// The nodes whose heartbeat stands still.
    pub gone: GoneNodes,
    /// Holds new commits of projects that are being closed.
    pub quiesce: Arc<Quiesce>,
    /// How far the node is with taking everything from the refdb and from peers.
    pub bootstrap: Arc<Bootstrapping>,
    /// Whether the node comes back from a time in which its site was off.
    pub comes_back: ComesBack,
    /// The directory marks that the running incarnation has set.
    pub folders: Arc<KnownFolders>,
    /// Begins a heartbeat at once, which writes this node's low-water marks.
    pub beat: Arc<Notify>,
    /// Signs this node's transactions, and verifies those of streams.
    pub signing: Arc<Signing>,
    /// The locks of operators and bridges, as this node read them last.
    pub operator_locks: Arc<OperatorLocks>,
    /// The slots of this node that the collector need not read.
    pub plain_slots: Arc<PlainSlots>,
}

impl NodeState {
    /// Loads the state from the node's store. A durable step runs at most once per `pace`.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(context: &NodeContext, pace: Duration) -> Result<Self, StoreError> {
        Self::load_with(context, pace, RetryPace::default())
    }

    /// Loads the state, with pauses between the tries of debts that are not the usual ones.
    ///
    /// # Errors
    /// As [`NodeState::load`].
    pub fn load_with(context: &NodeContext, pace: Duration, retry: RetryPace) -> Result<Self, StoreError> {
        let NodeContext { store, repositories, bugs, fenced, .. } = context.clone();
        let versions = Arc::new(VersionMap::new(Arc::clone(&store), bugs));
        let low_water = Arc::new(LowWater::new(store.low_water()?));
        let comes_back = ComesBack::default();
        let materializer = Materializer {
            repositories: Arc::clone(&repositories),
            versions: Arc::clone(&versions),
            mover: Mover::Other,
            comes_back: comes_back.clone(),
        };
        let requests = Arc::new(CommittedRequests::load(Arc::clone(&store), bugs)?);
        let durability = Durability::new(Arc::clone(&versions), repositories, Arc::clone(&store), pace, bugs, fenced);
        durability.add(Arc::clone(&low_water) as _);
        durability.add(Arc::clone(&requests) as _);
        let (clock, entropy) = (Arc::clone(&context.clock), Arc::clone(&context.entropy));
        let debts = Arc::new(Debts::load(store.as_ref(), durability.clone(), clock, entropy, retry)?);
        let (quiesce, roles, bootstrap, gone) =
            (Arc::default(), Arc::<SiteRoles>::default(), Arc::default(), GoneNodes::default());
        let bound = BoundRefdb::load(store.as_ref())?;
        let (folders, beat) = (Arc::new(KnownFolders::new(bugs)), Arc::default());
        let signing = Signing::new(SigningParts {
            own: context.signer.clone(),
            site: context.site.clone(),
            refdb: context.refdb.clone(),
            bound: Arc::clone(&bound),
            roles: Arc::clone(&roles),
            observer: Arc::clone(&context.observer),
            clock: Arc::clone(&context.clock),
            bugs,
        });
        Ok(Self {
            versions,
            materializer,
            durability,
            low_water,
            requests,
            debts,
            bound,
            roles,
            gone,
            quiesce,
            bootstrap,
            comes_back,
            folders,
            beat,
            signing,
            operator_locks: Arc::default(),
            plain_slots: Arc::default(),
        })
    }
}

#[cfg(test)]
use crate::seams::refdb::IncarnationRecord;

#[cfg(test)]
impl NodeContext {
    /// A node on seams in memory, with one seed. Tests replace the parts that they need otherwise.
    pub fn in_memory() -> Self {
        let bugs = InjectedBugs::default();
        let blobs: Arc<dyn BlobStore> = Arc::new(crate::seams::blob::memory::MemoryBlobs::default());
        Self {
            site: "s".parse().unwrap(),
            node: "n".parse().unwrap(),
            refdb: crate::seams::refdb::memory::MemoryRefDb::new().refdb(),
            eventlog: Arc::new(crate::seams::eventlog::memory::MemoryEventLog::new(1)),
            long_forms: LongForms::new(Arc::clone(&blobs), std::path::PathBuf::new(), usize::MAX),
            blobs,
            peers: Arc::new(crate::seams::peers::FallbackPeers::new(Vec::new())),
            repositories: Arc::new(crate::seams::git::model::ModelRepositories::new(bugs)),
            store: Arc::new(crate::seams::volume::memory::MemoryStore::default()),
            clock: Arc::new(crate::base::clock::SystemClock),
            entropy: Arc::new(crate::base::clock::SeededEntropy::new(1)),
            observer: Arc::new(crate::base::observer::Nobody),
            tasks: Tasks::new(),
            fenced: CancellationToken::new(),
            went_back: WentBack::new(bugs),
            signer: None,
            bugs,
        }
    }

    /// Enrolls the site, and opens the node's first incarnation, with one lane.
    pub async fn open_incarnation(&self) -> IncarnationRecord {
        let refdb = &self.refdb;
        refdb.sites.enroll_site(&self.site, crate::seams::refdb::Role::Active).await.unwrap();
        let id = lockstep_proto::IncarnationId { node: self.node.clone(), number: lockstep_proto::Incarnation(1) };
        let record = IncarnationRecord::open(id, self.site.clone(), 1, 8, 1);
        refdb.incarnations.open_incarnation(&record).await.unwrap();
        record
    }
}

/// A transaction of the node in [`NodeContext::in_memory`]: it creates a branch of project `p`, in this slot.
#[cfg(test)]
pub(crate) fn creation(seq: u64) -> lockstep_proto::Transaction {
    crate::base::transaction_builder::TransactionBuilder::in_slot(seq).creates("a").build()
}
