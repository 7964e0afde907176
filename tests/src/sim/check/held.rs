//! Invariant 13: only bad content is quarantined, and all of it is.

use std::collections::BTreeSet;

use lockstep::seams::volume::Changes;
use lockstep_proto::TxnId;

use super::Verdict;
use crate::sim::facts::Facts;

/// Judges what a node sets aside: the simulator's clients push no bad content, so a transaction never is.
///
/// # Errors
/// A committed transaction in quarantine.
pub fn quarantined(facts: &Facts, changes: &Changes) -> Verdict {
    for (id, held) in &changes.quarantine {
        let known: Option<TxnId> = id.parse().ok();
        if known.is_some_and(|txn| facts.transactions.contains_key(&txn) && !facts.bad.contains(&txn)) {
            return Err(format!("the good transaction {id} was quarantined: {}", held.reason));
        }
    }
    Ok(())
}

/// Judges the end: the bad records that the simulator wrote are all in quarantine.
///
/// # Errors
/// Fewer quarantined records than bad ones, or a forged one that is not among them.
pub fn complete(node: &str, quarantined: &BTreeSet<String>, bad: u64, forged: &[&str]) -> Verdict {
    if let Some(missing) = forged.iter().find(|id| !quarantined.contains(**id)) {
        return Err(format!("{node}: the forged transaction {missing} is not in quarantine"));
    }
    if (quarantined.len() as u64) < bad {
        return Err(format!("{node}: {bad} bad records were written, {} are in quarantine", quarantined.len()));
    }
    Ok(())
}
