//! The journal entries that some node still needs although its low-water marks have passed them.

use std::collections::BTreeSet;

use lockstep_proto::{ProjectName, Transaction, TxnId};

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::NodeRecord;

/// A transaction that was left in its slot because some node needed it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    txn: TxnId,
    project: ProjectName,
}

impl Kept {
    pub(super) fn new(txn: TxnId, project: ProjectName) -> Self {
        Self { txn, project }
    }

    pub(super) fn of(transaction: &Transaction) -> Self {
        Self::new(transaction.id.clone(), transaction.project.name.clone())
    }
}

/// The needs of all nodes together.
#[derive(Debug, Default)]
pub(super) struct Needed {
    held: BTreeSet<TxnId>,
    owed: BTreeSet<ProjectName>,
}

impl Needed {
    /// The needs of these nodes. Nothing is kept for expelled ones.
    pub(super) fn of(nodes: &[NodeRecord], bugs: InjectedBugs) -> Self {
        if bugs.has(InjectedBug::HeldCollected) {
            return Self::default();
        }
        let needs = || nodes.iter().filter(|node| !node.expelled).map(|node| &node.needs);
        let held = needs().flat_map(|needs| needs.held.keys().cloned()).collect();
        Self { held, owed: needs().flat_map(|needs| needs.owed.iter().cloned()).collect() }
    }

    /// Whether some node needs a transaction: as one that it holds, or as one of a project that it owes.
    pub(super) fn has(&self, kept: &Kept) -> bool {
        self.held.contains(&kept.txn) || self.owed.contains(&kept.project)
    }
}
