//! The fate of a transaction whose lock was met.

use lockstep_proto::{Slot, Transaction, TxnId};

use super::StagedRefs;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::blob::long_form::LongFormError;
use crate::seams::refdb::{IncarnationRecord, IncarnationState, RefDbError, SlotState};

/// The meaning of a transaction's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The transaction may still be committed: its slot is empty.
    Open,
    /// The transaction is committed, and decides the value of the ref.
    Committed(Box<Transaction>),
    /// The transaction was not committed and never will be. The item of the ref has the value.
    Void,
}

impl StagedRefs {
    /// Finds the fate of a transaction in its slot.
    ///
    /// # Errors
    /// An error of the refdb. The fate is then unknown.
    pub async fn fate(&self, txn: &TxnId) -> Result<Fate, RefDbError> {
        match self.occupant(txn).await? {
            Some(fate) => Ok(fate),
            None if self.bugs.has(InjectedBug::OpenLockTaken) => Ok(Fate::Void),
            // The slot was occupied and is collected. It is read again now that this is known, because the first read
            // may have come before it was occupied. If it had held this transaction, no ref would carry its lock any
            // more.
            None if self.is_over(&txn.slot).await? => Ok(self.occupant(txn).await?.unwrap_or(Fate::Void)),
            None => Ok(Fate::Open),
        }
    }

    /// The fate that an occupied slot shows. None if the slot is empty.
    async fn occupant(&self, txn: &TxnId) -> Result<Option<Fate>, RefDbError> {
        Ok(match self.inner.journal.slot(&txn.slot).await? {
            SlotState::Empty => None,
            SlotState::Committed(id, bytes) if id == *txn => {
                let read = self.long_forms.read(&bytes).await;
                Some(Fate::Committed(Box::new(read.map_err(|error| unreadable(txn, &error))?)))
            }
            SlotState::Committed(..) | SlotState::Poisoned => Some(Fate::Void),
        })
    }

    /// Whether a slot was ever occupied: it is below its lane's settled mark, or its incarnation is poisoned or
    /// drained. An incarnation that is forgotten was drained before.
    async fn is_over(&self, slot: &Slot) -> Result<bool, RefDbError> {
        for site in self.inner.sites.sites().await? {
            let all = self.inner.incarnations.incarnations(&site.site).await?;
            if let Some(incarnation) = all.iter().find(|one| one.id == slot.lane.incarnation) {
                return Ok(is_below(slot, incarnation));
            }
        }
        Ok(true)
    }
}

/// The fate of a transaction that cannot be read is unknown.
fn unreadable(txn: &TxnId, error: &LongFormError) -> RefDbError {
    let why = format!("slot {} cannot be read: {error}", txn.slot);
    if error.is_bad() || error.is_absent() { RefDbError::Broken(why) } else { RefDbError::NotNow(why) }
}

fn is_below(slot: &Slot, incarnation: &IncarnationRecord) -> bool {
    if matches!(incarnation.state, IncarnationState::Poisoned | IncarnationState::Drained) {
        return true;
    }
    let settled = incarnation.settled.get(slot.lane.lane.index());
    settled.is_some_and(|settled| slot.seq < *settled)
}
