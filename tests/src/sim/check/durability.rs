//! Invariant 10: the version map never says more than the disk holds. The map is durable at once, refs only after a
//! sync. So an entry may be written only when the ref's last *synced* value is at least as new.

use std::collections::BTreeMap;

use lockstep::seams::volume::{NodeStore, RefRecord};
use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey, RefName, Version};

use super::Verdict;
use crate::sim::facts::Facts;

/// The refs of a volume that would survive a power cut.
#[derive(Debug, Default)]
pub struct Ledger {
    durable: BTreeMap<(ProjectName, RefName), Option<Oid>>,
    dirty: Vec<(u64, (ProjectName, RefName), Option<Oid>)>,
    moves: u64,
}

impl Ledger {
    /// Notes that a ref moved and is not synced yet.
    pub fn moved(&mut self, project: &ProjectName, name: &RefName, value: Option<Oid>) {
        self.moves += 1;
        self.dirty.push((self.moves, (project.clone(), name.clone()), value));
    }

    /// A mark of all moves that a sync which begins now will make durable.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.moves
    }

    /// Notes that the sync which began at `mark` has ended.
    pub fn synced(&mut self, mark: u64) {
        let (done, rest) = std::mem::take(&mut self.dirty).into_iter().partition(|(at, ..)| *at <= mark);
        self.dirty = rest;
        let done: Vec<_> = done;
        self.durable.extend(done.into_iter().map(|(_, key, value)| (key, value)));
    }

    /// Replaces the durable refs of a project: after a power cut, a repair or a deletion.
    pub fn reset(&mut self, project: &ProjectName, refs: &BTreeMap<RefName, Oid>) {
        self.durable.retain(|(other, _), _| other != project);
        self.dirty.retain(|(_, (other, _), _)| other != project);
        let durable = refs.iter().map(|(name, oid)| ((project.clone(), name.clone()), Some(*oid)));
        self.durable.extend(durable);
    }

    /// Judges a new entry of the version map.
    ///
    /// # Errors
    /// The ref's synced value is older than the entry.
    pub fn covers(&self, facts: &Facts, project: &ProjectKey, key: &RefKey, record: &RefRecord) -> Verdict {
        let Some(name) = key.as_ref_name().filter(|_| !facts.is_past(project)) else { return Ok(()) };
        let value = self.durable.get(&(project.name.clone(), name.clone())).copied().flatten();
        if facts.position(project, name, value, record.version).is_some() {
            return Ok(());
        }
        Err(format!(
            "the version map says {project} {name}@{}, but the value that survives a power cut is {value:?}",
            record.version
        ))
    }
}

/// Judges an entry of the version map against the previous entry and the chain.
///
/// # Errors
/// The version goes back, or the entry was never committed.
pub fn in_chain(
    facts: &Facts,
    store: &dyn NodeStore,
    project: &ProjectKey,
    key: &RefKey,
    record: &RefRecord,
) -> Verdict {
    let before = store.reference(project, key).map_err(|error| error.to_string())?;
    let before = before.map_or(Version::NONE, |record| record.version);
    if record.version < before {
        return Err(format!("the version map takes {project} {key} back from {before} to {}", record.version));
    }
    let chain = facts.chain(project, key);
    let step = usize::try_from(record.version.0).ok().and_then(|at| chain.get(at.checked_sub(1)?));
    match step {
        Some(step) if step.value == record.value && step.txn == record.txn => Ok(()),
        step => Err(format!("the version map says {project} {key} is {record:?}, the chain says {step:?}")),
    }
}
