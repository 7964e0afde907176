//! Holds the bad transactions of a catch-up in quarantine.

use std::sync::Arc;

use lockstep_proto::Transaction;

use super::atomic_apply::UnitError;
use super::catch_up::Catcher;
use super::reason::QuarantineReason;
use super::set_aside::SetAside;
use crate::seams::volume::Held;
use crate::stages::ports::{CatchUp, CatchUpError};

impl Catcher {
    /// Finds the transactions of a run whose content is bad, holds them, and returns the run without them and without
    /// everything that builds on them. Moves no ref.
    pub(super) async fn hold_bad(
        &self,
        run: Vec<Arc<Transaction>>,
        set_aside: &mut SetAside,
    ) -> Result<Vec<Arc<Transaction>>, UnitError> {
        for transaction in &run {
            match self.units.store_objects(transaction).await {
                Err(UnitError::Bad(why)) => self.set_bad_aside(transaction, why, set_aside).await?,
                // The packs of a run may build on each other in any order.
                Ok(()) | Err(UnitError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(set_aside.without_blocked(run))
    }

    /// Holds a bad transaction, and leaves it out of this catch-up.
    pub(super) async fn set_bad_aside(
        &self,
        transaction: &Transaction,
        why: String,
        set_aside: &mut SetAside,
    ) -> Result<(), UnitError> {
        self.hold(transaction, &why).await.map_err(|error| UnitError::Unread(Box::new(error)))?;
        set_aside.block(transaction);
        set_aside.first.get_or_insert((transaction.id.clone(), why));
        Ok(())
    }

    /// Puts a committed transaction into quarantine, with the bytes of its slot, unless it is there.
    async fn hold(&self, transaction: &Transaction, why: &str) -> Result<(), CatchUpError> {
        if self.debts.is_held(&transaction.id) {
            return Ok(());
        }
        let bytes = self.journal(&transaction.id).await?.unwrap_or_else(|| transaction.encode());
        let reason = QuarantineReason::Bad(why.to_owned());
        self.units.observer.quarantined(&transaction.id.to_string(), &reason);
        let held = Held {
            bytes,
            kind: reason.kind(),
            project: transaction.project.to_string(),
            reason: reason.to_string(),
            waits_for: Vec::new(),
            since_ms: self.clock.now_ms(),
        };
        self.durability.stage(|changes| changes.quarantine.push((transaction.id.to_string(), held)));
        self.debts.hold(transaction, why);
        Ok(())
    }
}
