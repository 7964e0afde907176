//! Tests of the debts of one node.

use std::time::Duration;

use lockstep_proto::{Command, RefValue, Seq, Version};

use super::*;
use crate::seams::volume::memory::MemoryStore;
use crate::state::context::{NodeContext, NodeState};

fn transaction(seq: u64) -> Transaction {
    let command = Command {
        key: "refs/heads/a".parse().unwrap(),
        old: RefValue::Absent,
        new: RefValue::Oid("1".repeat(40).parse().unwrap()),
        version: Version(1),
        predecessor: None,
    };
    let id = format!("n.1.0.{seq}.00000000000000aa").parse().unwrap();
    Transaction { commands: vec![command], ..Transaction::empty(id, "s".parse().unwrap(), "p#1".parse().unwrap()) }
}

fn failure(kind: DebtKind) -> Failure {
    Failure { kind, why: "x".repeat(2_000), txn: None, refs: Vec::new() }
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
    again.debts.paid(&p);
    again.durability.wait_durable().await;
    assert!(store.debts().unwrap().is_empty() && again.debts.needs() == Needs::default());
}

#[tokio::test(start_paused = true)]
async fn a_debt_that_was_paid_before_it_was_durable_does_not_come_back() {
    let store = MemoryStore::default();
    let (_, state) = node(&store);
    let p: ProjectName = "p".parse().unwrap();
    state.debts.failed(&p, failure(DebtKind::Disk), None);
    state.debts.paid(&p);
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
    debts.hold(&transaction(seq), "bad");
    debts.is_named(&transaction(seq).id)
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_the_low_water_mark_is_held_back_instead() {
    let (_, state) = node(&MemoryStore::default());
    let all: Vec<bool> = (0..=MOST_NEEDS as u64).map(|seq| passes(&state.debts, seq)).collect();
    assert_eq!(all.iter().filter(|passes| !**passes).count(), 1);
    assert!(!all[MOST_NEEDS] && state.debts.needs().held.len() == MOST_NEEDS);
    state.debts.release(&transaction(0).id);
    assert!(!state.debts.is_held(&transaction(0).id) && passes(&state.debts, 1));
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_a_start_names_what_the_low_water_mark_has_passed() {
    let store = MemoryStore::default();
    let passed = Transaction { id: "n.1.1.0.00000000000000aa".parse().unwrap(), ..transaction(0) };
    let others = (0..=MOST_NEEDS as u64).map(transaction);
    let record = |one: Transaction| {
        let (id, bytes) = (one.id.to_string(), one.encode());
        (id, Held { bytes, project: "p#1".into(), reason: "bad".into(), waits_for: Vec::new(), since_ms: 7 })
    };
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
async fn a_record_that_was_never_committed_is_no_debt() {
    let store = MemoryStore::default();
    let bytes = transaction(1).encode();
    let held = |reason: &str| Held {
        bytes: bytes.clone(),
        project: "p#1".into(),
        reason: reason.into(),
        waits_for: Vec::new(),
        since_ms: 7,
    };
    let never = format!("{}a defect", crate::seams::volume::NEVER_COMMITTED);
    let changes = crate::seams::volume::Changes {
        quarantine: vec![(transaction(1).id.to_string(), held(&never)), ("s/0/17".into(), held("torn"))],
        ..Default::default()
    };
    store.commit(changes).await.unwrap();
    assert!(node(&store).1.debts.held().is_empty());
    let changes = crate::seams::volume::Changes {
        quarantine: vec![(transaction(1).id.to_string(), held("bad"))],
        ..Default::default()
    };
    store.commit(changes).await.unwrap();
    let shown = node(&store).1.debts.show();
    assert_eq!((shown.len(), shown[0].since_ms, &shown[0].refs[..]), (1, 7, &["refs/heads/a".to_owned()][..]));
}

#[tokio::test(start_paused = true)]
async fn other_nodes_debts_are_shown_with_their_node() {
    let (_, state) = node(&MemoryStore::default());
    let needs = Needs { held: [(transaction(1).id, "p".parse().unwrap())].into(), owed: ["q".parse().unwrap()].into() };
    let record = |name: &str, expelled| NodeRecord { expelled, needs: needs.clone(), ..NodeRecord::first(name, "s") };
    state.debts.seen(&"n".parse().unwrap(), &[record("n", false), record("m", false), record("gone", true)]);
    let shown = state.debts.elsewhere();
    assert_eq!(shown.len(), 2);
    assert!(shown.iter().all(|one| one.node.as_str() == "m"), "{shown:?}");
}
