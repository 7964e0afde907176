//! Debts: projects and refs that this node cannot bring up to date. A debt degrades its project, or some of its refs,
//! and nothing else.
//!
//! There are three kinds:
//! - A **held** transaction was committed, and its content is bad. It is in the durable quarantine. It holds back the
//!   successors of its refs. It is tried again at each start, and when an operator asks.
//! - An **owed** project could not be brought up to date as a whole. The debt is durable, and is tried again with
//!   growing pauses.
//! - A **waiting** transaction is parked, and what it waits for could not be fetched. It is durable as a parked record.
//!
//! The node's record in the refdb names held transactions, those that wait behind them, and owed projects
//! ([`Debts::needs`]). Their journal entries are not collected, so that no content is lost with its origin. All texts
//! here are bounded.
//!
//! | file | idea |
//! |---|---|
//! | `named` | which debts the node's record names, within its bounds |
//! | `show` | debts as the status API shows them |

mod named;
mod show;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::debt::DebtKind;
use lockstep_proto::{NodeId, ProjectName, RefKey, Transaction, TxnId};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::base::backoff::Backoff;
use crate::base::clock::{Clock, Entropy};
use crate::seams::refdb::{Needs, NodeRecord};
use crate::seams::volume::{Debt, MOST_REFS, NodeStore, StoreError};
use crate::state::durability::Durability;

/// The longest reason that is kept, in characters.
const REASON: usize = 500;

/// The pauses between tries.
#[derive(Clone, Copy, Debug)]
pub struct RetryPace {
    /// The longest first pause.
    pub first: Duration,
    /// The longest pause when a retry may help by itself.
    pub slow: Duration,
    /// The longest pause when a repair or a new release is needed.
    pub slowest: Duration,
}

impl Default for RetryPace {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), slow: Duration::from_secs(30), slowest: Duration::from_secs(600) }
    }
}

impl RetryPace {
    /// The pause after the `tries`th failure of a kind.
    #[must_use]
    pub fn pause(&self, entropy: &dyn Entropy, kind: DebtKind, tries: u32) -> Duration {
        let longest = if kind.retry_helps() { self.slow } else { self.slowest };
        Backoff::nth(entropy, self.first.min(longest), longest, tries)
    }
}

/// A failure to bring a project, or some of its refs, up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of the reason.
    pub kind: DebtKind,
    /// The reason in words.
    pub why: String,
    /// The transaction at fault.
    pub txn: Option<TxnId>,
    /// The refs that are behind. Empty if the whole project may be.
    pub refs: Vec<RefKey>,
}

/// A committed transaction in quarantine.
#[derive(Clone, Debug)]
struct HeldHere {
    project: String,
    name: ProjectName,
    refs: Vec<RefKey>,
    why: String,
    since_ms: u64,
    /// Whether the node's record names it.
    named: bool,
}

/// A debt, and when it is tried next.
#[derive(Clone, Debug)]
struct Entry {
    debt: Debt,
    /// The project, with its incarnation if it is known.
    project: String,
    name: ProjectName,
    next: Instant,
    /// The number of the latest thing of an owed project that came to be missed.
    missed: u64,
}

/// The moment at which a try to bring an owed project up to date began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun(u64);

impl Entry {
    fn new(debt: Debt, project: String, name: ProjectName, next: Instant) -> Self {
        Self { debt, project, name, next, missed: 0 }
    }
}

#[derive(Default)]
struct Inner {
    /// A transaction is held or waits, never both.
    held: BTreeMap<TxnId, HeldHere>,
    owed: BTreeMap<ProjectName, Entry>,
    waiting: BTreeMap<TxnId, Entry>,
    /// The number of things that came to be missed. Each has its own number, and none counts twice.
    missed: u64,
    elsewhere: BTreeMap<NodeId, Needs>,
}

/// The debts of one node.
pub struct Debts {
    durability: Durability,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    pace: RetryPace,
    inner: Mutex<Inner>,
}

impl Debts {
    /// Loads the debts from the node's store. Each is due at once, because a start may bring a new release or a repair.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(
        store: &dyn NodeStore,
        durability: Durability,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        pace: RetryPace,
    ) -> Result<Self, StoreError> {
        let inner = named::load(store, Instant::now())?;
        Ok(Self { durability, clock, entropy, pace, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The pauses between tries.
    #[must_use]
    pub fn pace(&self) -> RetryPace {
        self.pace
    }

    /// Notes a committed transaction as held. The caller stages its record of the quarantine before this call. If it
    /// was named as waiting, its name goes with it in the same moment: a mark may have passed it.
    pub fn hold(&self, transaction: &Transaction, why: &str) {
        let mut inner = self.inner();
        let since_ms = self.clock.now_ms();
        let was_named = inner.waiting.remove(&transaction.id).is_some_and(|entry| entry.debt.named);
        let entry = inner.held.entry(transaction.id.clone()).or_insert_with(|| here(transaction, since_ms));
        entry.named |= was_named;
        entry.why = short(why);
        if entry.refs.is_empty() {
            entry.refs = keys(transaction).into_iter().take(MOST_REFS).collect();
        }
        inner.name_held();
    }

    /// Whether a transaction is held.
    #[must_use]
    pub fn is_held(&self, txn: &TxnId) -> bool {
        self.inner().held.contains_key(txn)
    }

    /// Whether a transaction is held here or, as far as this node knows, at another node.
    #[must_use]
    pub fn is_held_anywhere(&self, txn: &TxnId) -> bool {
        let inner = self.inner();
        inner.held.contains_key(txn) || inner.elsewhere.values().any(|needs| needs.held.contains_key(txn))
    }

    /// The transactions that are held.
    #[must_use]
    pub fn held(&self) -> Vec<TxnId> {
        self.inner().held.keys().cloned().collect()
    }

    /// Ends the entry of a held transaction, whose values, or newer ones, are durably applied.
    pub fn release(&self, txn: &TxnId) {
        let mut inner = self.inner();
        if inner.held.remove(txn).is_some() {
            inner.name_held();
            let id = txn.to_string();
            self.durability.stage(|changes| {
                changes.quarantine.retain(|(one, _)| *one != id);
                changes.unquarantine.push(id);
            });
        }
    }

    /// Notes that a project could not be brought up to date. `closed` says whether the node may not take commits to it;
    /// none leaves that as it is.
    pub fn failed(&self, project: &ProjectName, failure: Failure, closed: Option<bool>) {
        let mut inner = self.inner();
        let before = inner.owed.get(project).map(|entry| entry.debt.clone());
        let tries = before.as_ref().map_or(0, |debt| debt.tries).saturating_add(1);
        let since_ms = before.as_ref().map_or_else(|| self.clock.now_ms(), |debt| debt.since_ms);
        let closed = closed.unwrap_or_else(|| before.as_ref().is_some_and(|debt| debt.closed));
        let next = Instant::now() + self.pace.pause(self.entropy.as_ref(), failure.kind, tries);
        let named = before.as_ref().is_some_and(|debt| debt.named) || inner.has_room_for_owed();
        let debt = Debt { named, ..debt(failure, since_ms, tries, closed) };
        if before.is_none() {
            tracing::error!(%project, kind = debt.kind.as_str(), why = debt.why, "project degraded: it is behind here");
        }
        let missed = inner.owed.get(project).map_or(inner.missed + 1, |entry| entry.missed);
        inner.missed = inner.missed.max(missed);
        let entry = Entry::new(debt.clone(), project.to_string(), project.clone(), next);
        inner.owed.insert(project.clone(), Entry { missed, ..entry });
        self.stage_owed(project.clone(), debt);
    }

    /// Stages the record of an owed project.
    fn stage_owed(&self, project: ProjectName, debt: Debt) {
        self.durability.stage(|changes| {
            changes.owe.retain(|(one, _)| *one != project);
            changes.repaid.retain(|one| *one != project);
            changes.owe.push((project, debt));
        });
    }

    /// Notes that the state of a project is known here, so that commits to it may be taken.
    pub fn open(&self, project: &ProjectName) {
        let mut inner = self.inner();
        let Some(entry) = inner.owed.get_mut(project).filter(|entry| entry.debt.closed) else { return };
        entry.debt.closed = false;
        let debt = entry.debt.clone();
        self.stage_owed(project.clone(), debt);
    }

    /// Leaves a transaction to the debt of its project: the try that brings the project up to date brings it too.
    /// Returns whether it may be left, which is so if the node's record names the project. Then its parked record is
    /// not needed, and its low-water mark may pass it. `soon` says that a retry may help by itself.
    #[must_use]
    pub fn takes_over(&self, project: &ProjectName, soon: bool) -> bool {
        let mut inner = self.inner();
        let missed = inner.missed + 1;
        let Some(entry) = inner.owed.get_mut(project).filter(|entry| entry.debt.named) else { return false };
        entry.missed = missed;
        if soon {
            entry.next = entry.next.min(Instant::now() + self.pace.slow);
        }
        // A debt that was named at the start may have no record yet that says so.
        let debt = entry.debt.clone();
        inner.missed = missed;
        self.stage_owed(project.clone(), debt);
        true
    }

    /// The moment of this call, at which a try to bring owed projects up to date begins.
    #[must_use]
    pub fn begins(&self) -> Begun {
        Begun(self.inner().missed)
    }

    /// Notes that a project is up to date, after a try that began at this moment. Its values must be durable already.
    /// If more of it came to be missed since then, the debt stays, and is due at once.
    pub fn paid(&self, project: &ProjectName, begun: Begun) {
        let mut inner = self.inner();
        match inner.owed.get_mut(project) {
            None => return,
            Some(entry) if entry.missed > begun.0 => return entry.next = Instant::now(),
            Some(_) => _ = inner.owed.remove(project),
        }
        tracing::info!(%project, "the project is up to date again");
        let name = project.clone();
        self.durability.stage(|changes| {
            changes.owe.retain(|(one, _)| *one != name);
            changes.repaid.push(name);
        });
        if let Some((name, debt)) = inner.name_owed() {
            self.stage_owed(name, debt);
        }
    }

    /// The owed projects whose next try is due.
    #[must_use]
    pub fn due(&self) -> Vec<ProjectName> {
        let now = Instant::now();
        self.inner().owed.iter().filter(|(_, entry)| entry.next <= now).map(|(name, _)| name.clone()).collect()
    }

    /// The number of owed projects, whether or not their next try is due.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.inner().owed.len() as u64
    }

    /// Whether a project is owed.
    #[must_use]
    pub fn is_owed(&self, project: &ProjectName) -> bool {
        self.inner().owed.contains_key(project)
    }

    /// Whether this node has a debt of any kind in a project. Without one, everything of it below the low-water marks
    /// is applied. Read the marks first, as for [`Debts::needs`].
    #[must_use]
    pub fn has_debt(&self, project: &ProjectName) -> bool {
        let inner = self.inner();
        inner.owed.contains_key(project)
            || inner.held.values().any(|held| held.name == *project)
            || inner.waiting.values().any(|entry| entry.name == *project)
    }

    /// Makes the debt of a project due now. Returns whether it has one.
    pub fn hurry(&self, project: &ProjectName) -> bool {
        let mut inner = self.inner();
        let entry = inner.owed.get_mut(project);
        entry.map(|entry| entry.next = Instant::now()).is_some()
    }

    /// The reason why this node takes no commits to a project.
    #[must_use]
    pub fn closes(&self, project: &ProjectName) -> Option<String> {
        let inner = self.inner();
        inner.owed.get(project).filter(|entry| entry.debt.closed).map(|entry| entry.debt.why.clone())
    }

    /// Notes the failed try of a parked transaction, and returns the time of the next one. If the reason is bad content
    /// that it builds on, the node's record names it, as far as there is room. One that is held stays as it is.
    pub fn waits(&self, transaction: &Transaction, failure: Failure, since_ms: u64, tries: u32) -> Instant {
        let mut inner = self.inner();
        let next = Instant::now() + self.pace.pause(self.entropy.as_ref(), failure.kind, tries);
        if inner.held.contains_key(&transaction.id) {
            return next;
        }
        let was_named = inner.waiting.get(&transaction.id).is_some_and(|entry| entry.debt.named);
        let named = was_named || failure.kind == DebtKind::BadContent && inner.has_room_for_held();
        let debt = Debt { named, ..debt(Failure { refs: keys(transaction), ..failure }, since_ms, tries, false) };
        let (project, name) = (transaction.project.to_string(), transaction.project.name.clone());
        inner.waiting.insert(transaction.id.clone(), Entry::new(debt, project, name, next));
        next
    }

    /// Notes that a parked transaction waits no more: its values, or newer ones, are durably applied, or its project
    /// has taken it over. The entry of a held one stays.
    pub fn arrived(&self, txn: &TxnId) {
        let mut inner = self.inner();
        inner.waiting.remove(txn);
        inner.name_held();
    }

    /// Takes in what the records of other nodes say. Expelled nodes need nothing.
    pub fn seen(&self, own: &NodeId, nodes: &[NodeRecord]) {
        let others = nodes.iter().filter(|one| one.node != *own && !one.expelled && one.needs != Needs::default());
        self.inner().elsewhere = others.map(|one| (one.node.clone(), one.needs.clone())).collect();
    }
}

fn keys(transaction: &Transaction) -> Vec<RefKey> {
    transaction.commands.iter().map(|command| command.key.clone()).collect()
}

fn here(transaction: &Transaction, since_ms: u64) -> HeldHere {
    let refs = keys(transaction).into_iter().take(MOST_REFS).collect();
    let (project, name) = (transaction.project.to_string(), transaction.project.name.clone());
    HeldHere { project, name, refs, why: String::new(), since_ms, named: false }
}

fn debt(failure: Failure, since_ms: u64, tries: u32, closed: bool) -> Debt {
    let Failure { kind, why, txn, mut refs } = failure;
    refs.truncate(MOST_REFS);
    Debt { kind, why: short(&why), txn, refs, since_ms, tries, closed, named: false }
}

fn short(why: &str) -> String {
    why.chars().take(REASON).collect()
}

#[cfg(test)]
mod tests;
