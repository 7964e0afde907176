//! The handling of a transaction that stopped halfway, by a node that meets its locks. `tests/sim` stops one at every
//! moment.

use bytes::Bytes;
use lockstep_proto::{Command, Lane, Oid, RefValue, Seq, SiteId, Slot, Version};

use super::*;
use crate::seams::refdb::memory::MemoryRefDb;
use crate::seams::refdb::{
    CommitAnswer, CommitRequest, Document, DocumentRecord, IncarnationRecord, Obstacle, RefStore, Role, SlotState,
};

fn slot(seq: u64) -> Slot {
    let incarnation: lockstep_proto::IncarnationId = "node-a.1".parse().unwrap();
    incarnation.lane(Lane(0)).slot(Seq(seq))
}

fn key(n: usize) -> RefKey {
    format!("refs/heads/b{n:04}").parse().unwrap()
}

fn value(n: u8) -> RefValue {
    RefValue::Oid(Oid::Sha1([n; 20]))
}

/// A request that moves `refs` from their state in `items`, or creates them.
fn request(seq: u64, refs: std::ops::Range<usize>, items: &[Option<RefItem>], new: u8) -> CommitRequest {
    let command = |n: usize| match items.get(n).cloned().flatten() {
        Some(item) => Command {
            key: key(n),
            old: item.value,
            new: value(new),
            version: item.version.next(),
            predecessor: item.txn,
        },
        None => Command::creation(key(n), value(new)),
    };
    let transaction = Transaction {
        commands: refs.map(command).collect(),
        ..Transaction::empty(slot(seq).txn(seq + 100), site(), project())
    };
    let encoded: Bytes = transaction.encode();
    CommitRequest { transaction, encoded, directories: Vec::new(), freed: Default::default(), lock_token: None }
}

fn site() -> SiteId {
    "site-a".parse().unwrap()
}

fn project() -> ProjectKey {
    "p#1".parse().unwrap()
}

fn long_forms() -> LongForms {
    let blobs = crate::seams::blob::memory::MemoryBlobs::default();
    LongForms::new(Arc::new(blobs), std::path::PathBuf::new(), usize::MAX)
}

/// A refdb in which the incarnation of all slots is open.
async fn world() -> (RefDb, StagedRefs) {
    let raw = MemoryRefDb::new().refdb();
    let epoch = raw.sites.enroll_site(&site(), Role::Active).await.unwrap().epoch;
    let record = IncarnationRecord::open(slot(0).lane.incarnation, site(), epoch, 64, 1);
    raw.incarnations.open_incarnation(&record).await.unwrap();
    let staged = StagedRefs::new(raw.clone(), long_forms(), WRITE_ITEMS, InjectedBugs::default());
    (raw, staged)
}

async fn values(store: &dyn RefStore, refs: std::ops::Range<usize>) -> Vec<(Version, RefValue, bool)> {
    let keys: Vec<RefKey> = refs.map(key).collect();
    let items = store.read(&project(), &keys).await.unwrap();
    let tell = |item: Option<RefItem>| {
        item.map_or((Version::NONE, RefValue::Absent, false), |item| (item.version, item.value, item.lock.is_some()))
    };
    items.into_iter().map(tell).collect()
}

/// Locks every part of a request, as its writer does in the first step.
async fn locks(raw: &RefDb, staged: &StagedRefs, request: &CommitRequest) {
    for part in staged.parts(&request.transaction, &request.freed) {
        assert_eq!(raw.refs.lock(&part).await, Ok(CommitAnswer::Committed));
    }
}

#[tokio::test]
async fn two_thousand_refs_move_together() {
    let (raw, staged) = world().await;
    let first = request(0, 0..2_000, &[], 1);
    assert_eq!(staged.commit(&first).await, Ok(CommitAnswer::Committed));
    assert_eq!(values(raw.refs.as_ref(), 0..2_000).await, vec![(Version(1), value(1), false); 2_000]);
    assert_eq!(staged.commit(&first).await, Ok(CommitAnswer::Committed), "a second copy");
    let items = raw.refs.read(&project(), &(0..2_000).map(key).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(staged.commit(&request(1, 0..2_000, &items, 2)).await, Ok(CommitAnswer::Committed));
    assert_eq!(values(raw.refs.as_ref(), 0..2_000).await, vec![(Version(2), value(2), false); 2_000]);
}

#[tokio::test]
async fn one_stale_ref_of_many_refuses_all_and_leaves_no_lock() {
    let (raw, staged) = world().await;
    assert_eq!(raw.refs.commit(&request(0, 149..150, &[], 9)).await, Ok(CommitAnswer::Committed));
    let answer = staged.commit(&request(1, 0..300, &[], 1)).await;
    let Ok(CommitAnswer::Refused(obstacles)) = answer else { panic!("{answer:?}") };
    assert!(matches!(&obstacles[..], [Obstacle::Stale(item)] if item.key == key(149)), "{obstacles:?}");
    let unlocked = values(raw.refs.as_ref(), 0..300).await.iter().all(|(_, _, locked)| !locked);
    assert!(unlocked && values(raw.refs.as_ref(), 0..1).await[0].1 == RefValue::Absent);
    assert_eq!(raw.journal.slot(&slot(1)).await, Ok(SlotState::Poisoned), "a late copy can do no harm");
}

#[tokio::test]
async fn a_reader_that_meets_the_locks_of_a_committed_transaction_moves_its_refs() {
    let (raw, staged) = world().await;
    let request = request(0, 0..150, &[], 1);
    locks(&raw, &staged, &request).await;
    assert_eq!(values(&staged, 0..1).await, [(Version::NONE, RefValue::Absent, true)], "its fate is open");
    let sealed = raw.refs.seal(&request.transaction.id, &request.encoded).await.unwrap();
    assert!(matches!(sealed, SlotState::Committed(..)));
    assert_eq!(values(&staged, 7..8).await, [(Version(1), value(1), false)]);
    assert_eq!(
        values(raw.refs.as_ref(), 7..9).await,
        [(Version(1), value(1), false), (Version::NONE, RefValue::Absent, true)]
    );
    assert_eq!(values(&staged, 0..150).await, vec![(Version(1), value(1), false); 150]);
}

#[tokio::test]
async fn a_scan_shows_what_is_committed_behind_locks() {
    let (raw, staged) = world().await;
    let request = request(0, 0..150, &[], 1);
    locks(&raw, &staged, &request).await;
    raw.refs.seal(&request.transaction.id, &request.encoded).await.unwrap();
    let page = staged.scan(&project(), Some(&key(99)), 20).await.unwrap();
    assert!(page.len() == 20 && page.iter().all(|item| item.value == value(1) && item.lock.is_none()));
}

#[tokio::test]
async fn a_commit_that_meets_locks_waits_until_their_fate_is_known() {
    let (raw, staged) = world().await;
    let large = request(0, 0..150, &[], 1);
    locks(&raw, &staged, &large).await;
    let small = request(1, 3..4, &[], 2);
    let answer = staged.commit(&small).await;
    let Ok(CommitAnswer::Refused(obstacles)) = answer else { panic!("{answer:?}") };
    assert!(matches!(&obstacles[..], [Obstacle::Locked(_)]), "{obstacles:?}");
    // The owner of the journal poisons slots that stay empty.
    raw.journal.poison(&slot(0)).await.unwrap();
    assert_eq!(staged.commit(&small).await, Ok(CommitAnswer::Conflict), "the lock is gone: try again");
    assert_eq!(staged.commit(&small).await, Ok(CommitAnswer::Committed));
}

#[tokio::test]
async fn a_lock_that_arrives_after_its_slot_was_collected_is_void() {
    let (raw, staged) = world().await;
    // The slot was given to another transaction, which has ended and is collected. Then the lock of the first one
    // arrives.
    let late = request(0, 0..150, &[], 1);
    locks(&raw, &staged, &late).await;
    assert!(values(&staged, 0..1).await[0].2, "nothing shows yet that the slot was occupied");
    raw.incarnations.mark(&site(), &slot(0).lane.incarnation, &[Seq(1)], &[Seq(1)]).await.unwrap();
    assert_eq!(values(&staged, 0..1).await, [(Version::NONE, RefValue::Absent, false)]);
}

#[tokio::test]
async fn a_slot_is_settled_before_it_is_collected() {
    let (raw, staged) = world().await;
    let request = request(0, 0..150, &[], 1);
    locks(&raw, &staged, &request).await;
    raw.refs.seal(&request.transaction.id, &request.encoded).await.unwrap();
    staged.finish(&request.transaction).await.unwrap();
    raw.journal.collect(&[slot(0)]).await.unwrap();
    assert_eq!(values(raw.refs.as_ref(), 0..150).await, vec![(Version(1), value(1), false); 150]);
}

/// The same refdb, with writes of one item each.
async fn single_items() -> (RefDb, StagedRefs) {
    let memory = MemoryRefDb::new();
    memory.write_single_items();
    let raw = memory.refdb();
    let epoch = raw.sites.enroll_site(&site(), Role::Active).await.unwrap().epoch;
    let record = IncarnationRecord::open(slot(0).lane.incarnation, site(), epoch, 64, 1);
    raw.incarnations.open_incarnation(&record).await.unwrap();
    let staged = StagedRefs::new(raw.clone(), long_forms(), WRITE_ITEMS, InjectedBugs::default());
    (raw, staged)
}

#[tokio::test]
async fn without_transactions_one_ref_is_committed_under_its_lock() {
    let (raw, staged) = single_items().await;
    let first = request(0, 0..1, &[], 1);
    assert!(raw.refs.commit(&first).await.is_err(), "one write takes no ref together with the slot");
    assert!(staged.commits_in_steps(&first.transaction));
    assert_eq!(staged.commit(&first).await, Ok(CommitAnswer::Committed));
    assert_eq!(values(raw.refs.as_ref(), 0..1).await, [(Version(1), value(1), false)]);
    let stale = staged.commit(&request(1, 0..1, &[], 2)).await;
    assert!(matches!(stale, Ok(CommitAnswer::Refused(_))), "{stale:?}");
    assert_eq!(raw.journal.slot(&slot(1)).await, Ok(SlotState::Poisoned));
}

#[tokio::test]
async fn without_transactions_every_slot_is_settled_before_it_is_collected() {
    let (raw, staged) = single_items().await;
    let request = request(0, 0..3, &[], 1);
    locks(&raw, &staged, &request).await;
    raw.refs.seal(&request.transaction.id, &request.encoded).await.unwrap();
    // The reader moves the ref that it meets, and the collector the others.
    assert_eq!(values(&staged, 1..2).await, [(Version(1), value(1), false)]);
    assert!(values(raw.refs.as_ref(), 0..1).await[0].2, "it is still locked");
    for _ in 0..2 {
        staged.finish(&request.transaction).await.unwrap();
        assert_eq!(values(raw.refs.as_ref(), 0..3).await, vec![(Version(1), value(1), false); 3]);
    }
}

#[tokio::test]
async fn new_folders_that_do_not_fit_are_marked_before() {
    let (raw, staged) = world().await;
    let mut request = request(0, 0..60, &[], 1);
    request.directories = (0..80).map(|n| format!("refs/heads/d{n:02}").parse().unwrap()).collect();
    assert_eq!(staged.commit(&request).await, Ok(CommitAnswer::Committed));
    let keys: Vec<RefKey> = request.directories.iter().cloned().map(RefKey::Ref).collect();
    let marked = raw.refs.read(&project(), &keys).await.unwrap();
    assert!(marked.iter().all(|item| item.as_ref().is_some_and(|item| item.directory)));
}

async fn put_locks(raw: &RefDb, revision: u64, body: &str) {
    let record = DocumentRecord { revision, body: body.to_owned() };
    assert_eq!(raw.documents.put_document(Document::Locks, &record).await, Ok(record));
}

#[tokio::test]
async fn a_large_transaction_whose_operator_lock_is_gone_commits_nothing_and_leaves_no_lock() {
    let (raw, staged) = world().await;
    put_locks(&raw, 1, &lockstep_proto::locks::held_text("1-aa")).await;
    let under = |request: CommitRequest| CommitRequest { lock_token: Some("1-aa".to_owned()), ..request };
    let first = under(request(0, 0..150, &[], 1));
    assert_eq!(staged.commit(&first).await, Ok(CommitAnswer::Committed));
    let items = raw.refs.read(&project(), &(0..150).map(key).collect::<Vec<_>>()).await.unwrap();
    let late = under(request(1, 0..150, &items, 2));
    locks(&raw, &staged, &late).await;
    put_locks(&raw, 2, "").await;
    assert_eq!(staged.commit(&late).await, Ok(CommitAnswer::Refused(vec![Obstacle::LockNotHeld])));
    assert_eq!(values(raw.refs.as_ref(), 0..150).await, vec![(Version(1), value(1), false); 150]);
    assert_eq!(raw.journal.slot(&slot(1)).await, Ok(SlotState::Poisoned), "a late copy can do no harm");
    assert_eq!(staged.commit(&first).await, Ok(CommitAnswer::Committed), "a late copy after the first one");
}

/// The slot, the refs and the lock are 101 items together: the refdb says so, and the commit stage before it.
#[tokio::test]
async fn a_full_write_has_no_room_for_an_operator_lock() {
    let (raw, staged) = world().await;
    put_locks(&raw, 1, &lockstep_proto::locks::held_text("1-aa")).await;
    let under = |request: CommitRequest| CommitRequest { lock_token: Some("1-aa".to_owned()), ..request };
    let full = staged.commit(&under(request(0, 0..99, &[], 1))).await;
    assert!(matches!(full, Err(RefDbError::Broken(_))), "{full:?}");
    let mut request = under(request(0, 0..98, &[], 1));
    request.directories = vec!["refs/heads/d".parse().unwrap()];
    assert_eq!(staged.commit(&request).await, Ok(CommitAnswer::Committed), "the folder is marked before");
}
