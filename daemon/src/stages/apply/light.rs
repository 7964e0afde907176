//! Light transactions of a catch-up, for whose packs the byte budget has no room: their objects are stored one by one.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep_proto::{Transaction, TxnId};

use super::atomic_apply::UnitError;
use super::catch_up::{Catcher, Stop};
use super::set_aside::SetAside;
use crate::stages::ports::CatchUpError;

impl Catcher {
    /// Stores the objects of the light transactions of a run. Their packs may build on each other in any order, so one
    /// that lacks objects is tried again after the others. Objects that are still missing then show when the run is
    /// applied.
    pub(super) async fn store_light(
        &self,
        run: &[Arc<Transaction>],
        light: &BTreeSet<TxnId>,
        set_aside: &mut SetAside,
    ) -> Result<(), UnitError> {
        let mut waiting: Vec<&TxnId> = run.iter().map(|one| &one.id).filter(|id| light.contains(*id)).collect();
        loop {
            let before = waiting.len();
            let mut missed = Vec::new();
            for id in waiting {
                let transaction = match self.load(id).await {
                    Ok(transaction) => Arc::new(transaction),
                    Err(stop) => return Err(unread(stop)),
                };
                match self.units.store_objects(&transaction).await {
                    Ok(()) => {}
                    Err(UnitError::Missing(_)) => missed.push(id),
                    Err(UnitError::Bad(why)) => self.set_bad_aside(&transaction, why, set_aside).await?,
                    Err(error) => return Err(error),
                }
            }
            if missed.is_empty() || missed.len() == before {
                return Ok(());
            }
            waiting = missed;
        }
    }
}

/// The error for a light transaction that could be read a moment before, and cannot be read now.
fn unread(stop: Stop) -> UnitError {
    let why = match stop {
        Stop::Failed(error) => error,
        Stop::Missing(oids) => CatchUpError::Missing(oids),
        Stop::Gone => return UnitError::Missing(Vec::new()),
    };
    UnitError::Unread(Box::new(why))
}
