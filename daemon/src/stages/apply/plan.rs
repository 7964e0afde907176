//! Decides what to do with a transaction, as a pure function of the version map.

use lockstep_proto::{RefKey, Transaction, TxnId, Version};

use super::reason::Contradiction;
use crate::seams::volume::RefRecord;

/// The decision on one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every ref of the transaction has its version, or a newer one, here.
    Skip,
    /// Every predecessor of the transaction is applied here.
    Apply,
    /// These predecessors must be applied first.
    Wait(Vec<TxnId>),
}

/// Plans one transaction. `known` returns the version of a key that is applied here, or that will be applied by the
/// transactions planned before.
pub fn plan<E>(transaction: &Transaction, mut known: impl FnMut(&RefKey) -> Result<Version, E>) -> Result<Step, E> {
    let mut newer = false;
    let mut missing = Vec::new();
    for command in &transaction.commands {
        let here = known(&command.key)?;
        newer |= command.version > here;
        if command.version > here.next() {
            missing.extend(command.predecessor.clone());
        }
    }
    missing.sort_unstable();
    missing.dedup();
    Ok(match (newer, missing.is_empty()) {
        (false, _) => Step::Skip,
        (true, true) => Step::Apply,
        (true, false) => Step::Wait(missing),
    })
}

/// The first contradiction between a transaction and the refs here. A chain has one transaction per version, so one of
/// the two transactions that contradict each other was never committed.
pub fn contradiction<E>(
    transaction: &Transaction,
    mut known: impl FnMut(&RefKey) -> Result<Option<RefRecord>, E>,
) -> Result<Option<Contradiction>, E> {
    for command in &transaction.commands {
        let Some(here) = known(&command.key)?.filter(|here| here.version.next() == command.version) else { continue };
        if command.predecessor.as_ref() != Some(&here.txn) || command.old != here.value {
            let (key, old, predecessor) = (command.key.clone(), command.old.clone(), command.predecessor.clone());
            return Ok(Some(Contradiction { key, old, predecessor, here }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::transaction_builder::TransactionBuilder;
    use lockstep_proto::{Command, Oid, RefValue};
    use std::convert::Infallible;

    fn transaction(steps: &[(&str, u64)]) -> Transaction {
        let before: TxnId = "n.1.0.8.00000000000000bb".parse().unwrap();
        let oid = RefValue::Oid(Oid::from_bytes(&[7; 20]).unwrap());
        let commands = steps.iter().map(|(name, version)| Command {
            key: name.parse().unwrap(),
            old: RefValue::Absent,
            new: oid.clone(),
            version: Version(*version),
            predecessor: (*version > 1).then(|| before.clone()),
        });
        Transaction { commands: commands.collect(), ..TransactionBuilder::in_slot(9).build() }
    }

    fn at(here: u64) -> impl FnMut(&RefKey) -> Result<Version, Infallible> {
        move |_| Ok(Version(here))
    }

    #[test]
    fn the_next_version_applies_an_older_one_is_skipped_a_gap_waits() {
        let step = transaction(&[("refs/heads/a", 3)]);
        assert_eq!(plan(&step, at(2)), Ok(Step::Apply));
        assert_eq!(plan(&step, at(3)), Ok(Step::Skip));
        assert_eq!(plan(&step, at(9)), Ok(Step::Skip));
        assert_eq!(plan(&step, at(1)), Ok(Step::Wait(vec!["n.1.0.8.00000000000000bb".parse().unwrap()])));
    }

    #[test]
    fn a_step_that_names_another_step_before_it_contradicts() {
        let step = transaction(&[("refs/heads/a", 3)]);
        let record = |txn: &str, value: RefValue, version| {
            let record = RefRecord { version: Version(version), value, txn: txn.parse().unwrap() };
            contradiction(&step, move |_| Ok::<_, Infallible>(Some(record.clone()))).unwrap().is_some()
        };
        assert!(!record("n.1.0.8.00000000000000bb", RefValue::Absent, 2));
        assert!(record("n.1.0.8.00000000000000bc", RefValue::Absent, 2));
        assert!(record("n.1.0.8.00000000000000bb", RefValue::Oid(Oid::from_bytes(&[1; 20]).unwrap()), 2));
        assert!(!record("n.1.0.7.00000000000000cc", RefValue::Absent, 1), "not the version just before it");
    }

    #[test]
    fn one_gap_holds_the_whole_batch() {
        let step = transaction(&[("refs/heads/a", 1), ("refs/heads/b", 5)]);
        let known = |key: &RefKey| Ok::<_, Infallible>(Version(if key.to_string().ends_with('a') { 0 } else { 3 }));
        assert!(matches!(plan(&step, known), Ok(Step::Wait(_))));
    }

    #[test]
    fn a_batch_of_which_a_part_is_here_is_completed() {
        let step = transaction(&[("refs/heads/a", 1), ("refs/heads/b", 5)]);
        let known = |key: &RefKey| Ok::<_, Infallible>(Version(if key.to_string().ends_with('a') { 1 } else { 4 }));
        assert_eq!(plan(&step, known), Ok(Step::Apply));
    }
}
