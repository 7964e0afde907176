//! Which debts the node's record names. Collectors keep the journal entries of these, and of no others.
//!
//! A low-water mark passes a transaction that is not applied only if the record names it, or its project. So a debt
//! that is named stays named until it ends, also over a restart. The room of a debt that ends goes to the next one.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::debt::DebtKind;
use lockstep_proto::{LaneId, ProjectName, Seq, Transaction, TxnId};
use tokio::time::Instant;

use super::{Debts, Entry, HeldHere, Inner, here, short};
use crate::seams::refdb::{MOST_NEEDS, Needs};
use crate::seams::volume::{Debt, Held, NodeStore, StoreError, parked_pages};

impl Inner {
    fn names_of_held(&self) -> usize {
        let waiting = self.waiting.values().filter(|entry| entry.debt.named);
        self.held.values().filter(|held| held.named).count() + waiting.count()
    }

    /// Whether the record has room for one more transaction.
    pub(super) fn has_room_for_held(&self) -> bool {
        self.names_of_held() < MOST_NEEDS
    }

    /// Whether the record has room for one more project.
    pub(super) fn has_room_for_owed(&self) -> bool {
        self.owed.values().filter(|entry| entry.debt.named).count() < MOST_NEEDS
    }

    /// Names held transactions, as far as there is room.
    pub(super) fn name_held(&mut self) {
        let room = MOST_NEEDS.saturating_sub(self.names_of_held());
        self.held.values_mut().filter(|held| !held.named).take(room).for_each(|held| held.named = true);
    }

    /// Names one more owed project, if there is room, and returns its debt.
    pub(super) fn name_owed(&mut self) -> Option<(ProjectName, Debt)> {
        if !self.has_room_for_owed() {
            return None;
        }
        let (name, entry) = self.owed.iter_mut().find(|(_, entry)| !entry.debt.named)?;
        entry.debt.named = true;
        Some((name.clone(), entry.debt.clone()))
    }
}

impl Debts {
    /// Whether the node's record names a transaction, so that its low-water mark may pass it. Too many held
    /// transactions hold the mark back instead.
    #[must_use]
    pub fn is_named(&self, txn: &TxnId) -> bool {
        let inner = self.inner();
        let waits = inner.waiting.get(txn).is_some_and(|entry| entry.debt.named);
        waits || inner.held.get(txn).is_some_and(|held| held.named)
    }

    /// Whether the node's record has room for every owed project.
    #[must_use]
    pub fn all_are_named(&self) -> bool {
        self.inner().owed.values().all(|entry| entry.debt.named)
    }

    /// The journal entries that this node needs although its marks have passed them, for its record.
    ///
    /// Read the marks first: an entry is noted here before a mark passes it.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let inner = self.inner();
        let held = inner.held.iter().filter(|(_, held)| held.named);
        let held = held.map(|(txn, held)| (txn.clone(), held.name.clone()));
        let waiting = inner.waiting.iter().filter(|(_, entry)| entry.debt.named);
        let waiting = waiting.map(|(txn, entry)| (txn.clone(), entry.name.clone()));
        let owed = inner.owed.iter().filter(|(_, entry)| entry.debt.named);
        let owed: BTreeSet<ProjectName> = owed.map(|(name, _)| name.clone()).collect();
        Needs { held: held.chain(waiting).collect(), owed }
    }
}

/// Loads the debts of a node's store, each due at `next`. Names those first that were named before: held and parked
/// transactions that the low-water marks have passed, and owed projects whose records say so. The project of a parked
/// one that finds no room is owed.
pub(super) fn load(store: &dyn NodeStore, next: Instant) -> Result<Inner, StoreError> {
    let marks = store.low_water()?;
    let held = store.quarantined()?;
    let held = held.values().filter(|held| held.is_committed()).filter_map(read);
    let mut inner = Inner { held: held.collect(), ..Inner::default() };
    let passed = inner.held.iter_mut().filter(|(txn, _)| is_passed(&marks, txn));
    passed.take(MOST_NEEDS).for_each(|(_, held)| held.named = true);
    let mut without_room: BTreeMap<ProjectName, Entry> = BTreeMap::new();
    for page in parked_pages(store) {
        for (id, held) in &page? {
            let Some((txn, entry)) = waits(id, held, next) else { continue };
            match is_passed(&marks, &txn) && !inner.held.contains_key(&txn) {
                false => {}
                true if inner.has_room_for_held() => _ = inner.waiting.insert(txn, entry),
                true => _ = without_room.insert(entry.name.clone(), entry),
            }
        }
    }
    inner.name_held();
    let entry = |(name, debt): (ProjectName, Debt)| (name.clone(), Entry::new(debt, name.to_string(), name, next));
    inner.owed = store.debts()?.into_iter().map(entry).collect();
    for (project, mut entry) in without_room {
        (entry.debt.named, entry.project) = (false, project.to_string());
        inner.owed.entry(project).or_insert(entry);
    }
    // The records of an earlier release do not say it.
    while inner.name_owed().is_some() {}
    Ok(inner)
}

fn is_passed(marks: &BTreeMap<LaneId, Seq>, txn: &TxnId) -> bool {
    marks.get(&txn.slot.lane).is_some_and(|mark| txn.slot.seq < *mark)
}

/// A record of the quarantine as a held transaction. One that travels as a locator shows its refs once it was tried
/// again. None if its bytes cannot be read any more.
fn read(held: &Held) -> Option<(TxnId, HeldHere)> {
    let transaction = Transaction::outlined(&held.bytes).ok()?;
    let entry = HeldHere { why: short(&held.reason), ..here(&transaction, held.since_ms) };
    Some((transaction.id, entry))
}

/// A parked record as a named transaction that waits behind a held one.
fn waits(id: &str, held: &Held, next: Instant) -> Option<(TxnId, Entry)> {
    let txn: TxnId = id.parse().ok()?;
    let name = held.project.rsplit_once('#').map_or(held.project.as_str(), |(name, _)| name).parse().ok()?;
    let debt = Debt {
        kind: DebtKind::BadContent,
        why: short(&held.reason),
        txn: Some(txn.clone()),
        refs: Vec::new(),
        since_ms: held.since_ms,
        tries: 0,
        closed: false,
        named: true,
    };
    Some((txn, Entry::new(debt, held.project.clone(), name, next)))
}
