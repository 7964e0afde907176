//! The arrival stage: waits until a site shows a transaction.
//!
//! A node *shows* a transaction when each of its refs has the value of the transaction or a later one there, the node
//! is ready, and its Gerrit has refreshed the subjects that the refs changed. A site shows it when all of its living
//! nodes do. This stage knows all of that of its own node. Of other nodes it reads the records in the refdb: the
//! durable low-water marks, and the projects that a node lacks. They say nothing of refreshes.
//!
//! An id names its slot, so the journal tells whether the transaction was committed. A collected slot tells nothing;
//! then the node's memory of committed requests does. The state that a wait keeps is bounded by the keys of one slot.
//!
//! | file | idea |
//! |---|---|
//! | `judge` | the fate of a transaction, and which nodes of another site lack it; pure |

mod judge;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::arrival::{Arrival, AwaitResponse};
use lockstep_proto::bridge::ApiError;
use lockstep_proto::refresh::Subject;
use lockstep_proto::{DecodeError, NodeId, ProjectKey, RefKey, SiteId, Slot, Transaction, TxnId, Version};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::seams::refdb::gone::may_be_gone;
use crate::seams::refdb::{NodeRecord, RefDb, RefDbError, SlotState};
use crate::seams::volume::StoreError;
use crate::stages::ports::{Arrivals, DueSubjects};
use crate::state::committed_requests::CommittedRequests;
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::gerrit_session::ending;
use crate::state::gone_nodes::GoneNodes;
use crate::state::low_water::LowWater;
use crate::state::site_roles::SiteRoles;
use crate::state::version_map::VersionMap;
use crate::state::went_back::WentBack;
use judge::{Elsewhere, Fate};

/// The pause between two looks at the things of which no signal tells: other nodes, debts, readiness.
const LOOK: Duration = Duration::from_secs(1);
/// The longest pause between two reads of a slot that is empty. The pauses double up to it.
const LONGEST: Duration = Duration::from_secs(8);
/// The shortest time between two looks, however many slots become done.
const GAP: Duration = Duration::from_millis(10);
/// How long one read of the refdb may take, and by how much slow reads may prolong a wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// The latches of the node that are closed.
pub type NotReady = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The arrival stage of one node.
pub struct ArrivalStage {
    site: SiteId,
    node: NodeId,
    refdb: RefDb,
    versions: Arc<VersionMap>,
    low_water: Arc<LowWater>,
    debts: Arc<Debts>,
    requests: Arc<CommittedRequests>,
    roles: Arc<SiteRoles>,
    gone: GoneNodes,
    went_back: WentBack,
    /// The refreshes of this node's Gerrit. None if it has none.
    gerrit: Option<Arc<dyn DueSubjects>>,
    not_ready: NotReady,
    ended: CancellationToken,
    /// The records of all nodes, for all waits, and when they were read.
    nodes: Mutex<Option<(Instant, Arc<Vec<NodeRecord>>)>>,
    /// Serialises the searches of the memory of requests: each may read all of it.
    search: Mutex<()>,
}

/// A fact that cannot be read now.
#[derive(Debug, thiserror::Error)]
enum LookError {
    /// The refdb answered with an error.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The refdb did not answer in time.
    #[error("the refdb does not answer")]
    Silent,
    /// The look was not over in time: it may have waited for the reads of other waits.
    #[error("the refdb, or the memory of committed requests, is slow")]
    Slow,
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The slot cannot be decoded, by this release at least.
    #[error("its slot cannot be read: {0}")]
    Unreadable(#[from] DecodeError),
}

/// The result of one look.
enum Look {
    /// Nothing that comes later changes this.
    Ends(Arrival, Option<String>),
    /// Not yet, for this reason.
    NotYet(String),
}

/// One wait, with the facts that it has learned.
struct Wait {
    txn: TxnId,
    site: SiteId,
    known: Option<Known>,
    /// The reason of the last look.
    reason: String,
    /// The earliest time of the next read of the slot, and the pause after it.
    next: Instant,
    pause: Duration,
}

/// A committed transaction, and its refs.
struct Known {
    project: ProjectKey,
    refs: Refs,
    /// The subjects that Gerrit had to refresh when the refs were seen here, less those that it has refreshed since.
    due: Option<Vec<Subject>>,
}

/// The refs of a committed transaction.
enum Refs {
    /// All of them. `reached` counts the first of them that have their version, or a later one, here.
    Listed { keys: Vec<RefKey>, versions: Vec<Version>, reached: usize },
    /// Too many: they are in its long form. The slot's mark tells whether they are here.
    Outlined,
    /// The slot was collected. Every node that counted then has applied it.
    Collected,
}

impl Known {
    fn of(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Transaction { project, commands, .. } = Transaction::outlined(bytes)?;
        let (keys, versions): (Vec<_>, Vec<_>) = commands.into_iter().map(|one| (one.key, one.version)).unzip();
        let refs = if keys.is_empty() { Refs::Outlined } else { Refs::Listed { keys, versions, reached: 0 } };
        Ok(Self { project, refs, due: None })
    }
}

impl Wait {
    fn new(txn: TxnId, site: SiteId) -> Self {
        let (reason, next) = ("the refdb was not asked yet".to_owned(), Instant::now());
        Self { txn, site, known: None, reason, next, pause: LOOK }
    }

    fn answer(self, outcome: Arrival, message: Option<String>) -> AwaitResponse {
        AwaitResponse { outcome, txn: self.txn, site: self.site, retry: outcome == Arrival::NotYet, message }
    }

    /// The answer at the end of the time.
    fn not_yet(mut self) -> AwaitResponse {
        let reason = std::mem::take(&mut self.reason);
        self.answer(Arrival::NotYet, Some(reason))
    }
}

impl ArrivalStage {
    /// Creates the stage. `gerrit` knows the refreshes of this node's Gerrit, if it has one.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        gerrit: Option<Arc<dyn DueSubjects>>,
        not_ready: NotReady,
    ) -> Self {
        let NodeContext { site, node, refdb, tasks, went_back, .. } = context.clone();
        let NodeState { versions, low_water, debts, requests, roles, gone, .. } = state.clone();
        let (ended, nodes, search) = (tasks.cancelled(), Mutex::default(), Mutex::default());
        Self {
            site,
            node,
            refdb,
            versions,
            low_water,
            debts,
            requests,
            roles,
            gone,
            went_back,
            gerrit,
            not_ready,
            ended,
            nodes,
            search,
        }
    }

    async fn look(&self, wait: &mut Wait) -> Result<Look, LookError> {
        if wait.known.is_none()
            && let Some(look) = self.learn(wait).await?
        {
            return Ok(look);
        }
        let Wait { txn, site, known: Some(known), .. } = wait else { return Ok(Look::NotYet(wait.reason.clone())) };
        if *site == self.site
            && let Some(why) = self.missing_here(&txn.slot, known)?
        {
            return Ok(Look::NotYet(why));
        }
        let (nodes, is_collected) = (self.nodes().await?, matches!(known.refs, Refs::Collected));
        let (own, slot, project) = (&self.node, &txn.slot, &known.project.name);
        let elsewhere = Elsewhere { site, own, slot, project, is_collected };
        let missing = elsewhere.missing(&nodes, &self.gone.all());
        Ok(missing.map_or(Look::Ends(Arrival::Shown, None), Look::NotYet))
    }

    /// Learns the fate of the transaction. Returns none if it is committed.
    async fn learn(&self, wait: &mut Wait) -> Result<Option<Look>, LookError> {
        if Instant::now() < wait.next {
            return Ok(Some(Look::NotYet(wait.reason.clone())));
        }
        wait.next = Instant::now() + wait.pause;
        wait.pause = (wait.pause * 2).min(LONGEST);
        let fate = self.fate(&wait.txn).await?;
        if self.went_back.is_known() {
            // The slots of an older refdb prove nothing.
            let why = "the refdb is older than a node, or another one: nothing is told until it is restored".to_owned();
            return Ok(Some(Look::NotYet(why)));
        }
        let known = match fate {
            Fate::Committed(bytes) => Known::of(&bytes)?,
            Fate::Collected(name) => Known { project: ProjectKey::of_name(&name), refs: Refs::Collected, due: None },
            Fate::Refused(why) => {
                let why = format!("it was not committed, and never will be: {why}");
                return Ok(Some(Look::Ends(Arrival::Refused, Some(why))));
            }
            Fate::Open => {
                let why = "it is not committed: its commit is in progress, or was never tried".to_owned();
                return Ok(Some(Look::NotYet(why)));
            }
            Fate::Forgotten => {
                let why = "no journal has it, and this node does not remember it: if it was committed at all, every \
                           site that was alive has applied it since; compare its refs"
                    .to_owned();
                return Ok(Some(Look::Ends(Arrival::Unknown, Some(why))));
            }
        };
        wait.known = Some(known);
        Ok(None)
    }

    async fn fate(&self, txn: &TxnId) -> Result<Fate, LookError> {
        let read = async {
            let slot = self.refdb.journal.slot(&txn.slot).await?;
            let holds_it = matches!(&slot, SlotState::Committed(id, _) if id == txn);
            let gone = !holds_it && may_be_gone(&self.refdb, &txn.slot).await?;
            Ok::<_, RefDbError>((slot, gone))
        };
        let (slot, gone) = timeout(PATIENCE, read).await.map_err(|_| LookError::Silent)??;
        let remembered = if gone {
            let _turn = self.search.lock().await;
            self.requests.project_of(txn).await?
        } else {
            None
        };
        Ok(judge::fate(txn, slot, gone, remembered))
    }

    /// The reason why this node does not show a committed transaction. None if it does.
    fn missing_here(&self, slot: &Slot, known: &mut Known) -> Result<Option<String>, StoreError> {
        let closed = (self.not_ready)();
        if !closed.is_empty() {
            return Ok(Some(format!("node {} is not ready, waiting for: {}", self.node, closed.join(", "))));
        }
        if !self.has_refs(slot, known)? {
            return Ok(Some(format!("node {} has not applied it yet", self.node)));
        }
        let Some(gerrit) = &self.gerrit else { return Ok(None) };
        let keys: &[RefKey] = if let Refs::Listed { keys, .. } = &known.refs { keys } else { &[] };
        let due = known.due.get_or_insert_with(|| gerrit.due_of(&known.project.name, keys));
        due.retain(|subject| gerrit.is_outstanding(subject));
        Ok(due.first().map(|subject| format!("the Gerrit of node {} has not refreshed {subject} yet", self.node)))
    }

    /// Whether each ref of a committed transaction has its version, or a later one, here.
    fn has_refs(&self, slot: &Slot, known: &mut Known) -> Result<bool, StoreError> {
        let is_done = match &mut known.refs {
            Refs::Listed { keys, versions, reached } => {
                for (key, version) in keys.iter().zip(versions.iter()).skip(*reached) {
                    if self.versions.version(&known.project, key)? < *version {
                        return self.versions.is_past(&known.project);
                    }
                    *reached += 1;
                }
                return Ok(true);
            }
            Refs::Outlined => self.low_water.is_done(slot),
            Refs::Collected => true,
        };
        Ok(is_done && !self.debts.has_debt(&known.project.name))
    }

    /// The records of all nodes. All waits together read them once per [`LOOK`].
    async fn nodes(&self) -> Result<Arc<Vec<NodeRecord>>, LookError> {
        let mut kept = self.nodes.lock().await;
        if let Some((at, nodes)) = &*kept
            && at.elapsed() < LOOK
        {
            return Ok(Arc::clone(nodes));
        }
        let nodes = timeout(PATIENCE, self.refdb.nodes.nodes()).await.map_err(|_| LookError::Silent)??;
        let nodes = Arc::new(nodes);
        *kept = Some((Instant::now(), Arc::clone(&nodes)));
        Ok(nodes)
    }
}

#[async_trait]
impl Arrivals for ArrivalStage {
    async fn arrival(&self, txn: TxnId, site: Option<SiteId>, most: Duration) -> Result<AwaitResponse, ApiError> {
        let end = Instant::now() + most;
        let site = site.unwrap_or_else(|| self.site.clone());
        let listed = self.roles.listed();
        if !listed.is_empty() && !listed.contains(&site) {
            return Err(ApiError::invalid(format!("there is no site {site}; `lockstep sites` lists the sites")));
        }
        let mut wait = Wait::new(txn, site);
        let mut reports = self.gerrit.as_ref().map(|gerrit| gerrit.reports());
        loop {
            // A slot that becomes done during the look wakes the wait too.
            let moved = self.low_water.moves();
            let patience = end.max(Instant::now()) + PATIENCE;
            let look = tokio::select! {
                biased;
                () = self.ended.cancelled() => return Err(ending()),
                look = timeout_at(patience, self.look(&mut wait)) => look.unwrap_or(Err(LookError::Slow)),
            };
            match look {
                Ok(Look::Ends(outcome, message)) => return Ok(wait.answer(outcome, message)),
                Ok(Look::NotYet(why)) => wait.reason = why,
                Err(error) => wait.reason = error.to_string(),
            }
            if Instant::now() >= end {
                return Ok(wait.not_yet());
            }
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return Err(ending()),
                () = moved => {}
                () = reported(&mut reports) => {}
                () = sleep_until(end.min(Instant::now() + LOOK)) => {}
            }
            sleep_until(end.min(Instant::now() + GAP)).await;
        }
    }
}

/// Ends when Gerrit has reported since the last call. Never, if there is no Gerrit.
async fn reported(reports: &mut Option<watch::Receiver<u64>>) {
    match reports {
        // This never fails: the stage keeps the sender.
        Some(reports) => _ = reports.changed().await,
        None => std::future::pending().await,
    }
}
