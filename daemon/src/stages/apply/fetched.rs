//! The transactions of one catch-up in memory, within the node's budget for parked and fetched ones.
//!
//! A transaction for whose pack there is no room is *light*: it is kept without its pack. Before its run is applied, it
//! is read from the journal once more, and its objects are stored, one light transaction after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_proto::{Pack, Transaction, TxnId};

use crate::base::budget::ByteBudget;

/// The fetched transactions of one catch-up.
pub(super) struct Fetched {
    /// All of them, the light ones without their packs.
    pub(super) transactions: BTreeMap<TxnId, Arc<Transaction>>,
    /// The light ones, which are kept without their packs.
    pub(super) light: BTreeSet<TxnId>,
    /// The bytes that their packs take of the budget.
    pub(super) taken: Taken,
}

/// Bytes of a budget, given back when this is dropped.
pub(super) struct Taken {
    budget: ByteBudget,
    bytes: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl Fetched {
    /// Starts without transactions, within a budget of bytes.
    pub(super) fn new(budget: &ByteBudget) -> Self {
        let taken = Taken { budget: budget.clone(), bytes: 0 };
        Self { transactions: BTreeMap::new(), light: BTreeSet::new(), taken }
    }

    /// Adds a transaction, without its pack if the budget has no room for it.
    pub(super) fn insert(&mut self, mut transaction: Transaction) {
        let id = transaction.id.clone();
        if let Pack::Inline(bytes) = &transaction.pack {
            let bytes = bytes.len() as u64;
            if self.taken.budget.take(bytes) {
                self.taken.bytes += bytes;
            } else {
                transaction.pack = Pack::Empty;
                self.light.insert(id.clone());
            }
        }
        self.transactions.insert(id, Arc::new(transaction));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::transaction_builder::TransactionBuilder;

    fn transaction(seq: u64, bytes: usize) -> Transaction {
        let pack = Pack::Inline(Bytes::from(vec![0; bytes]));
        Transaction { pack, ..TransactionBuilder::in_slot(seq).build() }
    }

    #[test]
    fn a_transaction_without_room_is_light_and_the_budget_gets_everything_back() {
        let budget = ByteBudget::new(1_000);
        let mut fetched = Fetched::new(&budget);
        (0..5).for_each(|seq| fetched.insert(transaction(seq, 400)));
        assert_eq!((fetched.transactions.len(), fetched.light.len(), budget.taken()), (5, 3, 800));
        let packs = fetched.transactions.values().filter(|one| matches!(one.pack, Pack::Inline(_))).count();
        assert_eq!(packs, 2);
        drop(fetched);
        assert_eq!(budget.taken(), 0);
    }
}
