//! Events that cannot be right, and events that wait beyond their bounds. Both are compared with the journal, the
//! record of all commits, which a stream only repeats.
//!
//! A stream record that differs from the journal is quarantined and holds nothing back: the transaction that was
//! committed under its id is taken from the journal. Only a bad transaction that was really committed holds back the
//! successors of its refs.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::{Transaction, TxnId};
use sha2::{Digest, Sha256};

use super::Writer;
use crate::seams::volume::Held;
use crate::stages::apply::compare::forked;
use crate::stages::apply::event::Event;
use crate::stages::apply::reason::{Doubt, ParkReason, QuarantineReason};
use crate::stages::ports::CatchUpError;

/// The journal's entry under the id of an event, compared with the event's bytes.
enum Journal {
    /// The same bytes were committed under this id.
    Same,
    /// These other bytes were committed under this id.
    Other(Bytes),
    /// Nothing was committed under this id.
    Nothing,
}

impl Writer {
    /// Compares the bytes of an event with the journal.
    async fn journal(&self, id: &TxnId, bytes: &Bytes) -> Result<Journal, CatchUpError> {
        Ok(match self.shared.catch_up.journal(id).await? {
            Some(committed) if committed == *bytes => Journal::Same,
            Some(committed) => Journal::Other(committed),
            None => Journal::Nothing,
        })
    }

    /// Compares an event that is to be skipped with the ref that has its version here. If another transaction gave that
    /// version, and the journal has this one too, both were committed: the refdb went back between them.
    pub(super) async fn compare(&self, event: &Event) {
        let forked = forked(&self.shared.units.versions, &event.transaction);
        if let Ok(Some(evidence)) = forked
            && let Ok(Journal::Same) = self.journal(&event.transaction.id, &event.bytes).await
        {
            self.shared.went_back.tell(evidence);
        }
    }

    /// Compares an event with the journal. If exactly this event was committed, it is quarantined if its content is
    /// bad, and parked if it contradicts a ref here, or an event planned before it. The other one was not committed
    /// then, and a catch-up or a state transfer brings the committed values. Any event that was not committed is
    /// quarantined, and the committed transaction takes its place, if there is one.
    pub(super) async fn doubt(&mut self, event: Event, doubt: Doubt) {
        match (self.journal(&event.transaction.id, &event.bytes).await, doubt) {
            (Ok(Journal::Same), Doubt::Bad(why)) => self.quarantine(event, QuarantineReason::Bad(why)),
            (Ok(Journal::Same), Doubt::Contradiction(why)) => {
                if let Ok(Some(evidence)) = forked(&self.shared.units.versions, &event.transaction) {
                    self.shared.went_back.tell(evidence);
                }
                self.park(event, ParkReason::Contradiction(why));
            }
            (Ok(Journal::Same), Doubt::Parked(_)) if self.shared.debts.is_held(&event.transaction.id) => {
                self.stays_held(event);
            }
            (Ok(Journal::Same), Doubt::Parked(reason)) => self.park(event, reason),
            (Ok(Journal::Other(other)), doubt) => self.replace(event, other, doubt),
            (Ok(Journal::Nothing), Doubt::Parked(reason)) if !event.transaction.is_whole() => {
                self.without_long_form(event, reason).await;
            }
            // It was compared with the journal when it was held. Its slot is gone, for instance by a node of an earlier
            // release, which does not know that somebody holds it.
            (Ok(Journal::Nothing), _) if self.shared.debts.is_held(&event.transaction.id) => self.stays_held(event),
            (Ok(Journal::Nothing), doubt) => self.set_aside(event, doubt),
            (Err(error), _) => self.park(event, ParkReason::Journal(error.to_string())),
        }
    }

    /// Takes a state transfer, because too much is parked, or for too long. Parked events that the new state covers are
    /// dropped. Any other parked event was committed since then, or never: it is compared with the journal.
    pub(super) async fn transfer_state(&mut self) {
        if let Err(why) = self.shared.catch_up.transfer_state(&self.name).await {
            self.shared.units.observer.failed("apply", &format!("state transfer of {}: {why}", self.name));
            return self.transfer_failed(&why);
        }
        self.transfers = (0, None);
        self.take(VecDeque::new()).await;
        let waiting: Vec<TxnId> = self.parked.iter().map(|(id, _)| id.clone()).collect();
        for id in waiting {
            self.look_again(&id).await;
        }
    }

    /// Compares a parked event with the journal, and keeps it parked only if it was committed like this.
    async fn look_again(&mut self, id: &TxnId) {
        let Some(held) = self.parked.get_mut(id) else { return };
        let (project, bytes, is_stub) =
            (held.event.transaction.project.clone(), held.event.bytes.clone(), held.is_stub);
        let journal = if self.is_past(&project) { None } else { Some(self.journal(id, &bytes).await) };
        match journal {
            None => self.parked.retry(id).into_iter().for_each(|held| self.skip(held.event)),
            Some(Ok(Journal::Same)) => {}
            // A stub no longer has its bytes, so they cannot be compared.
            Some(Ok(Journal::Other(_))) if is_stub => {}
            Some(Ok(Journal::Other(committed))) => {
                let held = self.parked.retry(id);
                held.into_iter()
                    .for_each(|held| self.replace(held.event, committed.clone(), Doubt::Parked(held.reason)));
            }
            Some(Ok(Journal::Nothing)) => {
                let Some(held) = self.parked.retry(id) else { return };
                match held.event.transaction.is_whole() {
                    true => self.set_aside(held.event, Doubt::Parked(held.reason)),
                    false => self.without_long_form(held.event, held.reason).await,
                }
            }
            Some(Err(why)) => self.shared.units.observer.failed("apply", &format!("{id} stays parked: {why}")),
        }
    }

    /// Quarantines a committed transaction whose content is bad.
    pub(super) fn quarantine(&mut self, event: Event, reason: QuarantineReason) {
        let (transaction, id) = (Arc::clone(&event.transaction), event.transaction.id.to_string());
        if self.shared.debts.is_held(&transaction.id) {
            // It was tried again, and is still bad. Or a catch-up found it first, and its record arrives only now.
            self.shared.units.observer.failed("apply", &format!("{id} stays in quarantine: {reason}"));
            self.shared.debts.hold(&transaction, &reason.to_string());
            return self.stays_held(event);
        }
        self.put_away(event, id, &reason);
        self.shared.debts.hold(&transaction, &reason.to_string());
        self.pass_held(&transaction.id);
    }

    /// Lets the record of a transaction go that is in quarantine already.
    pub(super) fn stays_held(&mut self, mut event: Event) {
        let id = event.transaction.id.clone();
        self.pass_held(&id);
        self.unpark(&id);
        event.done();
    }

    /// Lets the low-water mark pass a held transaction, which must not hold it back for every project of the lane: the
    /// transaction is held durably, and this node's record names it, so its slot is not collected.
    fn pass_held(&self, id: &TxnId) {
        if self.shared.debts.is_named(id) {
            self.shared.low_water.done(&id.slot);
        }
    }

    /// Quarantines an event that was never committed: its slot holds another transaction, or none.
    pub(super) fn set_aside(&mut self, event: Event, doubt: Doubt) {
        let id = event.transaction.id.to_string();
        self.put_away(event, id, &QuarantineReason::NeverCommitted(doubt));
    }

    /// Quarantines a damaged copy of a committed transaction, and parks the committed one until its turn.
    fn replace(&mut self, event: Event, committed: Bytes, doubt: Doubt) {
        let hash = hex::encode(Sha256::digest(&event.bytes));
        let copy = format!("{}/copy-{}", event.transaction.id, &hash[..8]);
        self.put_away(event, copy, &QuarantineReason::Differs(doubt));
        match Transaction::outlined(&committed) {
            Ok(transaction) => {
                let event =
                    Event { transaction: Arc::new(transaction), bytes: committed, parked_since_ms: None, done: None };
                self.park(event, ParkReason::Damaged);
            }
            Err(error) => self.shared.units.observer.failed("apply", &format!("the slot cannot be decoded: {error}")),
        }
    }

    /// Puts an event into the durable quarantine under `name`, and tells its reader that it is done.
    fn put_away(&mut self, mut event: Event, name: String, reason: &QuarantineReason) {
        let id = event.transaction.id.clone();
        self.shared.units.observer.quarantined(&name, reason);
        let held = Held {
            // The pack of a stub is in the store alone.
            bytes: if event.bytes.is_empty() { event.transaction.encode() } else { event.bytes.clone() },
            project: event.transaction.project.to_string(),
            reason: reason.to_string(),
            waits_for: Vec::new(),
            since_ms: self.shared.clock.now_ms(),
        };
        self.shared.durability.stage(|changes| changes.quarantine.push((name, held)));
        self.unpark(&id);
        event.done();
    }
}
