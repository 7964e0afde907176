//! Invariant 21: a node that can know that the refdb went back in time commits nothing, and says so.
//!
//! Once the refdb is replaced by an older backup, its chains no longer are those that the other checkers expect. From
//! then on this checker alone judges.

use lockstep_proto::{NodeId, TxnId};

use super::Verdict;

/// The time within which a node that reaches the refdb finds out: some heartbeats, with their retries.
pub const FINDS_OUT_MS: u64 = 6_000;

/// Judges a commit in a refdb that went back. `alive_since` is the start of the node's present life.
///
/// # Errors
/// The node has had the time to find out.
pub fn commit(txn: &TxnId, rewound_at: u64, alive_since: u64, now: u64) -> Verdict {
    let since = rewound_at.max(alive_since);
    if now.saturating_sub(since) <= FINDS_OUT_MS {
        return Ok(());
    }
    Err(format!("{txn} was committed {} ms after its node could first see that the refdb went back", now - since))
}

/// Judges a node at the end of the run.
///
/// # Errors
/// The node serves, or does not say that the refdb went back.
pub fn says_so(node: &NodeId, says: bool, is_ready: bool) -> Verdict {
    match (says, is_ready) {
        (true, false) => Ok(()),
        (true, true) => Err(format!("{node} is ready, although it says that the refdb went back")),
        (false, _) => Err(format!("{node} does not say that the refdb went back (ready: {is_ready})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_some_heartbeats_to_find_out() {
        let txn: TxnId = "n.1.0.9.00000000000000aa".parse().unwrap();
        assert!(commit(&txn, 10_000, 0, 16_000).is_ok());
        assert!(commit(&txn, 10_000, 0, 16_001).is_err());
        assert!(commit(&txn, 10_000, 15_000, 21_000).is_ok(), "it was down");
        assert!(says_so(&"n".parse().unwrap(), true, false).is_ok());
        assert!(says_so(&"n".parse().unwrap(), false, false).is_err());
        assert!(says_so(&"n".parse().unwrap(), true, true).is_err());
    }
}
