//! Tests of the debts of one node.

use std::time::Duration;

use lockstep_proto::Seq;

use super::*;
use crate::seams::refdb::MOST_NEEDS;
use crate::seams::volume::memory::MemoryStore;
use crate::seams::volume::{Held, HeldKind};
use crate::state::context::{NodeContext, NodeState, creation};

fn failure(kind: DebtKind) -> Failure {
    Failure { kind, why: "x".repeat(2_000), txn: None, refs: Vec::new() }
}

/// The record of a transaction that is set aside.
fn held(one: &Transaction, kind: HeldKind, reason: &str) -> Held {
    let (bytes, project, reason) = (one.encode(), "p#1".to_owned(), reason.to_owned());
    Held { bytes, kind, project, reason, waits_for: Vec::new(), since_ms: 7 }
}

fn node(store: &MemoryStore) -> (NodeContext, NodeState) {
    let context = NodeContext { store: Arc::new(store.clone()), ..NodeContext::in_memory() };
    let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
    tokio::spawn(state.durability.clone().run());
    (context, state)
}

#[tokio::test(start_paused = true)]
async fn a_debt_outlives_a_restart_is_due_at_once_then_and_tells_since_when() {
    let store = MemoryStore::default();
    let (_, state) = node(&store);
    let p: ProjectName = "p".parse().unwrap();
    for _ in 0..3 {
        state.debts.failed(&p, failure(DebtKind::BadContent), Some(true));
    }
    assert!(state.debts.due().is_empty() && state.debts.closes(&p).is_some());
    state.durability.wait_durable().await;
    let since_ms = state.debts.show()[0].since_ms;
    let (_, again) = node(&store);
    assert_eq!(again.debts.due(), std::slice::from_ref(&p));
    let shown = again.debts.show().remove(0);
    assert_eq!((shown.since_ms, shown.tries, shown.takes_commits), (since_ms, 3, false));
    assert_eq!(shown.reason.len(), REASON, "reasons are bounded");
    again.debts.paid(&p, again.debts.begins());
    again.durability.wait_durable().await;
    assert!(store.debts().unwrap().is_empty() && again.debts.needs() == Needs::default());
}

#[tokio::test(start_paused = true)]
async fn a_debt_that_was_paid_before_it_was_durable_does_not_come_back() {
    let store = MemoryStore::default();
    let (_, state) = node(&store);
    let p: ProjectName = "p".parse().unwrap();
    state.debts.failed(&p, failure(DebtKind::Disk), None);
    state.debts.paid(&p, state.debts.begins());
    state.durability.wait_durable().await;
    assert!(store.debts().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_are_longest_where_a_retry_does_not_help() {
    let (_, state) = node(&MemoryStore::default());
    let p: ProjectName = "p".parse().unwrap();
    let pause = |kind| {
        let pause = state.debts.pace().pause(state.debts.entropy.as_ref(), kind, 30);
        state.debts.failed(&p, failure(kind), None);
        pause
    };
    assert!(pause(DebtKind::BadContent) >= Duration::from_secs(300));
    assert!(pause(DebtKind::Unreachable) <= Duration::from_secs(30));
}

/// Holds a transaction, and returns whether the low-water mark may pass it.
fn passes(debts: &Debts, seq: u64) -> bool {
    debts.hold(&creation(seq), "bad");
    debts.is_named(&creation(seq).id)
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_the_low_water_mark_is_held_back_instead() {
    let (_, state) = node(&MemoryStore::default());
    let all: Vec<bool> = (0..=MOST_NEEDS as u64).map(|seq| passes(&state.debts, seq)).collect();
    assert_eq!(all.iter().filter(|passes| !**passes).count(), 1);
    assert!(!all[MOST_NEEDS] && state.debts.needs().held.len() == MOST_NEEDS);
    state.debts.release(&creation(0).id);
    assert!(!state.debts.is_held(&creation(0).id) && passes(&state.debts, MOST_NEEDS as u64));
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_a_start_names_what_the_low_water_mark_has_passed() {
    let store = MemoryStore::default();
    let passed = Transaction { id: "n.1.1.0.00000000000000aa".parse().unwrap(), ..creation(0) };
    let others = (0..=MOST_NEEDS as u64).map(creation);
    let record = |one: Transaction| (one.id.to_string(), held(&one, HeldKind::Committed, "bad"));
    let changes = crate::seams::volume::Changes {
        quarantine: others.chain([passed.clone()]).map(record).collect(),
        low_water: vec![(passed.id.slot.lane.clone(), Seq(1))],
        ..Default::default()
    };
    store.commit(changes).await.unwrap();
    let needs = node(&store).1.debts.needs();
    assert!(needs.held.contains_key(&passed.id) && needs.held.len() == MOST_NEEDS);
}

#[tokio::test(start_paused = true)]
async fn the_named_projects_are_the_same_after_a_restart_and_a_free_name_goes_to_the_next() {
    let store = MemoryStore::default();
    let (_, state) = node(&store);
    let name = |number: usize| -> ProjectName { format!("p{number:03}").parse().unwrap() };
    // The first by name comes last, and finds no room.
    (0..=MOST_NEEDS).rev().for_each(|number| state.debts.failed(&name(number), failure(DebtKind::BadContent), None));
    state.durability.wait_durable().await;
    let named = state.debts.needs().owed;
    assert!(named.len() == MOST_NEEDS && !named.contains(&name(0)) && !state.debts.all_are_named());
    assert!(!state.debts.takes_over(&name(0), false) && state.debts.takes_over(&name(1), false));
    let (_, again) = node(&store);
    assert_eq!(again.debts.needs().owed, named);
    again.debts.paid(&name(7), again.debts.begins());
    assert!(again.debts.all_are_named() && again.debts.needs().owed.contains(&name(0)));
    again.durability.wait_durable().await;
    assert!(store.debts().unwrap()[&name(0)].named);
}

#[tokio::test(start_paused = true)]
async fn a_project_of_which_more_is_missed_meanwhile_is_not_paid() {
    let (_, state) = node(&MemoryStore::default());
    let p: ProjectName = "p".parse().unwrap();
    state.debts.failed(&p, failure(DebtKind::BadContent), None);
    let (repayer, operator) = (state.debts.begins(), state.debts.begins());
    assert!(state.debts.takes_over(&p, false));
    state.debts.failed(&p, failure(DebtKind::BadContent), None);
    let later = state.debts.begins();
    for begun in [repayer, operator] {
        state.debts.paid(&p, begun);
        assert_eq!(state.debts.due(), std::slice::from_ref(&p), "it was missed after this try began");
    }
    state.debts.paid(&p, later);
    assert!(!state.debts.is_owed(&p) && !state.debts.takes_over(&p, false));
    state.debts.failed(&p, failure(DebtKind::BadContent), None);
    state.debts.paid(&p, later);
    assert!(state.debts.is_owed(&p), "this debt came after that try");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_waits_behind_bad_content_is_named_also_after_a_restart() {
    let store = MemoryStore::default();
    let (_, state) = node(&store);
    state.debts.waits(&creation(7), failure(DebtKind::MissingObjects), 7, 3);
    assert!(!state.debts.is_named(&creation(7).id), "its predecessors may arrive");
    state.debts.waits(&creation(7), failure(DebtKind::BadContent), 7, 4);
    state.debts.waits(&creation(7), failure(DebtKind::Unreachable), 7, 5);
    assert!(state.debts.needs().held.contains_key(&creation(7).id), "a name stays until its debt ends");
    let parked = |seq: u64| {
        let one = creation(seq);
        (one.id.to_string(), held(&one, HeldKind::Committed, "x"))
    };
    let park = (0..=MOST_NEEDS as u64 + 9).map(parked).collect();
    let low_water = vec![(creation(7).id.slot.lane, Seq(8))];
    store.commit(crate::seams::volume::Changes { park, low_water, ..Default::default() }).await.unwrap();
    let (_, again) = node(&store);
    let named: Vec<u64> = again.debts.needs().held.into_keys().map(|txn| txn.slot.seq.0).collect();
    assert_eq!(named, [0, 1, 2, 3, 4, 5, 6, 7], "the mark has passed these, and no others");
    again.debts.arrived(&creation(7).id);
    assert!(!again.debts.is_named(&creation(7).id));
}

/// Names a transaction as waiting, and leaves one held transaction without a name.
fn full(debts: &Debts, waits: &Transaction) {
    debts.waits(waits, failure(DebtKind::BadContent), 7, 3);
    (1..=MOST_NEEDS as u64).for_each(|seq| debts.hold(&creation(seq), "bad"));
    assert!(debts.is_named(&waits.id) && !debts.is_named(&creation(MOST_NEEDS as u64).id));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_waited_and_is_held_now_keeps_its_name() {
    let (_, state) = node(&MemoryStore::default());
    let waits = creation(500);
    full(&state.debts, &waits);
    state.debts.hold(&waits, "bad");
    state.debts.waits(&waits, failure(DebtKind::Unreachable), 7, 4);
    state.debts.arrived(&waits.id);
    assert!(state.debts.is_held(&waits.id) && state.debts.is_named(&waits.id));
    state.debts.release(&waits.id);
    assert!(state.debts.is_named(&creation(MOST_NEEDS as u64).id), "its room goes to the next");
}

#[tokio::test(start_paused = true)]
async fn a_project_has_a_debt_while_anything_of_it_is_held_waits_or_is_owed() {
    let (_, state) = node(&MemoryStore::default());
    let (p, debts) = ("p".parse().unwrap(), &state.debts);
    let has = || debts.has_debt(&p) && !debts.has_debt(&"q".parse().unwrap());
    debts.waits(&creation(1), failure(DebtKind::BadContent), 7, 3);
    assert!(has());
    debts.hold(&creation(1), "bad");
    assert!(has());
    debts.failed(&p, failure(DebtKind::BadContent), None);
    debts.release(&creation(1).id);
    assert!(has());
    debts.paid(&p, debts.begins());
    assert!(!has());
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_a_start_owes_the_project_of_what_is_parked_below_a_mark() {
    let store = MemoryStore::default();
    let parked = |seq: u64| {
        let one = creation(seq);
        (one.id.to_string(), held(&one, HeldKind::Committed, "x"))
    };
    let (count, lane) = (MOST_NEEDS as u64 + 1, creation(0).id.slot.lane);
    let (park, low_water) = ((0..count).map(parked).collect(), vec![(lane, Seq(count))]);
    store.commit(crate::seams::volume::Changes { park, low_water, ..Default::default() }).await.unwrap();
    let (_, state) = node(&store);
    let (p, needs) = ("p".parse().unwrap(), state.debts.needs());
    assert!(needs.held.len() == MOST_NEEDS && needs.owed.contains(&p));
    assert!(state.debts.takes_over(&p, false));
    state.durability.wait_durable().await;
    assert!(store.debts().unwrap()[&p].named, "the record is there before a parked one may go");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_never_committed_is_no_debt() {
    let store = MemoryStore::default();
    let held = |kind| held(&creation(1), kind, "a defect");
    let changes = crate::seams::volume::Changes {
        quarantine: vec![
            (creation(1).id.to_string(), held(HeldKind::NeverCommitted)),
            ("s/0/17".into(), held(HeldKind::Unreadable)),
        ],
        ..Default::default()
    };
    store.commit(changes).await.unwrap();
    assert!(node(&store).1.debts.held().is_empty());
    let changes = crate::seams::volume::Changes {
        quarantine: vec![(creation(1).id.to_string(), held(HeldKind::Committed))],
        ..Default::default()
    };
    store.commit(changes).await.unwrap();
    let shown = node(&store).1.debts.show();
    assert_eq!((shown.len(), shown[0].since_ms, &shown[0].refs[..]), (1, 7, &["refs/heads/a".to_owned()][..]));
}

#[tokio::test(start_paused = true)]
async fn other_nodes_debts_are_shown_with_their_node() {
    let (_, state) = node(&MemoryStore::default());
    let needs = Needs { held: [(creation(1).id, "p".parse().unwrap())].into(), owed: ["q".parse().unwrap()].into() };
    let record = |name: &str, expelled| NodeRecord { expelled, needs: needs.clone(), ..NodeRecord::first(name, "s") };
    state.debts.seen(&"n".parse().unwrap(), &[record("n", false), record("m", false), record("gone", true)]);
    let shown = state.debts.elsewhere();
    assert_eq!(shown.len(), 2);
    assert!(shown.iter().all(|one| one.node.as_str() == "m"), "{shown:?}");
}
