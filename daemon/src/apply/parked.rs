//! What waits in one project's writer, and its bounds.
//!
//! The store has every parked transaction as it came; here are those that may go soon. Above the bound in bytes the latest
//! ones are kept without their bytes: such a one is not applied from here, it is skipped once a catch-up from the journal,
//! or a jump, has brought what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::{Pack, Transaction, TxnId};
use tokio::time::Instant;

use super::event::Event;

/// Something that waits.
pub(super) struct Parked {
    /// What waits.
    pub(super) event: Event,
    /// When it was looked at last.
    pub(super) since: Instant,
    /// Why it waits.
    pub(super) reason: String,
    /// Since when it waits.
    first: Instant,
    /// Whether its bytes are in the store alone.
    pub(super) is_stub: bool,
}

/// Everything that waits in one project.
#[derive(Default)]
pub(super) struct Lot {
    waiting: BTreeMap<TxnId, Parked>,
    /// When each one that is tried again was parked first.
    retried: BTreeMap<TxnId, Instant>,
    bytes: u64,
}

impl Lot {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TxnId, &Parked)> {
        self.waiting.iter()
    }

    pub(super) fn get_mut(&mut self, id: &TxnId) -> Option<&mut Parked> {
        self.waiting.get_mut(id)
    }

    /// Puts an event here; without its bytes when there are `most` already.
    pub(super) fn put(&mut self, mut event: Event, reason: &str, most: u64) {
        let id = event.transaction.id.clone();
        let is_stub = self.bytes + event.bytes.len() as u64 > most;
        if is_stub {
            let without = Transaction { pack: Pack::Empty, ..(*event.transaction).clone() };
            (event.transaction, event.bytes) = (Arc::new(without), Bytes::new());
        }
        // A transaction that is offered again while it waits here is as old as it was, too.
        let waiting = self.waiting.get(&id).map(|parked| parked.first);
        let first = self.retried.remove(&id).or(waiting).unwrap_or_else(Instant::now);
        self.take(&id);
        self.bytes += event.bytes.len() as u64;
        let parked = Parked { event, since: Instant::now(), reason: reason.to_owned(), first, is_stub };
        self.waiting.insert(id, parked);
    }

    /// Takes an event out, to be tried again; parked again, it is as old as it was.
    pub(super) fn retry(&mut self, id: &TxnId) -> Option<Parked> {
        let parked = self.take(id)?;
        self.retried.insert(id.clone(), parked.first);
        Some(parked)
    }

    /// An event needs to wait no more.
    pub(super) fn settled(&mut self, id: &TxnId) {
        self.take(id);
        self.retried.remove(id);
    }

    fn take(&mut self, id: &TxnId) -> Option<Parked> {
        let parked = self.waiting.remove(id)?;
        self.bytes -= parked.event.bytes.len() as u64;
        Some(parked)
    }

    /// Whether more waits, or something longer, than it may.
    pub(super) fn is_over(&self, age: Duration) -> bool {
        let now = Instant::now();
        self.waiting.values().any(|parked| parked.is_stub || now.duration_since(parked.first) >= age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(attempt: u64, bytes: usize) -> Event {
        let transaction = Transaction {
            id: format!("n.1.0.9.{attempt:016x}").parse().unwrap(),
            site: "s".parse().unwrap(),
            project: "p#1".parse().unwrap(),
            committed_at_ms: 0,
            commands: vec![],
            pack: Pack::Inline(Bytes::from(vec![0; bytes])),
            bases: vec![],
            request_id: String::new(),
            actor: String::new(),
            traceparent: String::new(),
        };
        Event { transaction: Arc::new(transaction), bytes: Bytes::from(vec![0; bytes]), done: None }
    }

    #[tokio::test(start_paused = true)]
    async fn above_the_bound_what_comes_is_a_stub_and_the_lot_is_over() {
        let (mut lot, age) = (Lot::default(), Duration::from_secs(60));
        lot.put(event(1, 60), "x", 100);
        assert!(!lot.is_over(age));
        lot.put(event(2, 60), "x", 100);
        assert!(lot.is_over(age));
        let stubs: Vec<bool> = lot.iter().map(|(_, parked)| parked.is_stub).collect();
        assert_eq!(stubs, [false, true]);
        assert!(lot.iter().all(|(_, parked)| parked.event.bytes.is_empty() == parked.is_stub));
        lot.settled(&event(2, 0).transaction.id);
        assert!(!lot.is_over(age));
        lot.put(event(3, 40), "x", 100);
        assert!(!lot.is_over(age), "what was settled makes room");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_offered_again_grows_no_younger() {
        let (mut lot, age) = (Lot::default(), Duration::from_secs(60));
        lot.put(event(1, 1), "x", 100);
        tokio::time::sleep(Duration::from_secs(59)).await;
        lot.put(event(1, 1), "x", 100);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(lot.is_over(age));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_tried_again_grows_no_younger() {
        let (mut lot, age) = (Lot::default(), Duration::from_secs(60));
        let id = event(1, 0).transaction.id.clone();
        lot.put(event(1, 1), "x", 100);
        tokio::time::sleep(Duration::from_secs(59)).await;
        let parked = lot.retry(&id).unwrap();
        lot.put(parked.event, "x", 100);
        assert!(!lot.is_over(age));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(lot.is_over(age));
    }
}
