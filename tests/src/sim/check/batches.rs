//! Invariant 12: a node's version map and its refs have either all or nothing of a batch.

use std::collections::BTreeMap;

use lockstep::seams::volume::NodeStore;
use lockstep_proto::{Oid, ProjectKey, RefKey, RefName, TxnId, Version};

use super::{Verdict, checkpoints};
use crate::sim::facts::Facts;

/// Judges the version map after it has taken in a step of a transaction.
///
/// # Errors
/// Another ref of the same transaction is behind that step.
pub fn in_map(facts: &Facts, store: &dyn NodeStore, txn: &TxnId) -> Verdict {
    let Some(transaction) = facts.transactions.get(txn) else {
        return Err(format!("the version map names {txn}, which was never committed"));
    };
    match checkpoints::not_applied(store, transaction, &[]) {
        Some(why) => Err(format!("{txn} is applied in part: {why}")),
        None => Ok(()),
    }
}

/// Judges the refs of a repository after one of them moved to a version.
///
/// # Errors
/// Another ref of the same transaction is behind that version.
pub fn in_refs(
    facts: &Facts,
    project: &ProjectKey,
    moved: (&RefName, Version),
    shown: &BTreeMap<RefName, Oid>,
) -> Verdict {
    let (name, version) = moved;
    let chain = facts.chain(project, &RefKey::Ref(name.clone()));
    let Some(step) = usize::try_from(version.0).ok().and_then(|at| chain.get(at.checked_sub(1)?)) else {
        return Ok(());
    };
    let Some(transaction) = facts.transactions.get(&step.txn) else { return Ok(()) };
    for command in &transaction.commands {
        let Some(other) = command.key.as_ref_name() else { continue };
        let value = shown.get(other).copied();
        if facts.position(project, other, value, command.version).is_none() {
            return Err(format!(
                "{} is seen in part: {name} is at {version}, {other} shows {value:?}, before version {}",
                transaction.id, command.version
            ));
        }
    }
    Ok(())
}
