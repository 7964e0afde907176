//! What cannot be right, or waits beyond its bounds: the journal says what was committed, a stream only repeats it.
//!
//! A record of a stream that the journal does not have like this is quarantined, and holds nothing back: what was committed
//! under its id is taken from the journal. Only what was committed and is bad holds back the successors of its refs.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::{Transaction, TxnId};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::{Writer, held};
use crate::stages::apply::event::Event;

/// What the journal holds under the id of an event.
enum Journal {
    /// The very same.
    Same,
    /// Something else was committed under this id.
    Other(Bytes),
    /// Nothing was.
    Nothing,
}

impl Writer {
    async fn journal(&self, id: &TxnId, bytes: &Bytes) -> Result<Journal, String> {
        Ok(match self.shared.catch_up.journal(id).await? {
            Some(committed) if committed == *bytes => Journal::Same,
            Some(committed) => Journal::Other(committed),
            None => Journal::Nothing,
        })
    }

    /// The content of an event is bad.
    pub(super) async fn bad(&mut self, event: Event, why: &str) {
        self.doubt(event, why, |writer, event| writer.quarantine(event, why)).await;
    }

    /// An event does not fit what is here, or what was planned before it: if it was committed, the other one was not.
    pub(super) async fn contradicts(&mut self, event: Event, why: &str) {
        self.doubt(event, why, |writer, event| writer.park(event, &format!("contradiction: {why}"))).await;
    }

    /// Holds an event against the journal, and does `committed` with it when it was committed like this.
    async fn doubt(&mut self, event: Event, why: &str, committed: impl FnOnce(&mut Self, Event)) {
        match self.journal(&event.transaction.id, &event.bytes).await {
            Ok(Journal::Same) => committed(self, event),
            Ok(Journal::Other(other)) => self.replace(event, other, why),
            Ok(Journal::Nothing) => self.set_aside(event, why),
            Err(error) => self.park(event, &format!("journal: {error}")),
        }
    }

    /// Too much waits, or for too long: the project goes to the refdb's state, and what that covers is dropped. What is
    /// beyond that state was committed since, or never.
    pub(super) async fn transfer_state(&mut self) {
        if let Err(why) = self.shared.catch_up.transfer_state(&self.name).await {
            self.shared.units.observer.failed("apply", &format!("{} cannot jump yet: {why}", self.name));
            sleep(self.limits.patience).await;
            return;
        }
        self.take(VecDeque::new()).await;
        let waiting: Vec<TxnId> = self.parked.iter().map(|(id, _)| id.clone()).collect();
        for id in waiting {
            self.look_again(&id).await;
        }
    }

    async fn look_again(&mut self, id: &TxnId) {
        let Some(held) = self.parked.get_mut(id) else { return };
        let (project, bytes, is_stub) =
            (held.event.transaction.project.clone(), held.event.bytes.clone(), held.is_stub);
        let journal = if self.is_past(&project) { None } else { Some(self.journal(id, &bytes).await) };
        match journal {
            None => self.parked.retry(id).into_iter().for_each(|held| self.skip(held.event)),
            Some(Ok(Journal::Same)) => {}
            // A stub has not its bytes any more: nothing can be compared.
            Some(Ok(Journal::Other(_))) if is_stub => {}
            Some(Ok(Journal::Other(committed))) => {
                let held = self.parked.retry(id);
                held.into_iter().for_each(|held| self.replace(held.event, committed.clone(), &held.reason));
            }
            Some(Ok(Journal::Nothing)) => {
                self.parked.retry(id).into_iter().for_each(|held| self.set_aside(held.event, &held.reason));
            }
            Some(Err(why)) => self.shared.units.observer.failed("apply", &format!("{id} stays parked: {why}")),
        }
    }

    /// What was committed is bad in itself.
    pub(super) fn quarantine(&mut self, event: Event, reason: &str) {
        // It is held durably: it must not hold back the marks of its lane, and with them every other project.
        self.shared.low_water.done(&event.transaction.id.slot);
        let id = event.transaction.id.to_string();
        self.put_away(event, id, reason);
    }

    /// It was not committed like this: the slot that it names is another transaction's, or nobody's.
    fn set_aside(&mut self, event: Event, reason: &str) {
        let id = event.transaction.id.to_string();
        self.put_away(event, id, &format!("it was never committed: {reason}"));
    }

    /// A damaged copy of what was committed: the copy is set aside, and what was committed waits for its turn.
    fn replace(&mut self, event: Event, committed: Bytes, reason: &str) {
        let hash = hex::encode(Sha256::digest(&event.bytes));
        let copy = format!("{}/copy-{}", event.transaction.id, &hash[..8]);
        self.put_away(event, copy, &format!("it is not what was committed: {reason}"));
        match Transaction::decode(&committed) {
            Ok(transaction) => {
                let event =
                    Event { transaction: Arc::new(transaction), bytes: committed, parked_since_ms: None, done: None };
                self.park(event, "predecessor copy was damaged");
            }
            Err(error) => self.shared.units.observer.failed("apply", &format!("the journal cannot be read: {error}")),
        }
    }

    fn put_away(&mut self, mut event: Event, name: String, reason: &str) {
        let id = event.transaction.id.clone();
        self.shared.units.observer.quarantined(&name, reason);
        let held = held(&event, reason, self.shared.clock.now_ms());
        self.shared.durability.stage(|changes| changes.quarantine.push((name, held)));
        self.unpark(&id);
        event.done();
    }
}
