//! The commit stage: a batch of ref commands becomes one conditional write to the refdb, or is refused.
//!
//! The order of the steps is the core of the design: take the refs' locks, refuse the commands that git would reject,
//! pack against committed values, **commit**, move the local refs, answer. No local ref moves before the commit, so
//! none is ever moved back. When a refusal shows that this node is behind, the node first catches up. If the caller's
//! expectation then holds after all, the batch is sent again under a new transaction id.
//!
//! | file | idea |
//! |---|---|
//! | `work` | the types: intents, proposals and verdicts |
//! | `preconditions` | compares each intent with this node's knowledge |
//! | `build` | builds the transaction: its pack, bases and bytes |
//! | `free_names` | frees a name that was a folder |
//! | `attempt` | the commit point: committed, refused or unknown |
//! | `unused_blob` | deletes the blobs of an attempt that ends without a commit |
//! | `run` | the loop over these steps |
//! | `ends` | the verdicts of a batch at its end |
//! | `repair_refs` | repairs refs that another program wrote |
//! | `in_doubt` | resolves transactions in doubt |
//! | `uncommitted` | keeps the updates that nobody committed, because the site was fenced |
//! | `marks` | stores the marks of the journal |
//! | `requests` | answers retries of the bridge |
//! | `repeated` | finds the first try of a request, in the durable memory and in the chains of refs |
//! | `forget_requests` | drops the oldest committed requests |
//! | `service`, `translate` | the bridge's calls, and the translation of requests and answers |
//! | `under_lock` | refuses batches that a lock of an operator keeps out |
//! | `refusals` | the texts of refusals, for users |
//! | `project` | creation, `HEAD` and deletion of projects |
//! | `seed` | commits that only the seeder may make |

mod attempt;
mod build;
mod ends;
mod forget_requests;
mod free_names;
mod in_doubt;
mod marks;
mod preconditions;
mod project;
mod refusals;
mod repair_refs;
mod repeated;
mod requests;
mod run;
mod seed;
mod service;
mod translate;
mod uncommitted;
mod under_lock;
mod unused_blob;
mod work;

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::SiteId;
use tokio_util::sync::CancellationToken;

pub use forget_requests::RequestForgetter;
pub use in_doubt::InDoubtResolver;
pub use marks::MarkWriter;
pub use refusals::{other_refdb_text, went_back_text};

use crate::base::clock::Clock;
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::blob::BlobStore;
use crate::seams::blob::long_form::LongForms;
use crate::seams::git::Repositories;
use crate::seams::volume::NodeStore;
use crate::stages::ports::{Barrier, CatchUp, MetLocks};
use crate::state::committed_requests::CommittedRequests;
use crate::state::context::{NodeContext, NodeState};
use crate::state::durability::Durability;
use crate::state::journal::Journal;
use crate::state::known_folders::KnownFolders;
use crate::state::materialize::Materializer;
use crate::state::operator_locks::OperatorLocks;
use crate::state::plain_slots::PlainSlots;
use crate::state::quiesce::Quiesce;
use crate::state::signing::Signing;
use crate::state::version_map::{Mover, VersionMap};
use crate::state::went_back::WentBack;
use attempt::Attempts;
use requests::Requests;
use work::Ended;

/// Number of answers that are kept for retries.
const REQUESTS: usize = 10_000;

/// The bounds of the commit stage.
#[derive(Clone, Copy, Debug)]
pub struct CommitLimits {
    /// How long one copy of a commit may take before another copy is sent.
    pub patience: Duration,
    /// Time limit of a batch whose caller sets none.
    pub deadline: Duration,
    /// Packs above this size, in bytes, go to the blob store.
    pub inline_pack_bytes: usize,
    /// Most items, the slot included, that one write of the refdb can commit.
    pub write_items: usize,
    /// How long the deletion of a project waits for the nodes that must know that it is closing.
    pub barrier_patience: Duration,
    /// How long a batch waits for the nodes that must forget the marks of its names, all names together.
    pub freeing_patience: Duration,
}

/// The other stages, as the commit stage sees them.
#[derive(Clone)]
pub struct CommitPorts {
    /// Brings this node up to the refdb's state.
    pub catch_up: Arc<dyn CatchUp>,
    /// The barrier of a project that is being closed.
    pub barrier: Arc<dyn Barrier>,
    /// Takes notice of locks that stand in the way.
    pub locks: Arc<dyn MetLocks>,
}

/// The commit stage of one node.
pub struct Committer {
    /// The site of this node.
    site: SiteId,
    /// The version map of this node.
    versions: Arc<VersionMap>,
    /// The repositories of this node.
    repositories: Arc<dyn Repositories>,
    /// Moves the local refs.
    materializer: Materializer,
    /// The node's store, for the notes of blobs.
    store: Arc<dyn NodeStore>,
    /// The store of packs that are too large for a transaction.
    blobs: Arc<dyn BlobStore>,
    /// The long forms of transactions that do not fit into a slot.
    long_forms: LongForms,
    /// Signs the bytes of a slot, if this node has a key.
    signing: Arc<Signing>,
    /// The journal of this incarnation.
    journal: Arc<Journal>,
    /// Sends transactions to the refdb.
    attempts: Attempts,
    /// Resolves transactions in doubt.
    in_doubt: InDoubtResolver,
    /// Brings this node up to the refdb's state.
    catch_up: Arc<dyn CatchUp>,
    /// Makes ref moves durable, after the answer.
    durability: Durability,
    /// Holds new commits of a project that is being closed.
    quiesce: Arc<Quiesce>,
    /// The directory marks that this incarnation has set.
    folders: Arc<KnownFolders>,
    /// The locks of operators, as this node read them last.
    operator_locks: Arc<OperatorLocks>,
    /// The barrier of a project that is being closed, or of a name that is being freed.
    barrier: Arc<dyn Barrier>,
    /// Takes notice of locks that stand in the way.
    locks: Arc<dyn MetLocks>,
    /// Receives the outcomes and the failures of commits.
    observer: Arc<dyn Observer>,
    /// The clock of commit times, which people and the lag metrics use.
    clock: Arc<dyn Clock>,
    /// Owns the tasks of batches in progress.
    tasks: Tasks,
    /// Whether the refdb is older than this node.
    went_back: WentBack,
    /// Cancelled when this node is fenced. From then on it takes no commits.
    fenced: CancellationToken,
    /// The bounds of the stage.
    limits: CommitLimits,
    /// Answers of earlier tries, for retries.
    requests: Requests<Ended>,
    /// Requests that were committed earlier, over restarts too.
    committed: Arc<CommittedRequests>,
    /// The slots that the collector need not read.
    plain_slots: Arc<PlainSlots>,
}

impl Committer {
    /// Creates the commit stage of a newly opened incarnation, with an empty memory of earlier tries and of directory
    /// marks.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        journal: Arc<Journal>,
        in_doubt: InDoubtResolver,
        ports: CommitPorts,
        limits: CommitLimits,
    ) -> Self {
        let CommitPorts { catch_up, barrier, locks } = ports;
        let NodeContext { site, refdb, repositories, blobs, long_forms, observer, clock, entropy, .. } =
            context.clone();
        let NodeContext { tasks, went_back, fenced, bugs, store, .. } = context.clone();
        let NodeState { versions, materializer, durability, quiesce, folders, signing, .. } = state.clone();
        let operator_locks = Arc::clone(&state.operator_locks);
        folders.begin();
        Self {
            site,
            versions,
            repositories,
            materializer: Materializer { mover: Mover::Own, ..materializer },
            store,
            blobs,
            long_forms,
            signing,
            journal,
            attempts: Attempts { refdb, entropy, patience: limits.patience, bugs },
            in_doubt,
            catch_up,
            durability,
            quiesce,
            folders,
            operator_locks,
            barrier,
            locks,
            observer,
            clock,
            tasks,
            went_back,
            fenced,
            limits,
            requests: Requests::new(REQUESTS),
            committed: Arc::clone(&state.requests),
            plain_slots: Arc::clone(&state.plain_slots),
        }
    }
}
