//! Bad transactions of a catch-up: they are held in quarantine, and only what builds on them is left out.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_proto::{RefKey, Transaction, TxnId};

use super::atomic_apply::UnitError;

/// The transactions that were left out of one catch-up.
#[derive(Default)]
pub(super) struct SetAside {
    blocked: BTreeSet<TxnId>,
    refs: BTreeSet<RefKey>,
    pub(super) first: Option<(TxnId, String)>,
}

impl SetAside {
    /// The transactions of a run, in order, that build on none that was left out.
    pub(super) fn without_blocked(&mut self, transactions: Vec<Arc<Transaction>>) -> Vec<Arc<Transaction>> {
        let mut good = Vec::with_capacity(transactions.len());
        for transaction in transactions {
            let mut predecessors = transaction.commands.iter().filter_map(|command| command.predecessor.as_ref());
            if self.blocked.contains(&transaction.id) || predecessors.any(|one| self.blocked.contains(one)) {
                self.block(&transaction);
            } else {
                good.push(transaction);
            }
        }
        good
    }

    pub(super) fn block(&mut self, transaction: &Transaction) {
        self.blocked.insert(transaction.id.clone());
        self.refs.extend(transaction.commands.iter().map(|command| command.key.clone()));
    }

    /// The end of the catch-up.
    pub(super) fn end(self) -> Result<(), UnitError> {
        let refs = self.refs.into_iter().collect();
        self.first.map_or(Ok(()), |(txn, why)| Err(UnitError::Held { txn, why, refs }))
    }
}
