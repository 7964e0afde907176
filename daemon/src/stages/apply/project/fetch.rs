//! When a writer fetches the missing parts of its parked transactions, and when it takes a state transfer: with growing
//! pauses, so that a transaction that cannot be applied costs little.
//!
//! A parked transaction holds back the low-water mark of its lane, and so the whole lane, only until it counts as a
//! debt. If its project is owed then, it is left to that debt and its parked record goes. If it builds on bad content,
//! the node's record names it as needed and it stays parked; without room for its name, its project becomes owed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lockstep_proto::debt::DebtKind;
use lockstep_proto::{ProjectKey, RefKey, Transaction, TxnId};
use tokio::time::Instant;

use super::Writer;
use super::holds_mark::closes;
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
    /// refs. Events of the same refs lie on the same chains, so these are fetched once.
    pub(super) async fn fetch_what_is_missing(&mut self) {
        let now = Instant::now();
        let waiting: Vec<TxnId> =
            self.parked.iter().filter(|(_, held)| held.next <= now).map(|(id, _)| id.clone()).collect();
        let mut ends: BTreeMap<(ProjectKey, Vec<RefKey>), Result<(), CatchUpError>> = BTreeMap::new();
        for id in waiting {
            let Some(held) = self.parked.get_mut(&id) else { continue };
            held.tries = held.tries.saturating_add(1);
            let transaction = Arc::clone(&held.event.transaction);
            let keys: Vec<RefKey> = transaction.commands.iter().map(|command| command.key.clone()).collect();
            let chains = (transaction.project.clone(), keys);
            let caught = match ends.get(&chains) {
                Some(end) => end.clone(),
                None => self.catch_up(&chains).await,
            };
            ends.insert(chains, caught.clone());
            self.fetched(&id, caught).await;
        }
    }

    async fn catch_up(&self, (project, keys): &(ProjectKey, Vec<RefKey>)) -> Result<(), CatchUpError> {
        self.shared.catch_up.project(&self.name).await?;
        self.shared.catch_up.keys(project, keys).await
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
                if self.leave_to_project(id, why.kind()) {
                    return;
                }
                self.shared.units.observer.failed("apply", &format!("{id} stays parked: {why}"));
                self.wait_longer(id, &why.failure());
                let is_a_debt = self.parked.tries(id) >= IS_A_DEBT;
                if is_a_debt && why.kind() == DebtKind::BadContent && !self.shared.debts.is_named(id) {
                    self.shared.debts.failed(&self.name, why.failure(), None);
                    self.leave_to_project(id, why.kind());
                }
            }
        }
    }

    /// Leaves a parked transaction to the debt of its project, if it is owed and the transaction counts as a debt too.
    fn leave_to_project(&mut self, id: &TxnId, kind: DebtKind) -> bool {
        let Some(held) = self.parked.get_mut(id).filter(|held| held.tries >= IS_A_DEBT) else { return false };
        let transaction = Arc::clone(&held.event.transaction);
        if self.shared.debts.is_named(id)
            || closes(&transaction)
            || !self.shared.debts.takes_over(&self.name, kind.retry_helps())
        {
            return false;
        }
        let held = self.parked.retry(id);
        self.pass(&transaction);
        self.unpark(id);
        self.shared.debts.arrived(id);
        held.into_iter().for_each(|mut held| held.event.done());
        true
    }

    /// Lets the low-water mark pass a transaction that the node's record names. It must not hold the mark back for
    /// every project of the lane: it is held durably, and its slot is not collected.
    pub(super) fn pass_named(&self, transaction: &Transaction) {
        if self.shared.debts.is_named(&transaction.id) && !closes(transaction) {
            self.pass(transaction);
        }
    }

    /// Lets the low-water mark pass a transaction that is not applied here.
    fn pass(&self, transaction: &Transaction) {
        match transaction.is_whole() {
            true => self.shared.units.requests.note_missed(transaction),
            // An outline does not tell its request.
            false => self.shared.units.requests.skipped_some(),
        }
        self.slot_is_done(transaction);
        self.shared.durability.want();
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
        let Some((held, next)) = self.parked.get_mut(id).zip(next) else { return };
        held.next = next;
        let transaction = Arc::clone(&held.event.transaction);
        self.pass_named(&transaction);
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

    /// Ends the debt of a transaction that is applied now. If the node's record names it, only once that is durable.
    pub(super) fn end_debt(&self, id: &TxnId) {
        let debts = Arc::clone(&self.shared.debts);
        if !debts.is_held(id) && !debts.is_named(id) {
            return debts.arrived(id);
        }
        let (durability, id) = (self.shared.durability.clone(), id.clone());
        self.shared.tasks.spawn("end-debt", async move {
            durability.wait_durable().await;
            debts.release(&id);
            debts.arrived(&id);
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
