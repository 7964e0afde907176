//! Transactions of more commands than one write takes. They are committed under locks, in three steps. In a store whose
//! writes take one item, these are all transactions.
//!
//! 1. Each ref gets a lock that names the transaction, in parts. An obstacle to one part is an obstacle to all.
//! 2. The journal slot is the commit point. It is one conditional write, as poison is.
//! 3. The refs move, in parts, and lose their locks.
//!
//! A node that dies in between leaves locks. A lock decides nothing by itself. It means "see the slot" ([`Fate`]), and
//! any node that meets it looks there. If the transaction is committed, this node moves the ref. If the transaction can
//! never be committed, this node removes the lock. If its fate is open, the lock stays until the owner of the journal
//! has committed or poisoned the slot. A slot is collected only when no ref carries its lock any more
//! ([`FinishLocks`]).
//!
//! This module keeps no state, and each step may be repeated. The conditions of the writes make a second copy, or a
//! late one, harmless. In particular, a ref that has moved has another version than a late copy of its lock asks for.

mod commit;
mod lock_fate;
mod store;

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::{Command, ProjectKey, RefKey, RefName, Transaction, TxnId};

use super::{FinishLocks, Freed, Part, RefDb, RefDbError, RefItem, rules};
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::blob::long_form::LongForms;

pub use lock_fate::Fate;

/// The refs of a refdb, for transactions of any size. In its answers, the fate of a remaining lock is open: its
/// transaction is neither committed nor void.
pub struct StagedRefs {
    inner: RefDb,
    /// Reads the transactions that are too large for their slots.
    long_forms: LongForms,
    /// The most items of one write, if the store takes as many.
    limit: usize,
    bugs: InjectedBugs,
}

/// The most items of one write to DynamoDB, for a refdb that has no bound of its own.
pub const WRITE_ITEMS: usize = rules::ITEMS;

impl StagedRefs {
    /// A refdb that commits at most `most` items in one write, the slot and new directories included. `most` is clamped
    /// to 2 to [`WRITE_ITEMS`].
    #[must_use]
    pub fn new(inner: RefDb, long_forms: LongForms, most: usize, bugs: InjectedBugs) -> Self {
        Self { inner, long_forms, limit: most.clamp(2, WRITE_ITEMS), bugs }
    }

    /// The refdb with these refs. The other parts are those of the inner refdb.
    #[must_use]
    pub fn refdb(self: &Arc<Self>) -> RefDb {
        RefDb { refs: Arc::clone(self) as _, ..self.inner.clone() }
    }

    /// The most items of one write.
    fn most(&self) -> usize {
        self.limit.min(self.inner.refs.write_items())
    }

    /// Whether a transaction is committed under locks. Its commands alone decide, so that the content of its slot
    /// tells.
    fn is_staged(&self, transaction: &Transaction) -> bool {
        transaction.commands.len() + 1 > self.most()
    }

    /// The commands of a transaction, cut into parts. The freed names are needed only to lock the parts.
    fn parts(&self, transaction: &Transaction, freed: &Freed) -> Vec<Part> {
        let part = |commands: &[Command]| Part {
            txn: transaction.id.clone(),
            project: transaction.project.clone(),
            commands: commands.to_vec(),
            directories: Vec::new(),
            freed: freed.clone(),
            loosens: transaction.loosens,
        };
        transaction.commands.chunks(self.most()).map(part).collect()
    }

    /// The directories that a transaction needs, cut into parts.
    fn folders(&self, transaction: &Transaction, directories: &[RefName]) -> Vec<Part> {
        let part = |directories: &[RefName]| Part {
            txn: transaction.id.clone(),
            project: transaction.project.clone(),
            commands: Vec::new(),
            directories: directories.to_vec(),
            freed: Freed::new(),
            loosens: false,
        };
        directories.chunks(self.most()).map(part).collect()
    }

    /// Resolves the locks of items. Returns whether any of them is gone. A lock whose fate is open stays.
    async fn free(&self, project: &ProjectKey, items: &[&RefItem]) -> Result<bool, RefDbError> {
        let locked = |item: &&RefItem| item.lock.clone().map(|txn| (txn, item.key.clone()));
        let mut locks: Vec<(TxnId, RefKey)> = items.iter().filter_map(locked).collect();
        locks.sort();
        let mut freed = false;
        for of_one in locks.chunk_by(|one, other| one.0 == other.0) {
            let (txn, keys) = (&of_one[0].0, of_one.iter().map(|(_, key)| key.clone()).collect::<Vec<_>>());
            freed |= match self.fate(txn).await? {
                Fate::Open => false,
                // Only the refs that were met are moved. The writer of the transaction is probably moving the others.
                Fate::Committed(mut transaction) => {
                    transaction.commands.retain(|command| keys.contains(&command.key));
                    self.flip_all(&self.parts(&transaction, &Freed::new())).await.map(|()| true)?
                }
                Fate::Void => self.inner.refs.release(project, txn, &keys).await.map(|()| true)?,
            };
        }
        Ok(freed)
    }
}

#[async_trait]
impl FinishLocks for StagedRefs {
    async fn finish(&self, transaction: &Transaction) -> Result<(), RefDbError> {
        if !self.is_staged(transaction) || self.bugs.has(InjectedBug::LockOutlivesSlot) {
            return Ok(());
        }
        let mut parts = self.parts(transaction, &Freed::new());
        if self.most() == 1 {
            // A read is cheaper than a write that fails for each ref, and nearly always finds no lock.
            let keys: Vec<RefKey> = transaction.commands.iter().map(|command| command.key.clone()).collect();
            let items = self.inner.refs.read(&transaction.project, &keys).await?;
            let is_locked = |item: &Option<RefItem>| {
                item.as_ref().and_then(|item| item.lock.as_ref()).is_some_and(|lock| *lock == transaction.id)
            };
            let mut locked = items.iter().map(is_locked);
            parts.retain(|_| locked.next().unwrap_or(true));
        }
        self.flip_all(&parts).await
    }
}

#[cfg(test)]
mod tests;
