//! The faults of one record. Pure functions.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::rebuild::{RefdbIdentity, RefdbState};
use lockstep_proto::{NodeId, ProjectKey, RefKey, RefName, RefValue, Seq, TxnId};

use super::{DAMAGED, Fault};
use crate::base::ref_names::{self, RefClass};
use crate::seams::refdb::{Document, DocumentRecord, IncarnationRecord, IncarnationState, RefItem, SlotState};

/// Whether the text of a refusal speaks of the form of an item. Denied calls and missing tables speak of the table.
pub(super) fn is_of_an_item(why: &str) -> bool {
    why.starts_with("item ")
}

/// A ref with its project, for people.
pub(super) fn place(project: &ProjectKey, key: &RefKey) -> String {
    format!("{project} {key}")
}

pub(super) fn of_document(which: Document, record: &DocumentRecord) -> Option<Fault> {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&record.body) {
        return Some((format!("it is no JSON: {error}"), DAMAGED));
    }
    if which != Document::Identity {
        return None;
    }
    match serde_json::from_str::<RefdbIdentity>(&record.body) {
        Err(error) => {
            let remedy = "run the check of the release that wrote it; if that fails too, restore the tables";
            Some((format!("this release cannot read it: {error}"), remedy))
        }
        Ok(identity) => match identity.state {
            RefdbState::Ready => None,
            RefdbState::Building => {
                Some(("it is still being built".to_owned(), "end the rebuild or the move: repeat its command"))
            }
            RefdbState::Moving => {
                Some(("it moves, and takes no commits".to_owned(), "repeat the command of the move, or give --abort"))
            }
            RefdbState::Moved => {
                let to = identity.moves.map(|moves| moves.to).unwrap_or_default();
                Some((format!("it has moved to {to}"), "set refdb.prefix to the new tables, and check those"))
            }
        },
    }
}

pub(super) fn of_incarnation(record: &IncarnationRecord, highest: u64) -> Vec<Fault> {
    let mut faults = Vec::new();
    if record.id.number.0 > highest {
        faults.push((format!("its number is above {highest}, the highest of its node"), DAMAGED));
    }
    if record.settled.len() != record.published.len() || record.settled.is_empty() {
        faults.push(("its lists of marks do not have one entry per lane".to_owned(), DAMAGED));
    }
    let may_commit = record.may_commit();
    for (lane, (settled, published)) in record.id.lanes(record.settled.iter().zip(&record.published)) {
        let end = if may_commit { settled.0 } else { settled.0.saturating_add(record.window) };
        if published.0 > end {
            faults.push((format!("lane {lane} is published up to {}, beyond {end}", published.0), DAMAGED));
        }
        if record.state == IncarnationState::Drained && published.0 < settled.0 {
            faults.push((format!("it is drained, and lane {lane} is not published to its end"), DAMAGED));
        }
    }
    faults
}

/// Two open incarnations of one node.
pub(super) fn of_incarnations(records: &[IncarnationRecord]) -> Vec<Fault> {
    let mut open: BTreeMap<&NodeId, usize> = BTreeMap::new();
    for record in records.iter().filter(|one| one.state == IncarnationState::Open) {
        *open.entry(&record.id.node).or_default() += 1;
    }
    let twice = open.into_iter().filter(|(_, count)| *count > 1);
    let fault = |(node, count): (&NodeId, usize)| {
        (format!("node {node} has {count} open incarnations"), "restart the node: its start fences all earlier ones")
    };
    twice.map(fault).collect()
}

/// Per lane, the slots that are occupied for certain and not collected: from the published mark to the settled one, or
/// to the end of a poisoned window.
pub(super) fn unpublished(record: &IncarnationRecord) -> Vec<(Seq, Seq)> {
    let ends = if record.may_commit() { record.settled.clone() } else { record.ends() };
    match record.state {
        IncarnationState::Drained => Vec::new(),
        _ => record.published.iter().copied().zip(ends).collect(),
    }
}

/// The faults of a ref, apart from its lock and from the names above it.
pub(super) fn of_ref(item: &RefItem) -> Vec<Fault> {
    let mut faults = Vec::new();
    let fits = match (&item.key, &item.value) {
        (_, RefValue::Absent) | (RefKey::Ref(_), RefValue::Oid(_)) => true,
        (RefKey::Head, RefValue::Symref(_)) | (RefKey::State, RefValue::State(_)) => true,
        (RefKey::Ref(_) | RefKey::Head | RefKey::State, _) => false,
    };
    if !fits {
        faults.push((format!("its value {} is not of its kind", item.value), DAMAGED));
    }
    if item.directory && item.loosened.is_none() && !item.value.is_absent() {
        faults.push(("it is live, and marked as a directory".to_owned(), DAMAGED));
    }
    if let Some(name) = item.key.as_ref_name()
        && !item.value.is_absent()
    {
        match ref_names::classify(name) {
            Ok(RefClass::Local) => faults.push(("refs of this name are not replicated".to_owned(), DAMAGED)),
            Err(why) => faults.push((format!("no site takes this name: {why}"), DAMAGED)),
            Ok(RefClass::Structured | RefClass::Mutable) => {}
        }
    }
    faults
}

/// The names above a live ref that are not among these directories, although they must be marked.
pub(super) fn unmarked(item: &RefItem, directories: &BTreeSet<RefName>) -> Vec<RefName> {
    let mutable = |name: &&RefName| !item.value.is_absent() && ref_names::classify(name) == Ok(RefClass::Mutable);
    let Some(name) = item.key.as_ref_name().filter(mutable) else { return Vec::new() };
    ref_names::directories(name).into_iter().filter(|name| !directories.contains(name)).collect()
}

/// The fault of a lock that stays. A lock whose owner may still commit is no fault.
pub(super) fn of_lock(lock: &TxnId, slot: &SlotState, owner: Option<&IncarnationRecord>) -> Option<Fault> {
    const READ: &str = "a node that reads the ref ends this: `lockstep verify` for the project";
    match slot {
        SlotState::Committed(txn, _) if txn == lock => {
            Some((format!("it is still locked by {lock}, which is committed"), READ))
        }
        SlotState::Committed(..) | SlotState::Poisoned => {
            Some((format!("it is still locked by {lock}, which can never be committed"), READ))
        }
        SlotState::Empty if owner.is_some_and(IncarnationRecord::may_commit) => None,
        SlotState::Empty => {
            Some((format!("it is locked by {lock}, whose slot is empty and whose incarnation has ended"), DAMAGED))
        }
    }
}
