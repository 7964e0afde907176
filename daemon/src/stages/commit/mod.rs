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
//! | `propose` | compares each intent with this node's knowledge |
//! | `build` | builds the transaction: its pack, bases and bytes |
//! | `attempt` | the commit point: committed, refused or unknown |
//! | `run` | the loop over these steps |
//! | `mend` | repairs refs that another program wrote |
//! | `in_doubt` | resolves transactions in doubt, and stores the marks |
//! | `requests` | answers retries of the bridge |
//! | `service`, `translate` | the bridge's calls, and the translation of requests and answers |
//! | `refusals` | the texts of refusals, for users |
//! | `project` | creation, `HEAD` and deletion of projects |
//! | `seed` | commits that only the seeder may make |

mod attempt;
mod build;
mod in_doubt;
mod mend;
mod project;
mod propose;
mod refusals;
mod requests;
mod run;
mod seed;
mod service;
mod translate;
mod work;

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::SiteId;

pub use attempt::Attempts;
pub use in_doubt::{InDoubtResolver, MarkWriter};

use crate::base::clock::Clock;
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::blob::BlobStore;
use crate::seams::git::Repositories;
use crate::stages::ports::{Barrier, CatchUp};
use crate::state::durability::Durability;
use crate::state::journal::Journal;
use crate::state::materialize::Materializer;
use crate::state::quiesce::Quiesce;
use crate::state::version_map::VersionMap;
use requests::Requests;
use work::Ended;

/// The commit stage of one node.
pub struct Committer {
    /// The site of this node.
    pub site: SiteId,
    /// The version map of this node.
    pub versions: Arc<VersionMap>,
    /// The repositories of this node.
    pub repositories: Arc<dyn Repositories>,
    /// Moves the local refs.
    pub materializer: Materializer,
    /// The store of packs that are too large for a transaction.
    pub blobs: Arc<dyn BlobStore>,
    /// The journal of this incarnation.
    pub journal: Arc<Journal>,
    /// Sends transactions to the refdb.
    pub attempts: Attempts,
    /// Resolves transactions in doubt.
    pub in_doubt: InDoubtResolver,
    /// Brings this node up to the refdb's state.
    pub catch_up: Arc<dyn CatchUp>,
    /// Makes ref moves durable, after the answer.
    pub durability: Durability,
    /// Holds new commits of a project that is being closed.
    pub quiesce: Arc<Quiesce>,
    /// The barrier of a project that is being closed.
    pub barrier: Arc<dyn Barrier>,
    /// Receives the outcomes and the failures of commits.
    pub observer: Arc<dyn Observer>,
    /// The clock of commit times, which people and the lag metrics use.
    pub clock: Arc<dyn Clock>,
    /// Owns the tasks of batches in progress.
    pub tasks: Tasks,
    /// Whether this node takes commits now; the reason if it does not.
    pub serving: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Packs above this size, in bytes, go to the blob store.
    pub inline_pack_bytes: usize,
    /// Time limit of a batch whose caller sets none.
    pub deadline: Duration,
    /// Answers of earlier tries, for retries.
    pub(crate) requests: Requests<Ended>,
}

impl Committer {
    /// Number of answers that are kept for retries.
    const REQUESTS: usize = 10_000;

    /// An empty memory of earlier tries.
    pub(crate) fn no_requests() -> Requests<Ended> {
        Requests::new(Self::REQUESTS)
    }
}
