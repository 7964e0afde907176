//! What became of a transaction whose lock was met.

use lockstep_proto::{Slot, Transaction, TxnId};

use super::StagedRefDb;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::{IncarnationRecord, IncarnationState, RefDbError, SlotState};

/// What the lock of a transaction means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It may be committed yet: its slot is empty.
    Open,
    /// It is committed: the ref is what it says.
    Committed(Box<Transaction>),
    /// It was not committed and never will be: the ref is what its item says.
    Void,
}

impl StagedRefDb {
    /// Asks the slot.
    ///
    /// # Errors
    /// The refdb's own: nothing is known.
    pub async fn fate(&self, txn: &TxnId) -> Result<Fate, RefDbError> {
        match self.occupant(txn).await? {
            Some(fate) => Ok(fate),
            None if self.bugs.has(InjectedBug::OpenLockTaken) => Ok(Fate::Void),
            // It was occupied and is collected: read after that was seen, so not before it was occupied. Had it been this
            // one's, no ref would carry its lock.
            None if self.is_over(&txn.slot).await? => Ok(self.occupant(txn).await?.unwrap_or(Fate::Void)),
            None => Ok(Fate::Open),
        }
    }

    /// The fate that an occupied slot tells; none of an empty one.
    async fn occupant(&self, txn: &TxnId) -> Result<Option<Fate>, RefDbError> {
        Ok(match self.inner.slot(&txn.slot).await? {
            SlotState::Empty => None,
            SlotState::Committed(id, bytes) if id == *txn => {
                let decoded = Transaction::decode(&bytes);
                let broken = |error| RefDbError::Broken(format!("slot {} cannot be read: {error}", txn.slot));
                Some(Fate::Committed(Box::new(decoded.map_err(broken)?)))
            }
            SlotState::Committed(..) | SlotState::Poisoned => Some(Fate::Void),
        })
    }

    /// Whether a slot was occupied once: it is below its lane's settled mark, or of an incarnation that is drained. One that is
    /// forgotten was drained before.
    async fn is_over(&self, slot: &Slot) -> Result<bool, RefDbError> {
        for site in self.inner.sites().await? {
            let all = self.inner.incarnations(&site.site).await?;
            if let Some(incarnation) = all.iter().find(|one| one.id == slot.lane.incarnation) {
                return Ok(is_below(slot, incarnation));
            }
        }
        Ok(true)
    }
}

fn is_below(slot: &Slot, incarnation: &IncarnationRecord) -> bool {
    if incarnation.state == IncarnationState::Drained {
        return true;
    }
    let settled = incarnation.settled.get(usize::from(slot.lane.lane.0));
    settled.is_some_and(|settled| slot.seq < *settled)
}
