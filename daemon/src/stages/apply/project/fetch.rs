//! When a writer fetches the missing parts of its parked transactions, and when it takes a state transfer: with growing
//! pauses, so that a transaction that cannot be applied costs little.

use std::collections::VecDeque;
use std::sync::Arc;

use lockstep_proto::debt::DebtKind;
use lockstep_proto::{RefKey, TxnId};
use tokio::time::Instant;

use super::Writer;
use crate::stages::apply::event::Event;
use crate::stages::apply::reason::{Doubt, ParkReason};
use crate::stages::ports::CatchUpError;
use crate::state::debts::Failure;

/// The number of failed fetches from which on a parked transaction counts as a debt.
const IS_A_DEBT: u32 = 3;

impl Writer {
    /// When the missing parts of an event that is parked now are fetched.
    pub(super) fn next_fetch(&self, event: &Event, reason: &ParkReason, since_ms: u64) -> Instant {
        match self.parked.tries(&event.transaction.id) {
            0 => Instant::now() + self.limits.patience,
            tries => self.pause(event, &failure_of(reason), since_ms, tries),
        }
    }

    /// When an event that was fetched in vain `tries` times is fetched next.
    fn pause(&self, event: &Event, failure: &Failure, since_ms: u64, tries: u32) -> Instant {
        let debts = &self.shared.debts;
        match tries {
            0..IS_A_DEBT => Instant::now() + debts.pace().pause(self.shared.entropy.as_ref(), failure.kind, tries),
            _ => debts.waits(&event.transaction, failure.clone(), since_ms, tries),
        }
    }

    /// Fetches the missing parts of each event whose time has come: the project's state, then the chains of the event's
    /// refs.
    pub(super) async fn fetch_what_is_missing(&mut self) {
        let now = Instant::now();
        let waiting: Vec<TxnId> =
            self.parked.iter().filter(|(_, held)| held.next <= now).map(|(id, _)| id.clone()).collect();
        for id in waiting {
            let Some(held) = self.parked.get_mut(&id) else { continue };
            held.tries = held.tries.saturating_add(1);
            let transaction = Arc::clone(&held.event.transaction);
            let keys: Vec<RefKey> = transaction.commands.iter().map(|command| command.key.clone()).collect();
            let caught = match self.shared.catch_up.project(&self.name).await {
                Ok(()) => self.shared.catch_up.keys(&transaction.project, &keys).await,
                error => error,
            };
            self.fetched(&id, caught).await;
        }
    }

    async fn fetched(&mut self, id: &TxnId, caught: Result<(), CatchUpError>) {
        match caught {
            // A stub is skipped if the catch-up brought its values. Otherwise it keeps waiting.
            Ok(()) if self.parked.get_mut(id).is_some_and(|held| held.is_stub) => {
                self.wait_longer(id, &failure_of(&ParkReason::Repeated));
                self.take(VecDeque::new()).await;
            }
            Ok(()) => {
                if let Some(held) = self.parked.retry(id) {
                    self.take(VecDeque::from([held.event])).await;
                }
            }
            // The catch-up holds this very transaction as bad, so its record waits for nothing any more.
            Err(_) if self.shared.debts.is_held(id) => self.met_held(id).await,
            Err(why) => {
                self.shared.units.observer.failed("apply", &format!("{id} stays parked: {why}"));
                self.wait_longer(id, &why.failure());
            }
        }
    }

    /// Compares the parked record of a held transaction with the journal, and lets it go if it is no other one.
    async fn met_held(&mut self, id: &TxnId) {
        match self.parked.retry(id) {
            // A stub no longer has its bytes, so they cannot be compared.
            Some(held) if held.is_stub => self.stays_held(held.event),
            Some(held) => self.doubt(held.event, Doubt::Parked(held.reason)).await,
            None => {}
        }
    }

    fn wait_longer(&mut self, id: &TxnId, failure: &Failure) {
        let held = self.parked.iter().find(|(one, _)| *one == id).map(|(_, held)| held);
        let next = held.map(|held| self.pause(&held.event, failure, held.since_ms, held.tries));
        if let (Some(held), Some(next)) = (self.parked.get_mut(id), next) {
            held.next = next;
        }
    }

    /// Whether a state transfer may begin now. While the project is owed, the repayer brings it up to date.
    pub(super) fn may_transfer(&self) -> bool {
        self.transfers.1.is_none_or(|next| next <= Instant::now()) && !self.shared.debts.is_owed(&self.name)
    }

    /// Notes a failed state transfer: the project is degraded, and the repayer tries again.
    pub(super) fn transfer_failed(&mut self, why: &CatchUpError) {
        let failures = self.transfers.0.saturating_add(1);
        let pause = self.shared.debts.pace().pause(self.shared.entropy.as_ref(), why.kind(), failures);
        self.transfers = (failures, Some(Instant::now() + pause));
        self.shared.debts.failed(&self.name, why.failure(), None);
    }

    /// Ends the quarantine of a transaction that is applied now, if it is held, once that is durable.
    pub(super) fn end_quarantine(&self, id: &TxnId) {
        if !self.shared.debts.is_held(id) {
            return;
        }
        let (debts, durability, id) = (Arc::clone(&self.shared.debts), self.shared.durability.clone(), id.clone());
        self.shared.tasks.spawn("end-quarantine", async move {
            durability.wait_durable().await;
            debts.release(&id);
        });
    }
}

/// The failure behind a transaction that was fetched, and is parked again.
fn failure_of(reason: &ParkReason) -> Failure {
    let kind = match reason {
        ParkReason::Predecessors(_) | ParkReason::Contradiction(_) => DebtKind::MissingPredecessor,
        ParkReason::Objects(_) => DebtKind::MissingObjects,
        ParkReason::DiskDiffers => DebtKind::Disk,
        ParkReason::Journal(_) => DebtKind::Unreachable,
        ParkReason::Repeated | ParkReason::Damaged | ParkReason::Project(_) | ParkReason::Failed(_) => DebtKind::Other,
    };
    Failure { kind, why: reason.to_string(), txn: None, refs: Vec::new() }
}
