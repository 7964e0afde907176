//! The meaning of a cancellation, reason by reason. The emulators give neither conflicts nor throttling.

use lockstep_proto::{Oid, RefValue, Transaction, Version};

use super::super::items::Item;
use super::*;

const OWN: &str = "node-a.1.0.0.00000000000000aa";
const OTHER: &str = "node-b.1.0.0.00000000000000bb";

/// Creates `refs/heads/a/b` and marks `refs/heads/a`: three items, slot first.
fn request() -> CommitRequest {
    let key = "refs/heads/a/b".parse().expect("a key");
    let command = Command::creation(key, RefValue::Oid(Oid::Sha1([1; 20])));
    let transaction = Transaction {
        commands: vec![command],
        ..Transaction::empty(
            OWN.parse().expect("an id"),
            "site-a".parse().expect("a site"),
            "tools#1".parse().expect("a project"),
        )
    };
    let directories = vec!["refs/heads/a".parse().expect("a name")];
    let (freed, lock_token) = (Default::default(), None);
    CommitRequest { transaction, encoded: Bytes::from_static(b"encoded"), directories, freed, lock_token }
}

fn reason(code: &str) -> CancellationReason {
    CancellationReason::builder().code(code).build()
}

fn met<const N: usize>(item: [(&str, AttributeValue); N]) -> CancellationReason {
    let item: Item = item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    CancellationReason::builder().code("ConditionalCheckFailed").set_item(Some(item)).build()
}

fn committed_by(txn: &str) -> CancellationReason {
    met([("ver", number(1)), ("val", text(RefValue::Oid(Oid::Sha1([2; 20])))), ("txn", text(txn))])
}

fn answer(reasons: [CancellationReason; 3]) -> Result<CommitAnswer, RefDbError> {
    read_reasons(&request(), &reasons)
}

#[test]
fn a_conflict_is_a_conflict_only_without_a_definite_obstacle() {
    let conflict = || reason("TransactionConflict");
    assert_eq!(answer([reason("None"), conflict(), reason("None")]), Ok(CommitAnswer::Conflict));
    assert_eq!(answer([conflict(), reason("ThrottlingError"), reason("None")]), Ok(CommitAnswer::Conflict));
    let refused = answer([conflict(), committed_by(OTHER), reason("None")]);
    let Ok(CommitAnswer::Refused(obstacles)) = refused else { panic!("{refused:?}") };
    assert!(matches!(&obstacles[..], [Obstacle::Stale(item)] if item.version == Version(1)), "{obstacles:?}");
}

#[test]
fn an_own_trace_in_an_item_says_that_the_slot_is_ours() {
    let request = request();
    let own = Obstacle::Slot(SlotState::Committed(request.transaction.id, request.encoded));
    let conflict = reason("TransactionConflict");
    assert_eq!(answer([conflict, committed_by(OWN), reason("None")]), Ok(CommitAnswer::Refused(vec![own])));
}

#[test]
fn the_last_reason_of_a_commit_under_an_operator_lock_is_that_of_the_lock() {
    let request = CommitRequest { lock_token: Some("7-aa".to_owned()), ..request() };
    let (none, failed) = (|| reason("None"), || reason("ConditionalCheckFailed"));
    let lost = read_reasons(&request, &[none(), none(), none(), failed()]);
    assert_eq!(lost, Ok(CommitAnswer::Refused(vec![Obstacle::LockNotHeld])));
    let renewed = read_reasons(&request, &[none(), none(), none(), reason("TransactionConflict")]);
    assert_eq!(renewed, Ok(CommitAnswer::Conflict), "somebody changes the list of locks");
    // An earlier copy landed while the lock was held.
    let landed = read_reasons(&request, &[none(), committed_by(OWN), none(), failed()]);
    let own = Obstacle::Slot(SlotState::Committed(request.transaction.id.clone(), request.encoded.clone()));
    assert_eq!(landed, Ok(CommitAnswer::Refused(vec![own])));
}

#[test]
fn a_lock_is_an_obstacle_of_its_own() {
    let locked = answer([reason("None"), met([("lck", text(OTHER))]), reason("None")]);
    let Ok(CommitAnswer::Refused(obstacles)) = locked else { panic!("{locked:?}") };
    let [Obstacle::Locked(item)] = &obstacles[..] else { panic!("{obstacles:?}") };
    assert_eq!(item.lock.as_ref().map(TxnId::to_string).as_deref(), Some(OTHER));
}

#[test]
fn throttling_passes_and_refused_access_does_not() {
    let throttled = answer([reason("None"), reason("ThrottlingError"), reason("None")]);
    assert!(matches!(throttled, Err(RefDbError::NotNow(_))), "{throttled:?}");
    let refused = answer([reason("None"), reason("AccessDenied"), reason("ThrottlingError")]);
    assert!(matches!(refused, Err(RefDbError::Broken(_))), "{refused:?}");
}

#[test]
fn a_malformed_item_is_broken_and_not_absent() {
    let half = answer([reason("None"), met([("ver", number(3))]), reason("None")]);
    assert!(matches!(half, Err(RefDbError::Broken(_))), "{half:?}");
    let strange = answer([met([("txn", text("nonsense"))]), reason("None"), reason("None")]);
    assert!(matches!(strange, Err(RefDbError::Broken(_))), "{strange:?}");
}

#[test]
fn a_token_is_short_and_names_the_attempt() {
    let own: TxnId = OWN.parse().expect("an id");
    let mut again = own.clone();
    again.attempt += 1;
    assert_eq!(token(&own), token(&own.clone()));
    assert_ne!(token(&own), token(&again));
    assert!(token(&own).len() <= 36);
}
