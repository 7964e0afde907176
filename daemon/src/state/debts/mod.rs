//! Debts: what this node cannot bring up to date. A debt degrades its project, or some of its refs, and nothing else.
//!
//! There are three kinds:
//! - A **held** transaction was committed, and its content is bad. It is in the durable quarantine. It holds back the
//!   successors of its refs. It is tried again at each start, and when an operator asks.
//! - An **owed** project could not be brought up to date as a whole. The debt is durable, and is tried again with
//!   growing pauses.
//! - A **waiting** transaction is parked, and what it waits for could not be fetched. It is durable as a parked record.
//!
//! The node's record in the refdb names held transactions and owed projects ([`Debts::needs`]). Their journal entries
//! are not collected, so that no content is lost with its origin. All texts here are bounded.
//!
//! | file | idea |
//! |---|---|
//! | `show` | debts as the status API shows them |

mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::debt::DebtKind;
use lockstep_proto::{NodeId, ProjectName, RefKey, Transaction, TxnId};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::base::backoff::Backoff;
use crate::base::clock::{Clock, Entropy};
use crate::seams::refdb::{MOST_NEEDS, Needs, NodeRecord};
use crate::seams::volume::{Debt, Held, MOST_REFS, NodeStore, StoreError};
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
    project: String,
    next: Instant,
    /// Whether the node's record names it.
    named: bool,
}

#[derive(Default)]
struct Inner {
    held: BTreeMap<TxnId, HeldHere>,
    owed: BTreeMap<ProjectName, Entry>,
    waiting: BTreeMap<TxnId, Entry>,
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
        let held = store.quarantined()?;
        let held = held.iter().filter(|(id, held)| held.is_committed(id)).filter_map(|(_, held)| read(held));
        let (mut held, marks) = (held.collect::<Vec<_>>(), store.low_water()?);
        // Those that the low-water marks have passed were named before, and their slots must stay.
        held.sort_by_key(|(txn, _)| marks.get(&txn.slot.lane).is_none_or(|mark| txn.slot.seq >= *mark));
        let held =
            held.into_iter().enumerate().map(|(at, (txn, held))| (txn, HeldHere { named: at < MOST_NEEDS, ..held }));
        let next = Instant::now();
        let entry = |(at, (name, debt)): (usize, (ProjectName, Debt))| {
            let project = name.to_string();
            (name, Entry { debt, project, next, named: at < MOST_NEEDS })
        };
        let owed = store.debts()?.into_iter().enumerate().map(entry);
        let inner = Inner { held: held.collect(), owed: owed.collect(), ..Inner::default() };
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

    /// Notes a committed transaction as held. The caller stages its record of the quarantine before this call.
    pub fn hold(&self, transaction: &Transaction, why: &str) {
        let mut inner = self.inner();
        let since_ms = self.clock.now_ms();
        let named = inner.held.values().filter(|held| held.named).count() < MOST_NEEDS;
        let new = || HeldHere { named, ..here(transaction, since_ms) };
        let entry = inner.held.entry(transaction.id.clone()).or_insert_with(new);
        entry.why = short(why);
        if entry.refs.is_empty() {
            entry.refs = keys(transaction).into_iter().take(MOST_REFS).collect();
        }
    }

    /// Whether the node's record names a held transaction, so that its low-water mark may pass it. Too many held
    /// transactions hold the mark back instead.
    #[must_use]
    pub fn is_named(&self, txn: &TxnId) -> bool {
        self.inner().held.get(txn).is_some_and(|held| held.named)
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
        if self.inner().held.remove(txn).is_some() {
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
        let debt = debt(failure, since_ms, tries, closed);
        if before.is_none() {
            tracing::error!(%project, kind = debt.kind.as_str(), why = debt.why, "project degraded: it is behind here");
        }
        let (name, staged) = (project.clone(), debt.clone());
        let was_named = inner.owed.get(project).is_some_and(|entry| entry.named);
        let named = was_named || inner.owed.values().filter(|entry| entry.named).count() < MOST_NEEDS;
        inner.owed.insert(project.clone(), Entry { debt, project: project.to_string(), next, named });
        self.durability.stage(|changes| {
            changes.owe.retain(|(one, _)| *one != name);
            changes.repaid.retain(|one| *one != name);
            changes.owe.push((name, staged));
        });
    }

    /// Notes that the state of a project is known here, so that commits to it may be taken.
    pub fn open(&self, project: &ProjectName) {
        let mut inner = self.inner();
        let Some(entry) = inner.owed.get_mut(project).filter(|entry| entry.debt.closed) else { return };
        entry.debt.closed = false;
        let (name, debt) = (project.clone(), entry.debt.clone());
        self.durability.stage(|changes| {
            changes.owe.retain(|(one, _)| *one != name);
            changes.owe.push((name, debt));
        });
    }

    /// Notes that a project is up to date. Its values must be durable already.
    pub fn paid(&self, project: &ProjectName) {
        if self.inner().owed.remove(project).is_some() {
            tracing::info!(%project, "the project is up to date again");
            let name = project.clone();
            self.durability.stage(|changes| {
                changes.owe.retain(|(one, _)| *one != name);
                changes.repaid.push(name);
            });
        }
    }

    /// The owed projects whose next try is due.
    #[must_use]
    pub fn due(&self) -> Vec<ProjectName> {
        let now = Instant::now();
        self.inner().owed.iter().filter(|(_, entry)| entry.next <= now).map(|(name, _)| name.clone()).collect()
    }

    /// Whether the node's record has room for every owed project.
    #[must_use]
    pub fn all_are_named(&self) -> bool {
        self.inner().owed.values().all(|entry| entry.named)
    }

    /// Whether a project is owed.
    #[must_use]
    pub fn is_owed(&self, project: &ProjectName) -> bool {
        self.inner().owed.contains_key(project)
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

    /// Notes the failed try of a parked transaction, and returns the time of the next one.
    pub fn waits(&self, transaction: &Transaction, failure: Failure, since_ms: u64, tries: u32) -> Instant {
        let next = Instant::now() + self.pace.pause(self.entropy.as_ref(), failure.kind, tries);
        let debt = debt(Failure { refs: keys(transaction), ..failure }, since_ms, tries, false);
        let entry = Entry { debt, project: transaction.project.to_string(), next, named: false };
        self.inner().waiting.insert(transaction.id.clone(), entry);
        next
    }

    /// Notes that a parked transaction waits no more.
    pub fn arrived(&self, txn: &TxnId) {
        self.inner().waiting.remove(txn);
    }

    /// The journal entries that this node needs although its marks have passed them, for its record.
    ///
    /// Read the marks first: an entry is noted here before a mark passes it.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let inner = self.inner();
        let held = inner.held.iter().filter(|(_, held)| held.named);
        let held = held.map(|(txn, held)| (txn.clone(), held.name.clone()));
        let owed = inner.owed.iter().filter(|(_, entry)| entry.named);
        let owed: BTreeSet<ProjectName> = owed.map(|(name, _)| name.clone()).collect();
        Needs { held: held.collect(), owed }
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

/// A record of the quarantine as a held transaction. One that travels as a locator shows its refs once it was tried
/// again. None if its bytes cannot be read any more.
fn read(held: &Held) -> Option<(TxnId, HeldHere)> {
    let transaction = Transaction::outlined(&held.bytes).ok()?;
    let entry = HeldHere { why: short(&held.reason), ..here(&transaction, held.since_ms) };
    Some((transaction.id, entry))
}

fn debt(failure: Failure, since_ms: u64, tries: u32, closed: bool) -> Debt {
    let Failure { kind, why, txn, mut refs } = failure;
    refs.truncate(MOST_REFS);
    Debt { kind, why: short(&why), txn, refs, since_ms, tries, closed }
}

fn short(why: &str) -> String {
    why.chars().take(REASON).collect()
}

#[cfg(test)]
mod tests;
