//! The resync stage: brings refs and objects of this node again to the refdb's state, as an operator asks.
//!
//! It repairs damage that no other stage looks for: objects that a disk has lost or garbled behind refs that look
//! right, refs that something else has moved, records that the version map lacks. Per project it catches up with the
//! refdb, reads every object, walks the history of every value, fetches the objects of incomplete values from peers,
//! and sets the refs on the disk to their committed values. A value on the disk that was never committed is kept as a
//! stray.
//!
//! One resync runs at a time at a node, one project after the other, and goes on when its caller hangs up. Fetching
//! holds no lock, so commits go on. Nothing of the request is durable: after a restart it has to be asked again. Only a
//! project whose garbled files were taken away, or whose repository was missing, is noted durably as being restored, so
//! that the repository restorer ends the work after a crash (`docs/adr/0053`).
//!
//! Between `init` and the handshake of a Gerrit, refs of All-Projects and All-Users on the disk may be values that
//! `init` has written and that nobody has committed yet. While no Gerrit asks for refresh tasks here, a resync sets no
//! ref of these two projects, and says so. It does not note them as being restored either, but for a repository that
//! was missing: that one has no writes of `init`. When it takes garbled files away, it notes them as being mended,
//! Gerrit or not: after a crash, the repository restorer fetches their objects, and sets their refs once a Gerrit runs.
//!
//! | file | content |
//! |---|---|
//! | `refusals` | requests that make no sense at this node |
//! | `sources` | the peers that send the objects |
//! | `job` | takes the projects one by one, and reports |
//! | `project` | brings one project, or one ref, to the refdb's state |
//! | `objects` | finds incomplete values, and fetches their objects |

mod job;
mod objects;
mod project;
mod refusals;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_proto::bridge::ApiError;
use lockstep_proto::resync::{Resync, ResyncRequest, ResyncScope};
use lockstep_proto::{NodeId, ProjectName, SiteId};

use crate::base::clock::Clock;
use crate::base::tasks::Tasks;
use crate::seams::git::{GitError, Repositories};
use crate::seams::peers::{PeerError, Peers};
use crate::seams::refdb::RefDb;
use crate::seams::volume::{NodeStore, StoreError};
use crate::stages::ports::{CatchUp, CatchUpError};
use crate::state::coming_back::ComesBack;
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::durability::Durability;
use crate::state::materialize::{MaterializeError, Materializer};
use crate::state::operator_run::{Begun, OperatorRun, RunReport};
use crate::state::version_map::VersionMap;
use crate::state::went_back::WentBack;

/// Why a project is not whole.
#[derive(Debug, thiserror::Error)]
enum ResyncError {
    /// The refs could not be brought up to the refdb's state.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// An operation on the repository failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The refs on the disk could not be set.
    #[error(transparent)]
    Materialize(#[from] MaterializeError),
    /// No peer has sent the objects.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Peers have sent objects, and values still need others.
    #[error("{0} values still need objects that are not here; give another peer with --from, or ask again")]
    Incomplete(usize),
    /// Refs of All-Projects or All-Users differ on the disk, and the handshake of a Gerrit decides about them.
    #[error(
        "{0} refs on the disk are not at their committed values, and no Gerrit runs here: they may be writes of `init` \
         or of a schema upgrade, which were not committed yet; nothing was set. Start Gerrit: its handshake commits \
         such writes, and restores lost values. Then ask again"
    )]
    LeftToGerrit(usize),
}

impl ResyncError {
    /// Whether the same request may succeed later, without a repair.
    fn retry_helps(&self) -> bool {
        match self {
            Self::CatchUp(error) => error.retry_helps(),
            Self::Git(error) | Self::Materialize(MaterializeError::Git(error)) => {
                !matches!(error, GitError::Bad { .. })
            }
            Self::Peer(_) | Self::Incomplete(_) | Self::LeftToGerrit(_) => true,
            Self::Store(_) | Self::Materialize(MaterializeError::Store(_)) => false,
        }
    }
}

/// Brings refs and objects of one node to the refdb's state. Clones share the resync that is in progress.
#[derive(Clone)]
pub struct Resyncer {
    site: SiteId,
    node: NodeId,
    refdb: RefDb,
    store: Arc<dyn NodeStore>,
    repositories: Arc<dyn Repositories>,
    peers: Arc<dyn Peers>,
    versions: Arc<VersionMap>,
    materializer: Materializer,
    durability: Durability,
    debts: Arc<Debts>,
    catch_up: Arc<dyn CatchUp>,
    went_back: WentBack,
    comes_back: ComesBack,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    run: OperatorRun<Resync>,
    /// The projects to which Gerrit's `init` writes while no Gerrit runs.
    of_init: BTreeSet<ProjectName>,
    gerrit_runs: GerritRuns,
}

/// Whether a Gerrit that was let in runs at this node.
pub type GerritRuns = Arc<dyn Fn() -> bool + Send + Sync>;

impl Resyncer {
    /// The resyncer of a node, which catches up through `catch_up`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, catch_up: Arc<dyn CatchUp>) -> Self {
        let NodeContext { site, node, refdb, store, repositories, peers, went_back, clock, tasks, .. } =
            context.clone();
        let NodeState { versions, materializer, durability, debts, comes_back, .. } = state.clone();
        Self {
            site,
            node,
            refdb,
            store,
            repositories,
            peers,
            versions,
            materializer,
            durability,
            debts,
            catch_up,
            went_back,
            comes_back,
            clock,
            tasks,
            run: OperatorRun::default(),
            of_init: BTreeSet::new(),
            gerrit_runs: Arc::new(|| true),
        }
    }

    /// Leaves the refs of these projects to the handshake while no Gerrit runs.
    #[must_use]
    pub fn leaving(self, of_init: BTreeSet<ProjectName>, gerrit_runs: GerritRuns) -> Self {
        Self { of_init, gerrit_runs, ..self }
    }

    /// Begins a resync, or answers the same one if it is in progress. `actor` is the authenticated identity of the
    /// operator.
    ///
    /// # Errors
    /// The request makes no sense, another resync is in progress, or the refdb does not answer. Nothing was begun.
    pub async fn begin(&self, actor: &str, request: ResyncRequest) -> Result<Resync, ApiError> {
        if let Some(running) = self.run.joined(&request)? {
            return Ok(running);
        }
        self.check(&request).await?;
        let sources = sources::choose(&self.peers, request.from.as_deref()).await?;
        let ask_too = match request.scope {
            ResyncScope::Site => self.siblings().await?,
            ResyncScope::Project { .. } | ResyncScope::All => Vec::new(),
        };
        let start = self.store.facts().map_err(ApiError::unavailable)?.starts;
        let report = |number| Resync {
            number,
            node: self.node.clone(),
            start,
            request: request.clone(),
            by: actor.to_owned(),
            began_ms: self.clock.now_ms(),
            ended_ms: None,
            projects: 0,
            done: 0,
            now: None,
            refetched: 0,
            garbled: 0,
            refs_set: 0,
            strays: 0,
            failures: 0,
            failed: Vec::new(),
            ask_too,
        };
        let begun = match self.run.begin(&request, report)? {
            Begun::New(begun) => begun,
            Begun::Joined(running) => return Ok(running),
        };
        let ResyncRequest { scope, from, reason } = &request;
        tracing::warn!(actor, reason, ?scope, ?from, "an operator begins a resync");
        self.tasks.spawn("resync", self.clone().take_all(request.scope, sources));
        Ok(begun)
    }

    /// The resync that is in progress, or was the last one since the start of the node.
    #[must_use]
    pub fn last(&self) -> Option<Resync> {
        self.run.last()
    }

    /// The other nodes of this site that take part.
    async fn siblings(&self) -> Result<Vec<NodeId>, ApiError> {
        let nodes = self.refdb.nodes.nodes().await.map_err(ApiError::unavailable)?;
        let others = nodes.into_iter().filter(|one| one.site == self.site && one.node != self.node && !one.expelled);
        Ok(others.map(|one| one.node).collect())
    }
}

impl RunReport for Resync {
    type Request = ResyncRequest;
    const KIND: &'static str = "resync";

    fn number(&self) -> u64 {
        self.number
    }

    fn by(&self) -> &str {
        &self.by
    }

    fn has_ended(&self) -> bool {
        self.ended_ms.is_some()
    }

    fn is_asked_for(&self, request: &ResyncRequest) -> bool {
        self.request.asks_for_the_same(request)
    }
}
