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
pub(super) enum Journal {
    /// The same bytes were committed under this id.
    Same,
    /// These other bytes were committed under this id.
    Other(Bytes),
    /// Nothing was committed under this id.
    Nothing,
}

impl Writer {
    /// Compares the bytes of an event with the journal.
    pub(super) async fn journal(&self, id: &TxnId, bytes: &Bytes) -> Result<Journal, CatchUpError> {
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
            // It was committed, so its signature does not matter.
            (Ok(Journal::Same), Doubt::Unsigned(_)) => self.park(event, ParkReason::Repeated),
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
        self.put_away(&event, id, &reason);
        // Its name goes from its parked record to its record in quarantine. It must not be without one in between.
        self.shared.debts.hold(&transaction, &reason.to_string());
        self.stays_held(event);
    }

    /// Lets the record of a transaction go that is in quarantine already.
    pub(super) fn stays_held(&mut self, event: Event) {
        self.pass_named(&event.transaction);
        self.stays_away(event);
    }

    /// Quarantines an event that was never committed: its slot holds another transaction, or none.
    pub(super) fn set_aside(&mut self, event: Event, doubt: Doubt) {
        let id = event.transaction.id.to_string();
        self.put_away(&event, id, &QuarantineReason::NeverCommitted(doubt));
        self.stays_away(event);
    }

    /// Quarantines a damaged copy of a committed transaction, and parks the committed one until its turn, under its
    /// present name: a mark may have passed it. The parked record is replaced, and never missing.
    fn replace(&mut self, mut event: Event, committed: Bytes, doubt: Doubt) {
        let copy = self.copy_name(&event);
        self.put_away(&event, copy, &QuarantineReason::Differs(doubt));
        match Transaction::outlined(&committed) {
            Ok(transaction) => {
                self.parked.remove(&event.transaction.id);
                (event.transaction, event.bytes, event.parked_since_ms) = (Arc::new(transaction), committed, None);
                self.park(event, ParkReason::Damaged);
            }
            Err(error) => {
                self.shared.units.observer.failed("apply", &format!("the slot cannot be decoded: {error}"));
                event.done();
            }
        }
    }

    /// The name in quarantine of a record that differs from the committed one.
    pub(super) fn copy_name(&self, event: &Event) -> String {
        let hash = hex::encode(Sha256::digest(&event.bytes));
        format!("{}/copy-{}", event.transaction.id, &hash[..8])
    }

    /// Puts a copy of an event into the durable quarantine under `name`.
    pub(super) fn put_away(&self, event: &Event, name: String, reason: &QuarantineReason) {
        self.shared.units.observer.quarantined(&name, reason);
        let held = Held {
            // The pack of a stub is in the store alone.
            bytes: if event.bytes.is_empty() { event.transaction.encode() } else { event.bytes.clone() },
            kind: reason.kind(),
            project: event.transaction.project.to_string(),
            reason: reason.to_string(),
            waits_for: Vec::new(),
            since_ms: self.shared.clock.now_ms(),
        };
        self.shared.durability.stage(|changes| changes.quarantine.push((name, held)));
    }

    /// Lets go of an event that is in quarantine, and tells its reader that it is done.
    fn stays_away(&mut self, mut event: Event) {
        let id = event.transaction.id.clone();
        self.unpark(&id);
        self.shared.debts.arrived(&id);
        event.done();
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::debt::DebtKind;

    use crate::seams::refdb::MOST_NEEDS;
    use crate::state::context::creation;
    use crate::state::context::{NodeContext, NodeState};
    use crate::state::debts::Failure;

    use super::*;

    fn event(transaction: &Transaction) -> Event {
        let (bytes, transaction) = (transaction.encode(), Arc::new(transaction.clone()));
        Event { transaction, bytes, unsigned: None, parked_since_ms: None, done: None }
    }

    /// Parks slot 500 behind bad content, so that the record names it and the mark may pass it. The other names are
    /// taken, and earlier transactions wait for one.
    fn parks_and_passes(writer: &mut Writer, state: &NodeState) -> Transaction {
        let waits = creation(500);
        let failure = Failure { kind: DebtKind::BadContent, why: "x".into(), txn: None, refs: Vec::new() };
        state.debts.waits(&waits, failure, 7, 3);
        (1..=MOST_NEEDS as u64 + 1).for_each(|seq| state.debts.hold(&creation(seq), "bad"));
        writer.park(event(&waits), ParkReason::Repeated);
        assert!(state.low_water.is_done(&waits.id.slot) && state.debts.is_named(&waits.id));
        waits
    }

    #[tokio::test]
    async fn a_transaction_that_waited_and_turns_out_bad_keeps_its_name() {
        let context = NodeContext::in_memory();
        let (mut writer, state) = Writer::of_p(&context);
        let waits = parks_and_passes(&mut writer, &state);
        writer.quarantine(event(&waits), QuarantineReason::Bad("bad".into()));
        assert!(state.debts.is_held(&waits.id) && state.debts.is_named(&waits.id));
    }

    #[tokio::test]
    async fn a_transaction_that_is_held_already_keeps_the_name_under_which_it_waited() {
        let context = NodeContext::in_memory();
        let (mut writer, state) = Writer::of_p(&context);
        let waits = parks_and_passes(&mut writer, &state);
        state.debts.hold(&waits, "a catch-up met it");
        writer.stays_held(event(&waits));
        assert!(state.debts.is_held(&waits.id) && state.debts.is_named(&waits.id));
    }

    #[tokio::test]
    async fn a_transaction_whose_damaged_copy_is_replaced_keeps_its_name_and_a_parked_record() {
        let context = NodeContext::in_memory();
        let (mut writer, state) = Writer::of_p(&context);
        let waits = parks_and_passes(&mut writer, &state);
        let damaged = Transaction { request_id: "damaged".into(), ..waits.clone() };
        writer.replace(event(&damaged), waits.encode(), Doubt::Parked(ParkReason::Repeated));
        assert!(state.debts.is_named(&waits.id) && writer.parked.tries(&waits.id) == 0);
        tokio::spawn(state.durability.clone().run());
        state.durability.wait_durable().await;
        let parked = context.store.parked(None, 9).unwrap();
        assert_eq!(parked.into_iter().map(|(_, held)| held.bytes).collect::<Vec<_>>(), [waits.encode()]);
        assert_eq!(context.store.quarantined().unwrap().len(), 1, "the damaged copy");
    }
}
