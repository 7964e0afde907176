//! The order in which fetched transactions are applied, and the refs that are in their way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep_proto::{ProjectKey, RefKey, RefName, Transaction, TxnId};

use crate::base::ref_names;

/// The refs on disk whose names exclude a touched name.
pub(super) fn in_the_way(shown: &BTreeSet<RefName>, touched: &BTreeSet<RefKey>) -> Vec<RefKey> {
    let excludes =
        |name: &&RefName| touched.iter().filter_map(RefKey::as_ref_name).any(|other| ref_names::exclude(name, other));
    shown.iter().filter(excludes).cloned().map(RefKey::Ref).collect()
}

/// Orders transactions after their predecessors, in runs of one project key: the versions of each ref ascend, and a
/// batch comes after the earlier versions of all its refs.
pub(super) fn order(fetched: BTreeMap<TxnId, Arc<Transaction>>) -> Vec<(ProjectKey, Vec<Arc<Transaction>>)> {
    let mut waiting: Vec<Arc<Transaction>> = fetched.into_values().collect();
    // Commit times mostly show the order in which commits were built on each other. Where clocks differ, `Units` finds
    // the order of the packs itself.
    waiting.sort_by_key(|one| one.committed_at_ms);
    let mut placed: Vec<(ProjectKey, Vec<Arc<Transaction>>)> = Vec::new();
    while !waiting.is_empty() {
        let open: BTreeSet<TxnId> = waiting.iter().map(|one| one.id.clone()).collect();
        let free = |one: &Arc<Transaction>| {
            !one.commands.iter().filter_map(|command| command.predecessor.as_ref()).any(|txn| open.contains(txn))
        };
        let (now, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(free);
        if now.is_empty() {
            // Predecessors cannot form a cycle: each has a lower version of the same ref.
            break;
        }
        for transaction in now {
            match placed.last_mut() {
                Some((key, run)) if *key == transaction.project => run.push(transaction),
                _ => placed.push((transaction.project.clone(), vec![transaction])),
            }
        }
        waiting = later;
    }
    placed
}
