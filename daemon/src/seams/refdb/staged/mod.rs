//! Transactions of more commands than one write takes: committed under locks, in three steps.
//!
//! 1. Each ref gets a lock that names the transaction, in parts; what stands against one part stands against all.
//! 2. The journal slot is the commit point: one conditional write, as poison is.
//! 3. The refs move, in parts, and lose their locks.
//!
//! Whoever dies in between leaves locks. They decide nothing by themselves: a lock means "as the slot says". So whoever
//! meets one asks the slot ([`Fate`]): a ref of a committed transaction is moved by whoever comes by, the lock of one
//! that can never be committed is taken away, and one whose fate is open stays until the journal's owner has settled the
//! slot. A slot is collected only when no ref carries its lock any more ([`StagedRefDb::settle`]).
//!
//! Nothing here remembers anything, and each step may be repeated: the conditions of the writes make a second copy, or a
//! late one, harmless. In particular a ref that has moved has another version than the late copy of a lock asks for.

mod commit;
mod fate;
mod seam;

use std::sync::Arc;

use lockstep_proto::{Command, ProjectKey, RefKey, RefName, Transaction, TxnId};

use super::{Part, RefDb, RefDbError, RefItem, rules};
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};

pub use fate::Fate;

/// A refdb that takes transactions of any size, and in whose answers a lock is open: neither committed nor void.
pub struct StagedRefDb {
    inner: Arc<dyn RefDb>,
    /// Most items of one write.
    most: usize,
    bugs: InjectedBugs,
}

/// Most items of one write, for a refdb that has no bound of its own: DynamoDB's.
pub const WRITE_ITEMS: usize = rules::ITEMS;

impl StagedRefDb {
    /// Commits by one write what has at most `most` items, the slot and new directories among them; at most
    /// [`WRITE_ITEMS`], and at least 2.
    #[must_use]
    pub fn new(inner: Arc<dyn RefDb>, most: usize, bugs: InjectedBugs) -> Self {
        Self { inner, most: most.clamp(2, WRITE_ITEMS), bugs }
    }

    /// Makes sure that no ref carries the lock of a committed transaction any more. Before its slot is collected.
    ///
    /// # Errors
    /// The refdb's own: the slot must stay.
    pub async fn settle(&self, transaction: &Transaction) -> Result<(), RefDbError> {
        if !self.is_staged(transaction) || self.bugs.has(InjectedBug::LockOutlivesSlot) {
            return Ok(());
        }
        self.flip_all(&self.parts(transaction)).await
    }

    /// Whether a transaction is committed under locks: its commands alone decide, so that it can be told from its slot.
    fn is_staged(&self, transaction: &Transaction) -> bool {
        transaction.commands.len() + 1 > self.most
    }

    /// The commands of a transaction, in parts.
    fn parts(&self, transaction: &Transaction) -> Vec<Part> {
        let part = |commands: &[Command]| Part {
            txn: transaction.id.clone(),
            project: transaction.project.clone(),
            commands: commands.to_vec(),
            directories: Vec::new(),
        };
        transaction.commands.chunks(self.most).map(part).collect()
    }

    /// Directories that a transaction needs, in parts.
    fn folders(&self, transaction: &Transaction, directories: &[RefName]) -> Vec<Part> {
        let part = |directories: &[RefName]| Part {
            txn: transaction.id.clone(),
            project: transaction.project.clone(),
            commands: Vec::new(),
            directories: directories.to_vec(),
        };
        directories.chunks(self.most).map(part).collect()
    }

    /// Looks into the locks of items; whether any of them has gone. One whose fate is open stays.
    async fn free(&self, project: &ProjectKey, items: &[&RefItem]) -> Result<bool, RefDbError> {
        let locked = |item: &&RefItem| item.lock.clone().map(|txn| (txn, item.key.clone()));
        let mut locks: Vec<(TxnId, RefKey)> = items.iter().filter_map(locked).collect();
        locks.sort();
        let mut freed = false;
        for of_one in locks.chunk_by(|one, other| one.0 == other.0) {
            let (txn, keys) = (&of_one[0].0, of_one.iter().map(|(_, key)| key.clone()).collect::<Vec<_>>());
            freed |= match self.fate(txn).await? {
                Fate::Open => false,
                // Those that were met, and no others: its writer is probably at it.
                Fate::Committed(mut transaction) => {
                    transaction.commands.retain(|command| keys.contains(&command.key));
                    self.flip_all(&self.parts(&transaction)).await.map(|()| true)?
                }
                Fate::Void => self.inner.release(project, txn, &keys).await.map(|()| true)?,
            };
        }
        Ok(freed)
    }
}

#[cfg(test)]
mod tests;
