//! The slots of this node's own transactions beside which nothing else is stored: neither a pack nor a long form in the
//! blob store, and no ref lock. The collector removes such a slot without a look at it. A look would read the whole
//! transaction with its pack once more.
//!
//! A committed slot keeps its content until it is collected, so an entry is never wrong. A missing entry costs one read
//! of the slot: after a restart, beyond the bound, and for a transaction whose answer was lost.

use std::collections::BTreeMap;

use lockstep_proto::{Locator, Pack, ProjectName, Slot, Transaction, TxnId};
use parking_lot::Mutex;

/// The most slots that are remembered, in some 5 MB.
const MOST: usize = 20_000;

/// The plain slots of one node.
#[derive(Debug)]
pub struct PlainSlots {
    most: usize,
    /// The attempt and the project of the transaction in each slot.
    slots: Mutex<BTreeMap<Slot, (u64, ProjectName)>>,
}

impl Default for PlainSlots {
    fn default() -> Self {
        Self::keeping(MOST)
    }
}

impl PlainSlots {
    fn keeping(most: usize) -> Self {
        Self { most, slots: Mutex::default() }
    }

    /// Notes a committed transaction and the bytes of its slot, if nothing else is stored for it. A transaction that is
    /// committed `in_steps` may have locks. Beyond the bound, the lowest slot is forgotten.
    pub fn note(&self, transaction: &Transaction, slot_bytes: &[u8], in_steps: bool) {
        let has_blob = matches!(transaction.pack, Pack::Blob { .. });
        if in_steps || has_blob || !matches!(Locator::decode(slot_bytes), Ok(None)) {
            return;
        }
        let entry = (transaction.id.attempt, transaction.project.name.clone());
        let mut slots = self.slots.lock();
        slots.insert(transaction.id.slot.clone(), entry);
        if slots.len() > self.most {
            let _ = slots.pop_first();
        }
    }

    /// The transaction in a plain slot, and its project. None if this node does not know the slot as a plain one.
    #[must_use]
    pub fn find(&self, slot: &Slot) -> Option<(TxnId, ProjectName)> {
        let (attempt, project) = self.slots.lock().get(slot)?.clone();
        Some((TxnId { slot: slot.clone(), attempt }, project))
    }

    /// Forgets slots that were collected.
    pub fn forget(&self, collected: &[Slot]) {
        let mut slots = self.slots.lock();
        for slot in collected {
            slots.remove(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::transaction_builder::TransactionBuilder;

    fn transaction(seq: u64) -> Transaction {
        TransactionBuilder::in_slot(seq).creates("a").build()
    }

    #[test]
    fn a_slot_with_something_beside_it_is_not_plain() {
        let slots = PlainSlots::default();
        let (inline, staged) = (transaction(1), transaction(2));
        slots.note(&inline, &inline.encode(), false);
        slots.note(&staged, &staged.encode(), true);
        let blob = Pack::Blob { key: "packs/3".to_owned(), bytes: 1, sha256: [0; 32] };
        let with_blob = Transaction { pack: blob, ..transaction(3) };
        slots.note(&with_blob, &with_blob.encode(), false);
        let long = transaction(4);
        slots.note(&long, &Locator::of(&long, 7, [0; 32]).encode(), false);
        slots.note(&transaction(5), b"no transaction", false);
        let found = |seq: u64| slots.find(&transaction(seq).id.slot);
        assert_eq!(found(1), Some((inline.id.clone(), "p".parse().unwrap())));
        assert_eq!([2, 3, 4, 5].map(found), [None, None, None, None]);
        slots.forget(std::slice::from_ref(&inline.id.slot));
        assert_eq!(found(1), None);
    }

    #[test]
    fn the_memory_of_plain_slots_is_bounded() {
        let slots = PlainSlots::keeping(2);
        for seq in 1..=3 {
            let one = transaction(seq);
            slots.note(&one, &one.encode(), false);
        }
        let known = [1, 2, 3].map(|seq| slots.find(&transaction(seq).id.slot).is_some());
        assert_eq!(known, [false, true, true]);
    }
}
