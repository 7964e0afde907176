//! The parked transactions of one project in memory, and their bounds.
//!
//! The store has every parked transaction as it came. The set in memory has them too, because they may be applied soon.
//! Beyond the bound in bytes, which all projects of the node share, a further transaction is kept as a stub, without
//! its bytes. A stub is not applied from here: it is skipped once a catch-up from the journal, or a state transfer, has
//! brought its values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::{Locator, Pack, Transaction, TxnId};
use tokio::time::Instant;

use super::event::Event;
use super::reason::ParkReason;
use crate::base::budget::ByteBudget;

/// One parked transaction, with its reason.
pub(super) struct Parked {
    /// The event that brought the transaction.
    pub(super) event: Event,
    /// When its missing parts are fetched next.
    pub(super) next: Instant,
    /// The number of fetches after which it was still parked.
    pub(super) tries: u32,
    /// The missing thing that it waits for.
    pub(super) reason: ParkReason,
    /// Since when it has been parked, restarts included, in milliseconds since 1970.
    pub(super) since_ms: u64,
    /// Whether its bytes are in the store alone.
    pub(super) is_stub: bool,
    /// Its share of the bound in bytes.
    weight: u64,
    /// Whether it exceeded the bound when it was parked.
    is_over: bool,
}

/// All parked transactions of one project.
pub(super) struct ParkedSet {
    waiting: BTreeMap<TxnId, Parked>,
    /// For each transaction that is being tried again: since when it has been parked, in milliseconds since 1970, and
    /// the number of fetches so far.
    retried: BTreeMap<TxnId, (u64, u32)>,
    /// The bytes of parked transactions in memory, of all projects of the node.
    budget: ByteBudget,
}

impl ParkedSet {
    /// An empty set, whose bytes come from this budget.
    pub(super) fn new(budget: ByteBudget) -> Self {
        Self { waiting: BTreeMap::new(), retried: BTreeMap::new(), budget }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TxnId, &Parked)> {
        self.waiting.iter()
    }

    pub(super) fn get_mut(&mut self, id: &TxnId) -> Option<&mut Parked> {
        self.waiting.get_mut(id)
    }

    /// Since when an event has been parked, for an event that is parked now. An event that is offered again, is tried
    /// again, or was parked before a restart keeps its age.
    pub(super) fn since_ms(&self, event: &Event, now_ms: u64) -> u64 {
        let id = &event.transaction.id;
        let waiting = self.waiting.get(id).map(|parked| parked.since_ms);
        let known = [self.retried.get(id).map(|(since_ms, _)| *since_ms), waiting, event.parked_since_ms];
        known.into_iter().flatten().fold(now_ms, u64::min)
    }

    /// The number of fetches after which an event was still parked.
    pub(super) fn tries(&self, id: &TxnId) -> u32 {
        let waiting = self.waiting.get(id).map(|parked| parked.tries);
        self.retried.get(id).map(|(_, tries)| *tries).or(waiting).unwrap_or(0)
    }

    /// Whether an event is parked, with its bytes, for the same reason already.
    pub(super) fn has(&self, id: &TxnId, reason: &ParkReason) -> bool {
        self.waiting.get(id).is_some_and(|parked| !parked.is_stub && parked.reason == *reason)
    }

    /// Parks an event that has waited since `since_ms`, and whose missing parts are fetched at `next`. Keeps it as a
    /// stub if the budget has no room for its bytes. It keeps the time of its next fetch if it is parked already.
    pub(super) fn put(&mut self, mut event: Event, reason: ParkReason, since_ms: u64, next: Instant) {
        let id = event.transaction.id.clone();
        let (tries, planned) = (self.tries(&id), self.waiting.get(&id).map(|parked| parked.next));
        self.remove(&id);
        let has_bytes = !event.bytes.is_empty();
        let mut weight = weight(&event);
        let is_over = !has_bytes || !self.budget.take(weight);
        let mut is_stub = is_over;
        if is_over {
            weight = 0;
            match outline(&event) {
                // The long form is read again when its turn comes.
                Some(outline) => (event.transaction, is_stub) = (Arc::new(outline), false),
                None => {
                    let without = Transaction { pack: Pack::Empty, ..(*event.transaction).clone() };
                    (event.transaction, event.bytes) = (Arc::new(without), Bytes::new());
                }
            }
        }
        let next = planned.unwrap_or(next);
        let parked = Parked { event, next, tries, reason, since_ms, is_stub, weight, is_over };
        self.waiting.insert(id, parked);
    }

    /// Takes an event out, to try it again. If it is parked again, it keeps its age.
    pub(super) fn retry(&mut self, id: &TxnId) -> Option<Parked> {
        let parked = self.take(id)?;
        self.retried.insert(id.clone(), (parked.since_ms, parked.tries));
        Some(parked)
    }

    /// Removes an event that need not wait any more.
    pub(super) fn remove(&mut self, id: &TxnId) {
        self.take(id);
        self.retried.remove(id);
    }

    fn take(&mut self, id: &TxnId) -> Option<Parked> {
        let parked = self.waiting.remove(id)?;
        self.budget.give_back(parked.weight);
        Some(parked)
    }

    /// Whether the set exceeds its bound in bytes, or an event has waited for `age`. A wrong clock is harmless: it only
    /// changes the time of the state transfer, which is safe at any time.
    pub(super) fn is_over(&self, now_ms: u64, age: Duration) -> bool {
        let is_old = |parked: &Parked| u128::from(now_ms.saturating_sub(parked.since_ms)) >= age.as_millis();
        self.waiting.values().any(|parked| parked.is_over || is_old(parked))
    }
}

/// The bytes that an event holds in memory. One that came as a locator holds more than its own bytes.
fn weight(event: &Event) -> u64 {
    const PER_COMMAND: usize = 200;
    event.bytes.len().max(PER_COMMAND * event.transaction.commands.len()) as u64
}

/// The outline of an event that came as a locator.
fn outline(event: &Event) -> Option<Transaction> {
    Some(Locator::decode(&event.bytes).ok()??.outline())
}

#[cfg(test)]
mod tests {
    use lockstep_proto::Command;

    use super::*;
    use crate::seams::volume::{Held, HeldKind};
    use crate::state::context::creation;

    const AGE: Duration = Duration::from_secs(60);

    fn event(attempt: u64, bytes: usize) -> Event {
        let (id, pack) = (format!("n.1.0.9.{attempt:016x}"), Pack::Inline(Bytes::from(vec![0; bytes])));
        let transaction = Transaction { id: id.parse().unwrap(), pack, ..creation(9) };
        let bytes = Bytes::from(vec![0; bytes]);
        Event { transaction: Arc::new(transaction), bytes, unsigned: None, parked_since_ms: None, done: None }
    }

    /// Parks an event at this time, as the writer does.
    fn park(parked: &mut ParkedSet, event: Event, now_ms: u64) {
        let since_ms = parked.since_ms(&event, now_ms);
        parked.put(event, ParkReason::Repeated, since_ms, Instant::now());
    }

    #[tokio::test]
    async fn above_the_bound_what_comes_is_a_stub_and_the_set_is_over() {
        let mut parked = ParkedSet::new(ByteBudget::new(1_000));
        park(&mut parked, event(1, 600), 0);
        assert!(!parked.is_over(0, AGE));
        park(&mut parked, event(2, 600), 0);
        assert!(parked.is_over(0, AGE));
        let stubs: Vec<bool> = parked.iter().map(|(_, parked)| parked.is_stub).collect();
        assert_eq!(stubs, [false, true]);
        assert!(parked.iter().all(|(_, parked)| parked.event.bytes.is_empty() == parked.is_stub));
        parked.remove(&event(2, 0).transaction.id);
        assert!(!parked.is_over(0, AGE));
        park(&mut parked, event(3, 400), 0);
        assert!(!parked.is_over(0, AGE), "a removed event makes room");
    }

    #[tokio::test]
    async fn all_projects_of_a_node_share_one_bound() {
        let budget = ByteBudget::new(1_000);
        let (mut one, mut other) = (ParkedSet::new(budget.clone()), ParkedSet::new(budget.clone()));
        park(&mut one, event(1, 600), 0);
        park(&mut other, event(2, 600), 0);
        assert!(!one.is_over(0, AGE) && other.is_over(0, AGE) && budget.taken() == 600);
        one.remove(&event(1, 0).transaction.id);
        park(&mut other, event(2, 600), 0);
        assert!(!other.is_over(0, AGE), "an event that is offered again gets the room that became free");
        other.remove(&event(2, 0).transaction.id);
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_long_form_weighs_what_it_holds_and_is_let_go_above_the_bound() {
        let long = |attempt| {
            let event = event(attempt, 1);
            let mut transaction = (*event.transaction).clone();
            let command = transaction.commands[0].clone();
            let commands =
                (0..4).map(|n| Command { key: format!("refs/heads/{n}").parse().unwrap(), ..command.clone() });
            transaction.commands = commands.collect();
            let bytes = Locator::of(&transaction, 1, [0; 32]).encode();
            Event { transaction: Arc::new(transaction), bytes, ..event }
        };
        let mut parked = ParkedSet::new(ByteBudget::new(1_000));
        park(&mut parked, long(1), 0);
        assert!(!parked.is_over(0, AGE) && parked.budget.taken() == 800);
        park(&mut parked, long(2), 0);
        assert!(parked.is_over(0, AGE));
        let second = parked.get_mut(&long(2).transaction.id).unwrap();
        assert!(!second.is_stub && !second.event.transaction.is_whole() && !second.event.bytes.is_empty());
        for attempt in [1, 2] {
            parked.remove(&long(attempt).transaction.id);
        }
        assert_eq!(parked.budget.taken(), 0);
    }

    #[tokio::test]
    async fn an_event_that_is_offered_again_keeps_its_age() {
        let mut parked = ParkedSet::new(ByteBudget::new(1_000));
        park(&mut parked, event(1, 1), 1_000);
        park(&mut parked, event(1, 1), 60_000);
        assert!(!parked.is_over(60_999, AGE) && parked.is_over(61_000, AGE));
    }

    #[tokio::test]
    async fn an_event_that_is_retried_keeps_its_age() {
        let mut parked = ParkedSet::new(ByteBudget::new(1_000));
        park(&mut parked, event(1, 1), 1_000);
        let again = parked.retry(&event(1, 0).transaction.id).unwrap();
        park(&mut parked, again.event, 60_000);
        assert!(!parked.is_over(60_999, AGE) && parked.is_over(61_000, AGE));
    }

    #[tokio::test]
    async fn an_event_that_was_parked_before_a_restart_keeps_its_age() {
        let mut parked = ParkedSet::new(ByteBudget::new(1_000));
        let first = event(1, 1);
        let held = Held {
            bytes: first.transaction.encode(),
            kind: HeldKind::Committed,
            project: "p#1".to_owned(),
            reason: "x".to_owned(),
            waits_for: vec![],
            since_ms: parked.since_ms(&first, 1_000),
        };
        park(&mut parked, Event::resumed(held).unwrap(), 50_000);
        assert!(!parked.is_over(60_999, AGE) && parked.is_over(61_000, AGE));
        // The reader offers the event again, because its checkpoint was older.
        park(&mut parked, event(1, 1), 55_000);
        assert!(parked.is_over(61_000, AGE));
        // A clock that was set back does not make the event wait longer.
        let mut parked = ParkedSet::new(ByteBudget::new(1_000));
        park(&mut parked, Event { parked_since_ms: Some(9_000), ..event(1, 1) }, 1_000);
        assert!(parked.is_over(61_000, AGE));
    }
}
