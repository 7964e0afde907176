//! The commit stage: a batch of ref commands becomes one conditional write of the refdb, or is refused.
//!
//! The order is the whole idea: check what git would reject, take the refs' locks, pack against committed values,
//! **commit**, move the local refs, answer. Nothing local happens before the commit, so nothing local is ever undone.
//! A refusal is an opportunity: before it is answered, this node catches up with what it did not know, and where the
//! caller's expectation holds after all, it tries again under a new id.
//!
//! | file | idea |
//! |---|---|
//! | `work` | wishes and verdicts |
//! | `propose` | each wish held against what is known here |
//! | `build` | pack, bases, bytes |
//! | `attempt` | the commit point: committed, refused, unknown |
//! | `run` | the loop over these |
//! | `mend` | refs that somebody wrote behind the sidecar's back |
//! | `in_doubt` | what is left open is settled; marks are stored |
//! | `requests` | retries of the bridge |
//! | `service`, `translate` | the bridge's calls, and its words |
//! | `refusals` | why not, in words of the user |
//! | `project` | creation, HEAD, deletion |
//! | `seed` | what the seeder alone may commit |

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
    /// This site.
    pub site: SiteId,
    /// What is known of refs.
    pub versions: Arc<VersionMap>,
    /// The repositories.
    pub repositories: Arc<dyn Repositories>,
    /// Moves refs.
    pub materializer: Materializer,
    /// For large packs.
    pub blobs: Arc<dyn BlobStore>,
    /// This incarnation's slots.
    pub journal: Arc<Journal>,
    /// The commit point.
    pub attempts: Attempts,
    /// Settles what is left open.
    pub in_doubt: InDoubtResolver,
    /// The apply stage.
    pub catch_up: Arc<dyn CatchUp>,
    /// Makes moves durable, later.
    pub durability: Durability,
    /// Who is inside a project.
    pub quiesce: Arc<Quiesce>,
    /// For taking writability away.
    pub barrier: Arc<dyn Barrier>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// For people and for lag.
    pub clock: Arc<dyn Clock>,
    /// Owns the batches that are under way.
    pub tasks: Tasks,
    /// Whether this node takes commits now; the reason when not.
    pub serving: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Packs above this size go to the blob store.
    pub inline_pack_bytes: usize,
    /// How long a batch may take when its caller does not say.
    pub deadline: Duration,
    /// Answers of earlier tries.
    pub(crate) requests: Requests<Ended>,
}

impl Committer {
    /// How many answers are kept for retries.
    const REQUESTS: usize = 10_000;

    /// An empty memory of earlier tries.
    pub(crate) fn no_requests() -> Requests<Ended> {
        Requests::new(Self::REQUESTS)
    }
}
