//! Catching up from the refdb and the journal: applies whole transactions with everything that they build on, never one
//! ref of a batch alone.
//!
//! The way leads from a ref's item to its latest transaction, and from there back by predecessor ids through the
//! journal. The journal is collected only below the low-water marks of all nodes, so a node that is not expelled finds
//! every transaction that it lacks. Any other node takes a state transfer (`state_transfer`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::sleep;

use lockstep_proto::site_list::BootstrapStage;
use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey, RefName, Slot, Transaction, TxnId, Version};

use super::atomic_apply::{UnitError, Units};
use super::fetched::Fetched;
use super::order::{in_the_way, order};
use super::set_aside::SetAside;
use crate::base::backoff::Backoff;
use crate::base::budget::ByteBudget;
use crate::base::clock::{Clock, Entropy};
use crate::base::faults::injected_bug::InjectedBug;
use crate::base::tasks::Tasks;
use crate::seams::blob::BlobError;
use crate::seams::blob::long_form::LongFormError;
use crate::seams::peers::Peers;
use crate::seams::refdb::gone::{may_be_gone, may_be_late};
use crate::seams::refdb::{ProjectPages, RefDb, RefItem, SlotState};
use crate::stages::ports::{Behind, CatchUp, CatchUpError};
use crate::state::bootstrap::Bootstrapping;
use crate::state::coming_back::ComesBack;
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::durability::Durability;
use crate::state::materialize::OnMismatch;
use crate::state::went_back::WentBack;

/// The most transactions in one catch-up. A project that is further behind takes a state transfer.
const MOST: usize = 5_000;
/// The longest pause between two tries in the background, when a retry may help by itself.
const SOON: Duration = Duration::from_secs(5);
/// Items per page, when a project or the list of projects is read.
pub(super) const PAGE: usize = 1_000;

/// Why a catch-up by transactions ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The journal no longer leads to the refdb's state, or the way is too long.
    Gone,
    /// These objects, which the transactions build on, are missing.
    Missing(Vec<Oid>),
    /// A store, the disk or a peer failed, or the journal contradicts the refdb.
    Failed(CatchUpError),
}

impl From<CatchUpError> for Stop {
    fn from(error: CatchUpError) -> Self {
        Self::Failed(error)
    }
}

impl From<UnitError> for Stop {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::Missing(oids) => Self::Missing(oids),
            // A blob is stored before its transaction is committed. It is absent once the slot is being collected.
            UnitError::Blob(BlobError::Absent(_)) => Self::Gone,
            error => Self::Failed(error.into()),
        }
    }
}

impl From<UnitError> for CatchUpError {
    fn from(error: UnitError) -> Self {
        match error {
            UnitError::Missing(oids) => Self::Missing(oids),
            UnitError::NoProject(project) => Self::NoProject(project),
            UnitError::Surprise(error) | UnitError::Git(error) => Self::Git(error),
            UnitError::Bad(why) => Self::Bad(why),
            UnitError::Held { txn, why, refs } => Self::Held { txn, why, refs },
            UnitError::Unread(error) => *error,
            UnitError::Store(error) => Self::Store(error),
            UnitError::Blob(error) => Self::Blob(error),
            UnitError::Peer(error) => Self::Peer(error),
            UnitError::StateMoved(project) => Self::StateMoved(project),
        }
    }
}

/// Catches up one node. Clones share all state.
#[derive(Clone)]
pub struct Catcher {
    /// Applies the fetched transactions.
    pub(super) units: Units,
    /// The refdb, from which items and journal slots are read.
    pub(super) refdb: RefDb,
    /// The bytes of the node's parked and fetched transactions in memory.
    pub(super) budget: ByteBudget,
    /// The source of objects that the journal no longer has.
    pub(super) peers: Arc<dyn Peers>,
    /// Randomness, for the jitter of retries.
    pub(super) entropy: Arc<dyn Entropy>,
    /// Whether the refdb is older than this node.
    pub(super) went_back: WentBack,
    /// Holds committed transactions with bad content.
    pub(super) debts: Arc<Debts>,
    /// Makes held transactions durable.
    pub(super) durability: Durability,
    /// The wall clock, for the time since when a transaction is held.
    pub(super) clock: Arc<dyn Clock>,
    /// Owns the catch-ups that run in the background.
    pub(super) tasks: Tasks,
    /// Counts the projects that are done, while the node reconciles.
    pub(super) bootstrap: Arc<Bootstrapping>,
    /// Whether the node comes back from a time in which its site was off.
    pub(super) comes_back: ComesBack,
}

impl Catcher {
    /// Creates a catcher that applies through `units`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, units: Units, budget: ByteBudget) -> Self {
        let NodeContext { refdb, peers, entropy, went_back, clock, tasks, .. } = context.clone();
        let NodeState { debts, durability, bootstrap, comes_back, .. } = state.clone();
        Self { units, refdb, budget, peers, entropy, went_back, debts, durability, clock, tasks, bootstrap, comes_back }
    }

    /// Brings the refs of these items up to their versions, by transactions from the journal.
    async fn items(&self, project: &ProjectKey, items: &[RefItem]) -> Result<(), Stop> {
        let start = self.newer(project, items)?;
        if start.is_empty() {
            return Ok(());
        }
        let fetched = self.fetch(start, items).await?;
        match self.apply(fetched, OnMismatch::Stop).await {
            Err(UnitError::Surprise(_)) => self.to_the_latest(project, items).await,
            end => Ok(end?),
        }
    }

    /// The latest transactions of those items that are newer than the version map.
    fn newer(&self, project: &ProjectKey, items: &[RefItem]) -> Result<BTreeSet<TxnId>, CatchUpError> {
        let mut newer = BTreeSet::new();
        for item in items {
            let known = self.units.versions.version(project, &item.key)?;
            if item.version > known {
                newer.extend(item.txn.clone());
            }
        }
        Ok(newer)
    }

    /// Applies transactions. A bad one is held, and everything that does not build on it is applied.
    async fn apply(&self, fetched: Fetched, mismatch: OnMismatch) -> Result<(), UnitError> {
        let mut set_aside = SetAside::default();
        let Fetched { transactions, light, taken: _taken } = fetched;
        for (key, transactions) in order(transactions) {
            self.store_light(&transactions, &light, &mut set_aside).await?;
            let good = set_aside.without_blocked(transactions);
            match self.units.apply(&key, &good, mismatch).await {
                Err(UnitError::Bad(_)) => {
                    let good = self.hold_bad(good, &mut set_aside).await?;
                    self.units.apply(&key, &good, mismatch).await?;
                }
                end => end?,
            }
        }
        set_aside.end()
    }

    /// Catches up when the disk may be ahead of the version map, as a crash leaves it. Nobody knows how far ahead it
    /// is. So every touched ref goes to its latest version: that is never behind the disk, and no ref moves backwards.
    async fn to_the_latest(&self, project: &ProjectKey, items: &[RefItem]) -> Result<(), Stop> {
        let mut items: BTreeMap<RefKey, RefItem> = items.iter().map(|item| (item.key.clone(), item.clone())).collect();
        let shown = self.units.repositories.list_refs(&project.name).await.map_err(CatchUpError::Git)?;
        let shown: BTreeSet<RefName> = shown.into_iter().map(|(name, _)| name).collect();
        let fetched = loop {
            let known: Vec<RefItem> = items.values().cloned().collect();
            let fetched = self.fetch(self.newer(project, &known)?, &known).await?;
            let touched =
                fetched.transactions.values().filter(|one| one.project == *project).flat_map(|one| &one.commands);
            let mut touched: BTreeSet<RefKey> = touched.map(|command| command.key.clone()).collect();
            touched.extend(in_the_way(&shown, &touched));
            let unread: Vec<RefKey> = touched.into_iter().filter(|key| !items.contains_key(key)).collect();
            if unread.is_empty() {
                break fetched;
            }
            let read = self.refdb.refs.read(project, &unread).await.map_err(CatchUpError::RefDb)?;
            items.extend(read.into_iter().flatten().map(|item| (item.key.clone(), item)));
        };
        let end = self.apply(fetched, OnMismatch::Replace).await;
        if !matches!(end, Ok(()) | Err(UnitError::Held { .. })) {
            return Ok(end?);
        }
        // A value that was written while the site was off stays, unless its ref was moved elsewhere.
        if !self.comes_back.is_so() {
            self.units.restore(project, items.into_keys().collect()).await?;
        }
        Ok(end?)
    }

    /// Fetches these transactions, and from each its predecessors back to the versions that are applied here.
    async fn fetch(&self, start: BTreeSet<TxnId>, items: &[RefItem]) -> Result<Fetched, Stop> {
        let mut fetched = Fetched::new(&self.budget);
        let mut wanted: Vec<TxnId> = start.into_iter().collect();
        while let Some(txn) = wanted.pop() {
            if fetched.transactions.contains_key(&txn) {
                continue;
            }
            if fetched.transactions.len() >= MOST {
                return Err(Stop::Gone);
            }
            let transaction = self.load(&txn).await?;
            for command in &transaction.commands {
                let key = &command.key;
                let known = self.units.versions.version(&transaction.project, key).map_err(CatchUpError::Store)?;
                if command.version > Version(known.0 + 1) {
                    wanted.extend(command.predecessor.clone());
                }
            }
            self.units.observer.caught_up(&txn);
            fetched.insert(self.in_part(transaction, items));
        }
        Ok(fetched)
    }

    /// With the injected bug `BatchCaughtUpInPart`, drops the commands on all refs that were not asked for.
    fn in_part(&self, mut transaction: Transaction, items: &[RefItem]) -> Transaction {
        if self.units.bugs.has(InjectedBug::BatchCaughtUpInPart) {
            transaction.commands.retain(|command| items.iter().any(|item| item.key == command.key));
        }
        transaction
    }

    /// Reads a transaction from the journal. The caller knows that it is committed. So a slot that has anything but its
    /// bytes was collected: poison, or another transaction, may have come into the empty slot later.
    pub(super) async fn load(&self, txn: &TxnId) -> Result<Transaction, Stop> {
        match self.refdb.journal.slot(&txn.slot).await.map_err(CatchUpError::RefDb)? {
            SlotState::Committed(id, bytes) if id == *txn => match self.units.long_forms.read(&bytes).await {
                Ok(transaction) => Ok(transaction),
                Err(LongFormError::Blob(BlobError::Absent(_))) => Err(Stop::Gone),
                Err(LongFormError::Blob(error)) => Err(CatchUpError::Blob(error).into()),
                Err(LongFormError::Decode(error)) => Err(CatchUpError::Unreadable(error).into()),
            },
            SlotState::Committed(..) | SlotState::Poisoned | SlotState::Empty => Err(Stop::Gone),
        }
    }

    /// Brings every ref of a project up to the refdb. The disk may be ahead of the version map, so refs go to their
    /// latest versions at once.
    ///
    /// # Errors
    /// The refdb, the disk or a peer failed, or objects that will arrive are missing: try again.
    pub async fn whole_project(&self, project: &ProjectKey) -> Result<(), CatchUpError> {
        let mut after: Option<RefKey> = None;
        let mut held = Ok(());
        loop {
            let page = self.refdb.refs.scan(project, after.as_ref(), PAGE).await?;
            self.compare(project, &page).await?;
            if !self.newer(project, &page)?.is_empty() {
                match self.to_the_latest(project, &page).await {
                    Ok(()) => {}
                    Err(Stop::Gone | Stop::Missing(_)) => return self.transfer_state(&project.name).await,
                    Err(Stop::Failed(error @ CatchUpError::Held { .. })) => held = held.and(Err(error)),
                    Err(Stop::Failed(error)) => return Err(error),
                }
            }
            if page.len() < PAGE {
                return held;
            }
            after = page.last().map(|item| item.key.clone());
        }
    }

    /// Brings the refs of these items up to the refdb. If the journal no longer leads there, the project takes a state
    /// transfer. If objects are missing, the whole project is brought up, because they may come with other refs.
    async fn up_to(&self, project: &ProjectKey, items: &[RefItem]) -> Result<(), CatchUpError> {
        match self.items(project, items).await {
            Ok(()) => Ok(()),
            Err(Stop::Gone) => self.transfer_state(&project.name).await,
            Err(Stop::Missing(_)) => self.whole_project(project).await,
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Brings a project's state up to this item.
    async fn state(&self, name: &ProjectName, item: &RefItem) -> Result<(), CatchUpError> {
        let any = ProjectKey::of_name(name);
        self.up_to(&any, std::slice::from_ref(item)).await
    }
}

#[async_trait]
impl CatchUp for Catcher {
    async fn keys(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<(), CatchUpError> {
        let items = match self.read_and_compare(project, keys).await {
            Ok(items) => items,
            Err(_) if self.units.bugs.has(InjectedBug::ErrorAsAbsent) => return Ok(()),
            Err(error) => return Err(error),
        };
        self.up_to(project, &items).await
    }

    async fn project(&self, project: &ProjectName) -> Result<(), CatchUpError> {
        let any = ProjectKey::of_name(project);
        self.keys(&any, &[RefKey::State]).await
    }

    async fn journal(&self, txn: &TxnId) -> Result<Option<Bytes>, CatchUpError> {
        match self.refdb.journal.slot(&txn.slot).await? {
            SlotState::Committed(id, bytes) if id == *txn => Ok(Some(bytes)),
            SlotState::Committed(..) | SlotState::Poisoned | SlotState::Empty => Ok(None),
        }
    }

    async fn is_collectable(&self, slot: &Slot) -> Result<bool, CatchUpError> {
        Ok(may_be_gone(&self.refdb, slot).await?)
    }

    async fn may_be_late(&self, slot: &Slot) -> Result<bool, CatchUpError> {
        Ok(may_be_late(&self.refdb, slot).await?)
    }

    async fn transfer_state(&self, project: &ProjectName) -> Result<(), CatchUpError> {
        self.transfer_state(project).await
    }

    async fn restore_repository(&self, project: &ProjectKey) -> Result<(), CatchUpError> {
        Ok(self.units.restore_repository(project, self.peers.as_ref()).await?)
    }

    async fn refetch_objects(&self, project: &ProjectKey) -> Result<(), CatchUpError> {
        Ok(self.units.refetch_objects(project, self.peers.as_ref()).await?)
    }

    async fn replace_objects(&self, project: &ProjectKey, damaged: &[Oid]) -> Result<(), CatchUpError> {
        Ok(self.units.replace_objects(project, damaged, self.peers.as_ref()).await?)
    }

    async fn projects(&self) -> Result<Behind, CatchUpError> {
        let (mut pages, mut behind) = (ProjectPages::of(self.refdb.refs.as_ref()), Behind::new());
        while let Some(page) = pages.next().await? {
            for (name, item) in &page {
                self.compare(&ProjectKey::of_name(name), [item]).await?;
                note(&mut behind, name, self.state(name, item).await)?;
                self.bootstrap.done(BootstrapStage::Projects);
            }
        }
        Ok(behind)
    }

    async fn bring_up_to_date(&self, project: &ProjectName) -> Result<(), CatchUpError> {
        self.project(project).await?;
        match self.units.versions.project_key(project)? {
            Some(key) => self.whole_project(&key).await,
            None => Ok(()),
        }
    }

    async fn everything(&self) -> Result<Behind, CatchUpError> {
        let mut behind = self.projects().await?;
        let projects = self.units.versions.projects()?;
        self.bootstrap.compare(projects.len() as u64);
        for (name, _) in projects {
            let key = self.units.versions.project_key(&name)?;
            if let Some(key) = key {
                note(&mut behind, &name, self.whole_project(&key).await)?;
            }
            self.bootstrap.done(BootstrapStage::Refs);
        }
        Ok(behind)
    }

    fn later(&self, project: &ProjectKey, keys: Vec<RefKey>) {
        let (catcher, project) = (self.clone(), project.clone());
        self.tasks.spawn("catch-up", async move {
            let mut failures = 0_u32;
            while let Err(why) = catcher.keys(&project, &keys).await {
                catcher.units.observer.failed("catch-up", &why);
                failures = failures.saturating_add(1);
                let longest = if why.retry_helps() { SOON } else { catcher.debts.pace().slowest };
                sleep(Backoff::nth(catcher.entropy.as_ref(), Duration::from_millis(50), longest, failures)).await;
            }
        });
    }
}

/// Notes a project that is behind. Passes an error on that is not the project's.
fn note(behind: &mut Behind, name: &ProjectName, end: Result<(), CatchUpError>) -> Result<(), CatchUpError> {
    match end {
        Err(error) if error.is_of_project() => {
            behind.insert(name.clone(), error);
            Ok(())
        }
        end => end,
    }
}
