//! Applies transactions whose predecessors are all applied here: objects first, then all refs together.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use lockstep_proto::{Oid, Pack, ProjectKey, ProjectPhase, RefKey, RefName, RefValue, Transaction, TxnId};

use super::plan::{Step, plan};
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::base::ref_names;
use crate::seams::blob::long_form::LongForms;
use crate::seams::blob::{BlobError, BlobStore, Payload};
use crate::seams::git::{GitError, Repositories};
use crate::seams::peers::PeerError;
use crate::seams::volume::StoreError;
use crate::stages::ports::CatchUpError;
use crate::state::committed_requests::CommittedRequests;
use crate::state::context::{NodeContext, NodeState};
use crate::state::materialize::{MaterializeError, Materializer, OnMismatch};
use crate::state::version_map::VersionMap;

/// Why transactions were not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Objects that the transactions build on are not here yet: wait for them, or fetch them.
    #[error("objects are missing: {0:?}")]
    Missing(Vec<Oid>),
    /// The project does not exist at this node yet, or no longer does.
    #[error("project {0} does not exist at this node")]
    NoProject(ProjectKey),
    /// A ref on disk differs from the version map: ask the refdb.
    #[error(transparent)]
    Surprise(GitError),
    /// The content itself is bad, so a retry does not help.
    #[error("bad content: {0}")]
    Bad(String),
    /// A committed transaction has bad content and is held. All that does not build on it was applied.
    #[error("transaction {txn} has bad content ({why})")]
    Held {
        /// The id of the bad transaction.
        txn: TxnId,
        /// A description of the defect.
        why: String,
        /// The refs that it holds back.
        refs: Vec<RefKey>,
    },
    /// A transaction that was fetched without its pack could not be read again: try again.
    #[error(transparent)]
    Unread(Box<CatchUpError>),
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A repository failed: try again.
    #[error(transparent)]
    Git(GitError),
    /// A pack could not be fetched from the blob store: try again.
    #[error(transparent)]
    Blob(BlobError),
    /// No peer has sent the objects: try again.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The state of the project moved on during a state transfer: try again.
    #[error("the state of {0} changed during the state transfer")]
    StateMoved(ProjectKey),
}

impl From<GitError> for UnitError {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Missing { oids, .. } => Self::Missing(oids),
            GitError::Bad { why, .. } => Self::Bad(why),
            GitError::Flawed { flaw, .. } => Self::Bad(flaw.to_string()),
            GitError::RefMoved { .. } => Self::Surprise(error),
            GitError::NoRepository(_) | GitError::Damaged { .. } | GitError::Failed { .. } => Self::Git(error),
        }
    }
}

impl From<MaterializeError> for UnitError {
    fn from(error: MaterializeError) -> Self {
        match error {
            MaterializeError::Git(error) => error.into(),
            MaterializeError::Store(error) => error.into(),
        }
    }
}

/// Applies transactions to the repositories of one node, in units that move together.
#[derive(Clone)]
pub struct Units {
    /// The version map of this node.
    pub versions: Arc<VersionMap>,
    /// The repositories of this node.
    pub repositories: Arc<dyn Repositories>,
    /// Moves refs to committed values.
    pub materializer: Materializer,
    /// The store of packs that are too large for a transaction.
    pub blobs: Arc<dyn BlobStore>,
    /// The long forms of transactions that do not fit into a slot.
    pub long_forms: LongForms,
    /// Remembers the requests of applied transactions.
    pub requests: Arc<CommittedRequests>,
    /// Receives every transaction that was applied, skipped, parked or quarantined, and every failure.
    pub observer: Arc<dyn Observer>,
    /// The injected bugs that a test switched on.
    pub bugs: InjectedBugs,
}

impl Units {
    /// Creates the applier of units on the node's repositories.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState) -> Self {
        let NodeContext { repositories, blobs, long_forms, observer, bugs, .. } = context.clone();
        let NodeState { versions, materializer, requests, .. } = state.clone();
        Self { versions, repositories, materializer, blobs, long_forms, requests, observer, bugs }
    }

    /// Applies transactions of one project, each after its predecessors, in as few moves as git allows. Skips
    /// transactions that are already applied.
    ///
    /// # Errors
    /// Transactions before the failing one may be applied. The version map says which.
    pub async fn apply(
        &self,
        project: &ProjectKey,
        transactions: &[Arc<Transaction>],
        mismatch: OnMismatch,
    ) -> Result<(), UnitError> {
        for unit in split(transactions, mismatch) {
            self.move_together(project, unit, mismatch).await?;
        }
        Ok(())
    }

    async fn move_together(
        &self,
        project: &ProjectKey,
        unit: &[Arc<Transaction>],
        mismatch: OnMismatch,
    ) -> Result<(), UnitError> {
        if self.needs_nothing(project, unit).await? {
            return Ok(());
        }
        let packs = self.fetch(unit).await?;
        let keys = unit.iter().flat_map(|one| one.commands.iter().map(|command| command.key.clone()));
        // The lock of the project's state keeps a successor of the project out, from this check until the moves.
        let keys: BTreeSet<RefKey> = keys.chain([RefKey::State]).collect();
        let _guard = self.versions.locks.lock(&project.name, keys).await;
        if self.versions.is_past(project)? {
            return Ok(());
        }
        let mut fresh = Vec::with_capacity(unit.len());
        for transaction in unit {
            let step = plan(transaction, |key| self.versions.version(project, key))?;
            if step != Step::Skip {
                fresh.push(Arc::clone(transaction));
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        self.check_project(project, &fresh)?;
        let wants: Vec<Oid> = fresh.iter().flat_map(|one| one.commands.iter().filter_map(|c| c.new.oid())).collect();
        // A base that one of these transactions itself brings need not be here before.
        let brought: BTreeSet<Oid> = wants.iter().copied().collect();
        let bases = fresh.iter().flat_map(|one| one.bases.iter().copied());
        let bases: Vec<Oid> = bases.filter(|base| !brought.contains(base)).collect();
        if self.bugs.has(InjectedBug::RefsBeforeObjects) {
            self.materializer.materialize(project, &fresh, &[], mismatch).await?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            return Ok(self.repositories.ingest(&project.name, &packs, &wants, &bases).await?);
        }
        if !packs.is_empty() || !wants.is_empty() {
            crate::base::faults::failpoint::reach("apply.before_objects");
            self.ingest(project, packs, &wants, &bases).await?;
            crate::base::faults::failpoint::reach("apply.after_objects");
        }
        fresh.iter().for_each(|transaction| self.requests.note(transaction));
        self.materializer.materialize(project, &fresh, &[], mismatch).await?;
        crate::base::faults::failpoint::reach("apply.after_refs");
        fresh.iter().for_each(|transaction| self.observer.applied(transaction));
        Ok(())
    }

    /// Whether no pack of the unit has to be fetched, because all of it is applied already. A node reads the
    /// transactions that it has committed itself, too, perhaps before its refs have moved: then this waits for them.
    async fn needs_nothing(&self, project: &ProjectKey, unit: &[Arc<Transaction>]) -> Result<bool, UnitError> {
        if !unit.iter().any(|one| matches!(one.pack, Pack::Blob { .. })) {
            return Ok(false);
        }
        let keys: Vec<RefKey> =
            unit.iter().flat_map(|one| one.commands.iter().map(|command| command.key.clone())).collect();
        let _guard = self.versions.locks.lock(&project.name, keys).await;
        for transaction in unit {
            if plan(transaction, |key| self.versions.version(project, key))? != Step::Skip {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Stores the objects of one transaction, and moves no ref.
    ///
    /// # Errors
    /// As [`Units::apply`].
    pub(super) async fn store_objects(&self, transaction: &Arc<Transaction>) -> Result<(), UnitError> {
        let packs = self.fetch(std::slice::from_ref(transaction)).await?;
        if packs.is_empty() {
            return Ok(());
        }
        let name = &transaction.project.name;
        Ok(self.repositories.ingest(name, &packs, &[], &[]).await?)
    }

    /// Stores the objects of packs. The packs may build on each other in any order, because the predecessors of a ref
    /// do not tell which commits of other refs its own commits build on. A pack that lacks objects is tried again after
    /// the others.
    async fn ingest(
        &self,
        project: &ProjectKey,
        packs: Vec<Payload>,
        wants: &[Oid],
        bases: &[Oid],
    ) -> Result<(), GitError> {
        let mut waiting = packs;
        loop {
            match self.repositories.ingest(&project.name, &waiting, wants, bases).await {
                Err(GitError::Missing { .. }) if waiting.len() > 1 => {}
                end => return end,
            }
            let before = waiting.len();
            let mut missed = Vec::new();
            for pack in std::mem::take(&mut waiting) {
                match self.repositories.ingest(&project.name, std::slice::from_ref(&pack), &[], &[]).await {
                    Ok(()) => {}
                    Err(GitError::Missing { .. }) => missed.push(pack),
                    Err(error) => return Err(error),
                }
            }
            if missed.len() == before {
                return self.repositories.ingest(&project.name, &missed, wants, bases).await;
            }
            waiting = missed;
        }
    }

    /// Makes these refs on disk equal to the version map.
    ///
    /// # Errors
    /// The disk or the version map failed.
    pub async fn restore(&self, project: &ProjectKey, keys: Vec<RefKey>) -> Result<(), UnitError> {
        let _guard = self.versions.locks.lock(&project.name, keys.clone()).await;
        Ok(self.materializer.restore(project, &keys).await?)
    }

    /// Checks that the project exists here, unless one of the transactions changes its state. A transaction on a
    /// missing project must wait for the project's creation.
    fn check_project(&self, project: &ProjectKey, fresh: &[Arc<Transaction>]) -> Result<(), UnitError> {
        if fresh.iter().any(|one| one.command(&RefKey::State).is_some()) {
            return Ok(());
        }
        let state = self.versions.project(&project.name)?;
        let here =
            state.is_some_and(|state| state.incarnation == project.incarnation && state.phase != ProjectPhase::Deleted);
        if here { Ok(()) } else { Err(UnitError::NoProject(project.clone())) }
    }

    async fn fetch(&self, unit: &[Arc<Transaction>]) -> Result<Vec<Payload>, UnitError> {
        let spill: PathBuf = self.repositories.spill();
        let mut packs = Vec::with_capacity(unit.len());
        for transaction in unit {
            match &transaction.pack {
                Pack::Empty => {}
                Pack::Inline(bytes) => packs.push(Payload::Memory(bytes.clone())),
                Pack::Blob { key, bytes, sha256 } => match self.blobs.get(key, *bytes, sha256, &spill).await {
                    Ok(payload) => packs.push(payload),
                    Err(BlobError::Bad { why, .. }) => return Err(UnitError::Bad(why)),
                    Err(error) => return Err(UnitError::Blob(error)),
                },
            }
        }
        Ok(packs)
    }
}

/// Cuts a sequence of transactions where git cannot apply it in one step. A transaction that changes the project's
/// state goes alone. If names exclude each other (one is deleted, the other created), every transaction goes alone. The
/// names do not matter when the disk is ahead of the version map: then the refs go to their latest values at once.
fn split(transactions: &[Arc<Transaction>], mismatch: OnMismatch) -> Vec<&[Arc<Transaction>]> {
    let names: Vec<RefName> = transactions
        .iter()
        .flat_map(|one| one.commands.iter().filter_map(|command| command.key.as_ref_name().cloned()))
        .collect();
    let deletes = transactions.iter().any(|one| one.commands.iter().any(|command| command.new == RefValue::Absent));
    let one_by_one = mismatch == OnMismatch::Stop && deletes && ref_names::exclusive_pair(&names).is_some();
    let alone = |one: &Arc<Transaction>| one_by_one || one.command(&RefKey::State).is_some();
    transactions.chunk_by(|left, right| !alone(left) && !alone(right)).collect()
}
