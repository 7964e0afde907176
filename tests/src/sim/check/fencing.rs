//! Invariant 8: who is fenced commits nothing any more. Nobody is born where the site's role does not allow it,
//! and a journal is drained only when nothing can land in its windows.

use lockstep::seams::refdb::{IncarnationRecord, Role};
use lockstep_proto::{IncarnationId, Seq};

use super::Verdict;
use crate::sim::facts::Facts;

/// Judges a birth that the refdb allowed.
///
/// # Errors
/// The site is not active, or has another epoch; or an earlier incarnation of the node is not drained while the
/// new one claims its number again.
pub fn open_incarnation(facts: &Facts, record: &IncarnationRecord) -> Verdict {
    if facts.incarnations.contains_key(&record.id) {
        return Err(format!("{} was born twice", record.id));
    }
    match facts.sites.get(&record.site) {
        Some(site) if site.role == Role::Active && site.epoch == record.epoch => Ok(()),
        site => Err(format!("{} was born with epoch {} while its site is {site:?}", record.id, record.epoch)),
    }
}

/// Judges the end of draining: `marks` are the final published marks.
///
/// # Errors
/// A slot of a window that is empty, so that something in flight may still land; or a committed one above the
/// marks, so that nobody publishes it.
pub fn drained(facts: &Facts, id: &IncarnationId, marks: &[Seq]) -> Verdict {
    let Some(record) = facts.incarnations.get(id) else { return Err(format!("{id} was drained, but never born")) };
    for (at, (lane, settled)) in id.lanes(&record.settled).enumerate() {
        let open = (settled.0..settled.0 + record.window).map(|seq| lane.slot(Seq(seq)));
        if let Some(slot) = open.into_iter().find(|slot| !facts.slots.contains_key(slot)) {
            return Err(format!("{id} is drained, but slot {slot} of its window is empty: a late commit can land"));
        }
        let mark = marks.get(at).copied().unwrap_or_default();
        let above = facts.slots.range(lane.slot(mark)..lane.slot(Seq(u64::MAX)));
        let committed = above.filter(|(_, occupant)| matches!(occupant, crate::sim::facts::Occupant::Committed(_)));
        if let Some((slot, _)) = committed.into_iter().next() {
            return Err(format!("{id} is drained with the published mark {mark}, but {slot} above it is committed"));
        }
    }
    Ok(())
}
