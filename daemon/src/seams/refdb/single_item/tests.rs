//! Runs the writes beside each other in every order of their steps, with an end of one of them after each step.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use lockstep_proto::{IncarnationId, NodeId};
use parking_lot::Mutex;

use super::*;
use crate::seams::refdb::{IncarnationState, OpenAnswer, Role, rules};

/// The most steps of two calls together. More would not be all orders.
const STEPS: u32 = 14;

/// A store of items. Each call waits once before it takes effect, so that another call can come first.
#[derive(Default)]
struct Store(Mutex<Items>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Items {
    sites: BTreeMap<SiteId, SiteRecord>,
    incarnations: BTreeMap<IncarnationId, IncarnationRecord>,
    highest: BTreeMap<NodeId, u64>,
    turn: Turn,
    /// Whether the refdb moves.
    is_closed: bool,
}

impl Store {
    async fn step<T>(&self, act: impl FnOnce(&mut Items) -> T) -> T {
        let mut waited = false;
        poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        act(&mut self.0.lock())
    }
}

#[async_trait]
impl SingleItem for Store {
    async fn site(&self, site: &SiteId) -> Result<Option<SiteRecord>, RefDbError> {
        Ok(self.step(|items| items.sites.get(site).cloned()).await)
    }

    async fn is_closed(&self) -> Result<bool, RefDbError> {
        Ok(self.step(|items| items.is_closed).await)
    }

    async fn raise_highest(&self, record: &IncarnationRecord) -> Result<bool, RefDbError> {
        let raise = |items: &mut Items| {
            let highest = items.highest.entry(record.id.node.clone()).or_default();
            let is_below = *highest < record.id.number.0;
            *highest = record.id.number.0.max(*highest);
            is_below
        };
        Ok(self.step(raise).await)
    }

    async fn put_incarnation(&self, record: &IncarnationRecord) -> Result<bool, RefDbError> {
        let put = |items: &mut Items| {
            let is_new = !items.incarnations.contains_key(&record.id);
            items.incarnations.entry(record.id.clone()).or_insert_with(|| record.clone());
            is_new
        };
        Ok(self.step(put).await)
    }

    async fn withdraw(&self, record: &IncarnationRecord) -> Result<(), RefDbError> {
        let withdraw = |items: &mut Items| items.incarnations.get_mut(&record.id).map_or(Ok(()), rules::withdraw);
        self.step(withdraw).await
    }

    async fn put_site(&self, from: Option<&SiteRecord>, to: &SiteRecord) -> Result<SiteAnswer, RefDbError> {
        let put = |items: &mut Items| {
            let stored = items.sites.get(&to.site);
            match stored {
                Some(stored) if from.is_none_or(|from| from.epoch != stored.epoch) => {
                    return Ok(SiteAnswer::Differs(stored.clone()));
                }
                None if from.is_some() => return Err(rules::no_site(&to.site)),
                Some(_) | None => {}
            }
            items.sites.insert(to.site.clone(), to.clone());
            Ok(SiteAnswer::Changed)
        };
        self.step(put).await
    }

    async fn turn(&self) -> Result<Turn, RefDbError> {
        Ok(self.step(|items| items.turn.clone()).await)
    }

    async fn announce(&self, turn: &Turn, change: &SiteChange) -> Result<bool, RefDbError> {
        let announce = |items: &mut Items| {
            let is_as_seen = items.turn == *turn && turn.announced.is_none();
            if is_as_seen {
                items.turn.number += 1;
                items.turn.announced = Some(change.clone());
            }
            is_as_seen
        };
        Ok(self.step(announce).await)
    }

    async fn end_announcement(&self, number: u64) -> Result<(), RefDbError> {
        let end = |items: &mut Items| {
            if items.turn.number == number {
                items.turn.announced = None;
            }
        };
        self.step(end).await;
        Ok(())
    }

    async fn put_record(&self, turn: &Turn, record: &DocumentRecord) -> Result<bool, RefDbError> {
        let put = |items: &mut Items| {
            let is_as_seen = items.turn == *turn && turn.announced.is_none();
            if is_as_seen {
                items.turn.record = Some(record.clone());
            }
            is_as_seen
        };
        Ok(self.step(put).await)
    }
}

fn active() -> SiteRecord {
    SiteRecord::new("a".parse().unwrap(), Role::Active, 1)
}

fn store() -> Store {
    let store = Store::default();
    store.0.lock().sites.insert(active().site, active());
    store
}

fn record() -> IncarnationRecord {
    IncarnationRecord::open("n.1".parse().unwrap(), active().site, 1, 8, 1)
}

/// A call that goes on step by step. Its answer is there at its end.
struct Call<'a, T>(Pin<Box<dyn Future<Output = T> + 'a>>, Option<T>);

impl<'a, T> Call<'a, T> {
    fn new(call: impl Future<Output = T> + 'a) -> Self {
        Self(Box::pin(call), None)
    }

    /// Takes one step. Returns whether the call has ended.
    fn step(&mut self) -> bool {
        if self.1.is_none()
            && let Poll::Ready(answer) = self.0.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            self.1 = Some(answer);
        }
        self.1.is_some()
    }

    fn end(mut self) -> T {
        while !self.step() {}
        self.1.expect("it has ended")
    }
}

/// Runs two calls in one order of their steps: a bit of `order` for each step. Both go on to their ends.
fn interleaved<A, B>(order: u32, first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (Call::new(first), Call::new(second));
    for at in 0..STEPS {
        let is_first = order >> at & 1 == 0;
        let _ = if is_first { first.step() } else { second.step() };
    }
    (first.end(), second.end())
}

/// Lists the incarnations, and freezes those that are open.
async fn freeze_all(store: &Store) {
    let listed: Vec<IncarnationId> = store.step(|items| items.incarnations.keys().cloned().collect()).await;
    for id in listed {
        store.step(|items| items.incarnations.get_mut(&id).map(rules::freeze)).await;
    }
}

/// Fences the site, as the step of a failover does: it raises the epoch, and then ends the incarnations.
async fn fence(store: &Store) {
    let raise = |items: &mut Items| {
        let fenced = SiteRecord { role: Role::Fenced, epoch: 2, ..active() };
        items.sites.insert(fenced.site.clone(), fenced);
    };
    store.step(raise).await;
    freeze_all(store).await;
}

/// Begins a move to other tables: it closes the refdb, and then ends the incarnations.
async fn close(store: &Store) {
    store.step(|items| items.is_closed = true).await;
    freeze_all(store).await;
}

#[test]
fn an_incarnation_that_was_opened_is_frozen_by_the_fence() {
    let (mut opened, mut refused) = (0, 0);
    for order in 0..1 << STEPS {
        let store = store();
        let (answer, ()) = interleaved(order, open(&store, &record()), fence(&store));
        let state = store.0.lock().incarnations.get(&record().id).map(|stored| stored.state);
        match answer.unwrap() {
            OpenAnswer::Opened => {
                opened += 1;
                assert_eq!(state, Some(IncarnationState::Frozen), "order {order:b}");
            }
            OpenAnswer::NotAllowed(site) => {
                refused += 1;
                assert_eq!(site.epoch, 2);
                assert!(matches!(state, None | Some(IncarnationState::Drained)), "order {order:b}: {state:?}");
            }
            OpenAnswer::Exists => panic!("order {order:b}: nobody else opened it"),
        }
    }
    assert!(opened > 0 && refused > 0, "{opened} and {refused}");
}

#[test]
fn an_incarnation_that_was_opened_is_frozen_by_the_move() {
    let (mut opened, mut refused) = (0, 0);
    for order in 0..1 << STEPS {
        let store = store();
        let (answer, ()) = interleaved(order, open(&store, &record()), close(&store));
        let state = store.0.lock().incarnations.get(&record().id).map(|stored| stored.state);
        match answer {
            Ok(OpenAnswer::Opened) => {
                opened += 1;
                assert_eq!(state, Some(IncarnationState::Frozen), "order {order:b}");
            }
            Err(RefDbError::NotNow(_)) => {
                refused += 1;
                assert!(matches!(state, None | Some(IncarnationState::Drained)), "order {order:b}: {state:?}");
            }
            other => panic!("order {order:b}: {other:?}"),
        }
    }
    assert!(opened > 0 && refused > 0, "{opened} and {refused}");
}

#[test]
fn of_two_openers_of_a_number_one_has_it() {
    for order in 0..1 << STEPS {
        let store = store();
        let record = record();
        let (one, other) = interleaved(order, open(&store, &record), open(&store, &record));
        let opened = [one, other].into_iter().filter(|answer| *answer == Ok(OpenAnswer::Opened)).count();
        assert_eq!(opened, 1, "order {order:b}");
    }
}

fn removed() -> SiteRecord {
    SiteRecord { role: Role::Fenced, epoch: 2, removed: true, ..active() }
}

fn failover() -> DocumentRecord {
    DocumentRecord { revision: 1, body: "a failover".to_owned() }
}

#[test]
fn of_a_change_of_a_site_and_a_failover_one_happens() {
    let (mut changes, mut failovers) = (0, 0);
    for order in 0..1 << STEPS {
        let (store, seen, failover) = (store(), [active()], failover());
        let change = async { change_site(&store, Some(&active()), &removed(), 0).await };
        let (changed, begun) = interleaved(order, change, begin_failover(&store, &failover, &seen));
        let stored = store.0.lock().clone();
        match (changed, begun) {
            (Ok(SiteAnswer::Changed), Ok(None)) => {
                changes += 1;
                assert_eq!((stored.turn.record, &stored.sites[&removed().site]), (None, &removed()));
            }
            (Ok(SiteAnswer::FailoverMoved), Ok(Some(begun))) => {
                failovers += 1;
                assert_eq!((&begun, &stored.sites[&active().site]), (&failover, &active()));
            }
            other => panic!("order {order:b}: {other:?}"),
        }
        assert_eq!(stored.turn.announced, None, "order {order:b}");
    }
    assert!(changes > 0 && failovers > 0, "{changes} and {failovers}");
}

/// The changer dies after each of its steps. If its last write is late, it arrives after everything else.
#[test]
fn a_change_that_stopped_halfway_is_done_before_a_failover_or_never() {
    let (mut changes, mut failovers) = (0, 0);
    for steps in 1..STEPS {
        let (store, seen) = (store(), [active()]);
        let (from, to) = (active(), removed());
        let mut change = Call::new(change_site(&store, Some(&from), &to, 0));
        for _ in 0..steps {
            let _ = change.step();
        }
        drop(change);
        let was_announced = store.0.lock().turn.number > 0;
        let begun = Call::new(begin_failover(&store, &failover(), &seen)).end().unwrap();
        if was_announced {
            let _ = Call::new(store.put_site(Some(&from), &to)).end();
        }
        let stored = store.0.lock().clone();
        match begun {
            None => {
                changes += 1;
                assert_eq!((stored.turn.record, &stored.sites[&to.site]), (None, &to), "after {steps} steps");
            }
            Some(_) => {
                failovers += 1;
                assert_eq!(stored.sites[&from.site], from, "after {steps} steps");
            }
        }
        assert_eq!(stored.turn.announced, None, "after {steps} steps");
    }
    assert!(changes > 0 && failovers > 0, "{changes} and {failovers}");
}

/// A change of role is no part of the order: it comes from the failover itself. The announced change is then void.
#[test]
fn an_announced_change_of_a_site_that_moved_on_is_void() {
    let store = store();
    let (from, to) = (active(), removed());
    let moved = SiteRecord { role: Role::Draining, epoch: 2, ..active() };
    let mut change = Call::new(change_site(&store, Some(&from), &to, 0));
    while store.0.lock().turn.announced.is_none() {
        assert!(!change.step(), "it is announced before it ends");
    }
    store.0.lock().sites.insert(moved.site.clone(), moved.clone());
    let answer = change.end();
    assert!(matches!(&answer, Err(RefDbError::Unknown(why)) if why.contains("epoch 2")), "{answer:?}");
    assert_eq!(Call::new(put_failover(&store, &failover())).end(), Ok(failover()));
    assert_eq!(store.0.lock().sites[&from.site], moved);
}
