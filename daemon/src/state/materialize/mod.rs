//! The materializer moves a project's local refs to committed values. No other code moves refs.
//!
//! The caller holds the locks of all keys, and all objects are present. Several transactions are squashed into one move
//! per ref, so that readers see each ref go forward only, and all refs of a transaction move together.
//!
//! | file | content |
//! |---|---|
//! | `latest` | a state transfer: all records of a project in one step |
//! | `disk_differences` | compares the refs on the disk with the version map |
//! | `restore_refs` | brings a repository from another day to the version map's state |
//! | `kept_values` | protects replaced values from garbage collection |
//! | `contained` | relates the values of many refs at once |
//! | `stray` | keeps uncommitted values that give way |

mod contained;
mod disk_differences;
mod kept_values;
mod latest;
mod restore_refs;
mod stray;
#[cfg(test)]
mod tests;

pub use disk_differences::Differs;
pub use stray::{is_stray, stray_label};

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::{Oid, ProjectKey, ProjectName, ProjectPhase, RefKey, RefName, RefValue, Transaction, TxnId};

use crate::base::ref_names;
use crate::seams::git::{GitError, RefMove, Repositories};
use crate::seams::volume::{RefRecord, StoreError};
use crate::state::coming_back::ComesBack;
use crate::state::version_map::{Mover, VersionMap};

/// The target of `HEAD` in a project whose creation did not name one.
const DEFAULT_HEAD: &str = "refs/heads/main";

/// The reaction to a ref whose value on the disk differs from the version map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMismatch {
    /// Move nothing, and return an error.
    Stop,
    /// Replace the value on the disk. The new value was read from the refdb, so it is the newest of the chain.
    Replace,
}

/// The reason why refs were not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaterializeError {
    /// The repository did not make the move.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The version map failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Moves refs in the repositories, and records the moves in the version map's overlay.
#[derive(Clone)]
pub struct Materializer {
    /// The repositories whose refs are moved.
    pub repositories: Arc<dyn Repositories>,
    /// The version map, which records the moves.
    pub versions: Arc<VersionMap>,
    /// The cause to record for each move.
    pub mover: Mover,
    /// Whether the node comes back from a time in which its site was off.
    pub comes_back: ComesBack,
}

impl Materializer {
    /// Materializes transactions, in the order of their versions, together with local moves.
    ///
    /// # Errors
    /// Nothing was moved or, on a failing disk, the outcome is unknown. The version map has only moves that were
    /// completed.
    pub async fn materialize(
        &self,
        project: &ProjectKey,
        transactions: &[Arc<Transaction>],
        local: &[RefMove],
        mismatch: OnMismatch,
    ) -> Result<(), MaterializeError> {
        let mut last = BTreeMap::new();
        for (key, record) in squash(transactions) {
            // Skip a record that is not newer than the local one: it is a duplicate, or was caught up before.
            if record.version > self.versions.version(project, &key)? {
                last.insert(key, record);
            }
        }
        let under_way = self.versions.record_intents(project, &last)?;
        self.before_refs(project, &last).await?;
        let mut moves = self.moves(project, &last, mismatch).await?;
        let strays = match mismatch {
            OnMismatch::Stop => Vec::new(),
            OnMismatch::Replace => self.stray_values(project, &moves, transactions).await?,
        };
        add_messages(&mut moves, &last, transactions);
        moves.extend_from_slice(local);
        moves.sort_by_key(|step| (step.new.is_some(), ref_names::visibility_rank(&step.name)));
        if !moves.is_empty() {
            let mut keep = self.keep(&project.name, transactions, &moves).await?;
            keep.extend(strays);
            crate::base::faults::failpoint::reach("materialize.before_refs");
            for step in steps(moves) {
                if let Err(error) = self.move_refs(&project.name, step.clone(), &keep).await {
                    return Err(self.explain(project, &step, error).await?.into());
                }
            }
            crate::base::faults::failpoint::reach("materialize.after_refs");
        }
        self.after_refs(project, &last).await?;
        self.versions.moved(project, last, self.mover)?;
        drop(under_way);
        self.forget_deleted(project)?;
        Ok(())
    }

    /// Creates the repository of a new project, if these records say that the project exists.
    ///
    /// # Errors
    /// As [`Materializer::materialize`].
    pub async fn open(
        &self,
        project: &ProjectKey,
        latest: &BTreeMap<RefKey, RefRecord>,
    ) -> Result<(), MaterializeError> {
        self.before_refs(project, latest).await
    }

    /// Sets refs on the disk to the version map's values, after another program wrote them or a disk lost them. The
    /// value that another program wrote is kept as a stray, unless the committed value contains it. The caller holds
    /// the locks of the refs.
    ///
    /// # Errors
    /// As [`Materializer::materialize`].
    pub async fn restore(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<(), MaterializeError> {
        let mut moves = Vec::new();
        self.make_direct(&project.name, keys.iter()).await?;
        for key in keys {
            let RefKey::Ref(name) = key else { continue };
            let Some(record) = self.versions.get(project, key)? else { continue };
            let old = self.repositories.read_ref(&project.name, name).await?;
            let new = record.value.oid();
            if old != new {
                tracing::warn!(%project, %name, ?old, ?new, "a ref on disk is not at its committed value: repaired");
                moves.push(RefMove { name: name.clone(), old, new, message: String::new() });
            }
        }
        let strays = self.stray_values(project, &moves, &[]).await?;
        for step in steps(moves) {
            let shown: Vec<(RefKey, Option<Oid>)> =
                step.iter().map(|step| (RefKey::Ref(step.name.clone()), step.old)).collect();
            self.move_refs(&project.name, step, &strays).await?;
            for (key, shown) in shown {
                self.versions.restored(project, &key, shown)?;
            }
        }
        Ok(())
    }

    /// Creates the repository of a new project, with its `HEAD`, before the first refs move. For a project that this
    /// node knows, it creates nothing: a lost repository would come back empty, and be taken for complete.
    async fn before_refs(
        &self,
        project: &ProjectKey,
        last: &BTreeMap<RefKey, RefRecord>,
    ) -> Result<(), MaterializeError> {
        self.may_move(&project.name)?;
        let exists = last.get(&RefKey::State).is_some_and(|record| !record.value.is_deleted_project());
        if exists && self.versions.project_key(&project.name)?.as_ref() != Some(project) {
            let head = match last.get(&RefKey::Head).map(|record| &record.value) {
                Some(RefValue::Symref(target)) => target.clone(),
                _ => default_head(&project.name)?,
            };
            self.repositories.create(&project.name, &head).await?;
        }
        Ok(())
    }

    async fn after_refs(
        &self,
        project: &ProjectKey,
        last: &BTreeMap<RefKey, RefRecord>,
    ) -> Result<(), MaterializeError> {
        self.may_move(&project.name)?;
        if let Some(RefValue::Symref(target)) = last.get(&RefKey::Head).map(|record| &record.value) {
            self.repositories.set_head(&project.name, target).await?;
        }
        if last.get(&RefKey::State).is_some_and(|record| record.value.is_deleted_project()) {
            self.repositories.delete(&project.name).await?;
        }
        Ok(())
    }

    fn forget_deleted(&self, project: &ProjectKey) -> Result<(), MaterializeError> {
        let state = self.versions.project(&project.name)?;
        if state.is_some_and(|state| state.phase == ProjectPhase::Deleted && state.incarnation == project.incarnation) {
            self.versions.forget(project);
        }
        Ok(())
    }

    async fn moves(
        &self,
        project: &ProjectKey,
        last: &BTreeMap<RefKey, RefRecord>,
        mismatch: OnMismatch,
    ) -> Result<Vec<RefMove>, MaterializeError> {
        let mut moves = Vec::with_capacity(last.len());
        if mismatch == OnMismatch::Replace {
            self.make_direct(&project.name, last.keys()).await?;
        }
        for (key, record) in last {
            let RefKey::Ref(name) = key else { continue };
            let old = match mismatch {
                OnMismatch::Stop => self.versions.get(project, key)?.and_then(|known| known.value.oid()),
                OnMismatch::Replace => self.repositories.read_ref(&project.name, name).await?,
            };
            let new = record.value.oid();
            if old != new {
                moves.push(RefMove { name: name.clone(), old, new, message: String::new() });
            } else if mismatch == OnMismatch::Stop {
                // The transactions lead back to the old value, so no move compares it with the disk: compare it here.
                self.expect(&project.name, name, old).await?;
            }
        }
        Ok(moves)
    }

    /// Replaces symbolic refs that are in the place of committed ones. Their values are then treated like any other
    /// value on the disk: kept as strays if they give way.
    async fn make_direct<'a>(
        &self,
        project: &ProjectName,
        keys: impl Iterator<Item = &'a RefKey>,
    ) -> Result<usize, GitError> {
        self.may_move(project)?;
        let names: Vec<RefName> = keys.filter_map(RefKey::as_ref_name).cloned().collect();
        match self.repositories.make_direct(project, &names).await {
            // A deleted project has no repository.
            Err(GitError::NoRepository(_)) => Ok(0),
            made => made,
        }
    }

    /// Explains a move that git refused because of another name on the disk. The refdb never holds two names that
    /// exclude each other, so the other ref was deleted earlier in the chain, and its deletion has not arrived yet.
    /// That is a mismatch like any other.
    async fn explain(&self, project: &ProjectKey, moves: &[RefMove], error: GitError) -> Result<GitError, GitError> {
        let GitError::Failed { .. } = &error else { return Ok(error) };
        let names: Vec<RefName> = moves.iter().map(|step| step.name.clone()).collect();
        if let (true, Some(first)) = (self.repositories.make_direct(&project.name, &names).await? > 0, moves.first()) {
            let (project, name, expected) = (project.name.clone(), first.name.clone(), first.old);
            return Ok(GitError::RefMoved { project, name, expected, actual: None });
        }
        let shown = self.repositories.list_refs(&project.name).await?;
        let in_the_way = shown
            .into_iter()
            .find(|(name, _)| moves.iter().any(|step| step.new.is_some() && ref_names::exclude(&step.name, name)));
        let project = project.name.clone();
        Ok(in_the_way.map_or(error, |(name, oid)| GitError::RefMoved {
            project,
            name,
            expected: None,
            actual: Some(oid),
        }))
    }

    async fn expect(&self, project: &ProjectName, name: &RefName, expected: Option<Oid>) -> Result<(), GitError> {
        let actual = self.repositories.read_ref(project, name).await?;
        if actual == expected {
            return Ok(());
        }
        Err(GitError::RefMoved { project: project.clone(), name: name.clone(), expected, actual })
    }

    /// Refuses every move while the site of the node is off: the disk belongs to Gerrit alone.
    fn may_move(&self, project: &ProjectName) -> Result<(), GitError> {
        if !self.comes_back.forbids_moves() {
            return Ok(());
        }
        let why = "Lockstep is off at this site: no ref is moved until it is on again".to_owned();
        Err(GitError::Failed { project: project.to_string(), op: "move refs", why })
    }

    /// Moves refs. Leaves out a ref that already has its new value: it was moved before a crash, or had the value
    /// before it was seeded.
    async fn move_refs(
        &self,
        project: &ProjectName,
        mut moves: Vec<RefMove>,
        keep: &[(String, Oid)],
    ) -> Result<(), GitError> {
        self.may_move(project)?;
        loop {
            let mismatch = match self.repositories.move_refs(project, &moves, keep).await {
                Err(mismatch @ GitError::RefMoved { .. }) => mismatch,
                end => return end,
            };
            // A symbolic ref that shows the new value would lose it with the next move of its target.
            let names: Vec<RefName> = moves.iter().map(|step| step.name.clone()).collect();
            self.repositories.make_direct(project, &names).await?;
            let mut left = Vec::with_capacity(moves.len());
            for step in &moves {
                if self.repositories.read_ref(project, &step.name).await? != step.new {
                    left.push(step.clone());
                }
            }
            if left.len() == moves.len() {
                return Err(mismatch);
            }
            if left.is_empty() && keep.is_empty() {
                return Ok(());
            }
            moves = left;
        }
    }
}

/// Splits moves into steps that git can make: one step, or two when names exclude each other. The deletions then come
/// first.
fn steps(moves: Vec<RefMove>) -> Vec<Vec<RefMove>> {
    let all: Vec<RefName> = moves.iter().map(|step| step.name.clone()).collect();
    if ref_names::exclusive_pair(&all).is_none() {
        return [moves].into_iter().filter(|step| !step.is_empty()).collect();
    }
    let (deletions, others): (Vec<RefMove>, Vec<RefMove>) = moves.into_iter().partition(|step| step.new.is_none());
    [deletions, others].into_iter().filter(|step| !step.is_empty()).collect()
}

/// Gives each move the reflog message of the transaction that its new value comes from.
fn add_messages(moves: &mut [RefMove], last: &BTreeMap<RefKey, RefRecord>, transactions: &[Arc<Transaction>]) {
    let with_message = transactions.iter().filter(|transaction| !transaction.message.is_empty());
    let messages: BTreeMap<&TxnId, &str> = with_message.map(|one| (&one.id, one.message.as_str())).collect();
    if messages.is_empty() {
        return;
    }
    for step in moves {
        let record = last.get(&RefKey::Ref(step.name.clone()));
        if let Some(message) = record.and_then(|record| messages.get(&record.txn)) {
            step.message = (*message).to_owned();
        }
    }
}

/// The last record of each key in these transactions.
fn squash(transactions: &[Arc<Transaction>]) -> BTreeMap<RefKey, RefRecord> {
    let mut last: BTreeMap<RefKey, RefRecord> = BTreeMap::new();
    for transaction in transactions {
        for command in &transaction.commands {
            let record =
                RefRecord { version: command.version, value: command.new.clone(), txn: transaction.id.clone() };
            let known = last.entry(command.key.clone()).or_insert_with(|| record.clone());
            if record.version > known.version {
                *known = record;
            }
        }
    }
    last
}

pub(crate) fn default_head(project: &ProjectName) -> Result<RefName, GitError> {
    DEFAULT_HEAD
        .parse()
        .map_err(|error: lockstep_proto::NameError| GitError::Bad { project: project.clone(), why: error.to_string() })
}

#[cfg(test)]
impl Materializer {
    /// A materializer of these repositories with an empty version map.
    fn of_model(model: &crate::seams::git::model::ModelRepositories) -> Self {
        let store = Arc::new(crate::seams::volume::memory::MemoryStore::default());
        let versions = Arc::new(VersionMap::new(store, Default::default()));
        let comes_back = ComesBack::default();
        Self { repositories: Arc::new(model.clone()), versions, mover: Mover::Other, comes_back }
    }
}
