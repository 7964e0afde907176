//! Invariants 1 and 18: the commits of each ref form one chain. Versions are dense, each step builds on the one before
//! it, and deletions and re-creations are steps like any other.

use lockstep_proto::{RefValue, Transaction, Version};

use super::Verdict;
use crate::sim::facts::Facts;

/// Judges a commit that the refdb has just made, before the facts include it.
///
/// # Errors
/// A command does not follow the last step of its ref.
pub fn extend(facts: &Facts, transaction: &Transaction) -> Verdict {
    for command in &transaction.commands {
        let last = facts.chain(&transaction.project, &command.key).last();
        let (version, value, txn) = match last {
            Some(step) => (step.version, step.value.clone(), Some(step.txn.clone())),
            None => (Version::NONE, RefValue::Absent, None),
        };
        let follows = command.version == version.next() && command.old == value && command.predecessor == txn;
        if !follows {
            return Err(format!(
                "{} committed {} {}@{} on {} by {:?}, but the ref was {value}@{version} by {txn:?}",
                transaction.id, transaction.project, command.key, command.version, command.old, command.predecessor
            ));
        }
    }
    Ok(())
}
