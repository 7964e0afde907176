//! Invariant 13: all bad content is quarantined, and nothing else is.

use std::collections::BTreeSet;

use bytes::Bytes;
use lockstep::seams::volume::Changes;
use lockstep_proto::TxnId;

use super::Verdict;
use crate::sim::facts::Facts;

/// Judges the records that a node quarantines. The simulator's clients push no bad content, so none of them may be a
/// committed transaction.
///
/// # Errors
/// A committed transaction is in quarantine, or a copy of one that nobody forged. A forged record is parked, although
/// records must be signed.
pub fn quarantined(facts: &Facts, forged: &BTreeSet<Bytes>, signed: bool, changes: &Changes) -> Verdict {
    for (id, held) in &changes.park {
        if signed && forged.contains(&held.bytes) {
            return Err(format!("the forged record {id} was taken for a signed one: {}", held.reason));
        }
    }
    for (id, held) in &changes.quarantine {
        if signed && id.contains("/copy-") && !forged.contains(&held.bytes) {
            return Err(format!("{id} was quarantined, and nobody has forged it: {}", held.reason));
        }
        let known: Option<TxnId> = id.parse().ok();
        if known.is_some_and(|txn| facts.transactions.contains_key(&txn) && !facts.bad.contains(&txn)) {
            return Err(format!("the good transaction {id} was quarantined: {}", held.reason));
        }
    }
    Ok(())
}

/// Judges the quarantine at the end: it must hold all bad records that the simulator wrote.
///
/// # Errors
/// There are fewer quarantined records than bad ones, or a forged one is not among them.
pub fn complete(node: &str, quarantined: &BTreeSet<String>, bad: u64, forged: &[&str]) -> Verdict {
    if let Some(missing) = forged.iter().find(|id| !quarantined.contains(**id)) {
        return Err(format!("{node}: the forged transaction {missing} is not in quarantine"));
    }
    if (quarantined.len() as u64) < bad {
        return Err(format!("{node}: {bad} bad records were written, {} are in quarantine", quarantined.len()));
    }
    Ok(())
}
