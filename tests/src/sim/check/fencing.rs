//! Invariant 8: a fenced incarnation commits nothing. Where one site alone is active, no two sites ever commit. An
//! incarnation is opened only where the site's role allows it, and drained only when nothing can land in its windows. A
//! site that was removed from the list of sites commits nothing.

use lockstep::seams::refdb::{IncarnationRecord, Role};
use lockstep_proto::{IncarnationId, Seq, Transaction};

use super::Verdict;
use crate::sim::facts::Facts;

/// Judges an incarnation that the refdb has just opened.
///
/// # Errors
/// The site is not active, or has another epoch, or the incarnation was opened before. Or one site alone may be active,
/// and another one may still commit.
pub fn open_incarnation(facts: &Facts, record: &IncarnationRecord) -> Verdict {
    if facts.incarnations.contains_key(&record.id) {
        return Err(format!("{} was opened twice", record.id));
    }
    let other = facts.incarnations.values().find(|other| other.site != record.site && other.may_commit());
    if let Some(other) = other.filter(|_| facts.one_active) {
        return Err(format!("{} was opened, but {} of {} may still commit", record.id, other.id, other.site));
    }
    match facts.sites.get(&record.site) {
        Some(site) if site.role == Role::Active && site.epoch == record.epoch && !site.removed => Ok(()),
        site => Err(format!("{} was opened with epoch {} while its site is {site:?}", record.id, record.epoch)),
    }
}

/// Judges a commit.
///
/// # Errors
/// Its site was removed from the list of sites.
pub fn commit(facts: &Facts, transaction: &Transaction) -> Verdict {
    match facts.sites.get(&transaction.site) {
        Some(site) if site.removed => Err(format!("{} was committed by a removed site: {site:?}", transaction.id)),
        _ => Ok(()),
    }
}

/// Judges the end of a poisoning.
///
/// # Errors
/// A slot of a window is empty, so a transaction in transit may still land in it.
pub fn poisoned(facts: &Facts, id: &IncarnationId) -> Verdict {
    let Some(record) = facts.incarnations.get(id) else { return Err(format!("{id} was poisoned, but never opened")) };
    for (lane, settled) in id.lanes(&record.settled) {
        let open = (settled.0..settled.0 + record.window).map(|seq| lane.slot(Seq(seq)));
        if let Some(slot) = open.into_iter().find(|slot| !facts.slots.contains_key(slot)) {
            return Err(format!("{id} is poisoned, but slot {slot} of its window is empty: a late commit can land"));
        }
    }
    Ok(())
}

/// Judges the end of a draining. `marks` are the final published marks.
///
/// # Errors
/// A slot of a window is empty. Or a committed slot is above the marks, so it will not be published.
pub fn drained(facts: &Facts, id: &IncarnationId, marks: &[Seq]) -> Verdict {
    poisoned(facts, id)?;
    let Some(record) = facts.incarnations.get(id) else { return Ok(()) };
    for (at, (lane, _)) in id.lanes(&record.settled).enumerate() {
        let mark = marks.get(at).copied().unwrap_or_default();
        let above = facts.slots.range(lane.slot(mark)..lane.slot(Seq(u64::MAX)));
        let committed = above.filter(|(_, occupant)| matches!(occupant, crate::sim::facts::Occupant::Committed(_)));
        if let Some((slot, _)) = committed.into_iter().next() {
            return Err(format!("{id} is drained with the published mark {mark}, but {slot} above it is committed"));
        }
    }
    Ok(())
}
