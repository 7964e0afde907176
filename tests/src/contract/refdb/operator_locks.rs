//! Commits under an operator lock: the token is a condition of the write at the commit point. A store that cannot check
//! it there commits nothing under a lock.

use lockstep::seams::refdb::{CommitAnswer, Document, DocumentRecord, Obstacle, SlotState};
use lockstep_proto::Version;
use lockstep_proto::locks::{Lock, LockKind, LockTarget, Locks};

use super::{Db, item, land, landed, project, refuse, try_item, unused};
use crate::build::{Commit, project_name, slot, value};

const MAIN: &str = "refs/heads/main";

/// A lock of the project of most cases.
fn lock(token: &str, held: bool) -> Lock {
    Lock {
        token: token.to_owned(),
        held,
        id: 1,
        kind: LockKind::Lock,
        target: LockTarget::project(project_name("tools/build")),
        owner: "somebody".to_owned(),
        reason: "a test".to_owned(),
        request_id: token.to_owned(),
        by: "uid 0".to_owned(),
        since_ms: 1,
        renewals: 0,
        ttl_ms: None,
        until: None,
    }
}

/// Replaces the list of locks.
async fn put(db: &Db, locks: &[Lock]) {
    let stored = db.documents.document(Document::Locks).await.expect("a read");
    let body = serde_json::to_string(&Locks { locks: locks.to_vec() }).expect("JSON");
    let record = DocumentRecord { revision: stored.map_or(0, |stored| stored.revision) + 1, body };
    assert_eq!(db.documents.put_document(Document::Locks, &record).await, Ok(record));
}

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_store_that_checks_no_locks_commits_nothing_under_one(db: Db) {
        if db.refs.checks_locks() {
            return;
        }
        put(&db, &[lock("1-aa", true)]).await;
        let under = Commit::at(&project(), 0).first(MAIN, value(1)).under("1-aa").request();
        assert_eq!(refuse(&db, &under).await, [Obstacle::LockNotHeld]);
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(unused(&db, &under)));
        let untouched = try_item(&db, MAIN).await;
        assert!(untouched.is_none_or(|item| item.version == Version::NONE && item.lock.is_none()));
        let request = Commit::at(&project(), 1).first(MAIN, value(1)).request();
        let (id, encoded) = (&request.transaction.id, &request.encoded);
        assert_eq!(db.refs.seal_held(id, encoded, "1-aa").await, Ok(SlotState::Empty));
        assert_eq!(db.journal.slot(&slot(1)).await, Ok(SlotState::Empty));
        land(&db, &request).await;
        assert_eq!(db.refs.seal_held(id, encoded, "1-aa").await, Ok(landed(&request)), "the slot is told");
    }

    pub async fn a_commit_under_a_lock_needs_the_lock_to_be_held(db: Db) {
        if !db.refs.checks_locks() {
            return;
        }
        // Each attempt is another transaction in the same slot.
        let under = |attempt, token: &str| {
            Commit::new(&project(), slot(0).txn(attempt)).first(MAIN, value(1)).under(token).request()
        };
        assert_eq!(refuse(&db, &under(1, "1-aa")).await, [Obstacle::LockNotHeld], "there is no list at all");
        put(&db, &[lock("1-aa", false), lock("2-bb", true)]).await;
        for (attempt, token) in (2..).zip(["1-aa", "1-a", "2-b", "bb", ""]) {
            assert_eq!(refuse(&db, &under(attempt, token)).await, [Obstacle::LockNotHeld], "{token}");
        }
        assert_eq!(try_item(&db, MAIN).await, None);
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(SlotState::Empty));
        let held = under(9, "2-bb");
        land(&db, &held).await;
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(landed(&held)));
        // Every obstacle is listed, that of the lock too.
        let late = Commit::at(&project(), 1).first(MAIN, value(1)).under("1-aa").request();
        let stale = refuse(&db, &late).await;
        assert_eq!(stale, [Obstacle::Stale(item(&db, MAIN).await), Obstacle::LockNotHeld]);
    }

    pub async fn of_two_holders_only_the_second_commits_once_the_first_is_broken(db: Db) {
        if !db.refs.checks_locks() {
            return;
        }
        put(&db, &[lock("1-aa", true)]).await;
        let first = Commit::at(&project(), 0).first(MAIN, value(1)).under("1-aa").request();
        land(&db, &first).await;
        let before = item(&db, MAIN).await;
        // The next commit of the first holder is slow. Meanwhile the lock is broken, and somebody else acquires one.
        let late = Commit::at(&project(), 1).step(&before, value(2)).under("1-aa").request();
        put(&db, &[]).await;
        assert_eq!(refuse(&db, &late).await, [Obstacle::LockNotHeld]);
        put(&db, &[lock("3-cc", true)]).await;
        assert_eq!(refuse(&db, &late).await, [Obstacle::LockNotHeld]);
        let second = Commit::at(&project(), 2).step(&before, value(3)).under("3-cc").request();
        land(&db, &second).await;
        let refused = refuse(&db, &late).await;
        assert!(refused.contains(&Obstacle::LockNotHeld), "{refused:?}");
        let now = item(&db, MAIN).await;
        assert_eq!((now.version, now.value), (Version(2), value(3)));
        assert_eq!(db.journal.slot(&slot(1)).await, Ok(SlotState::Empty));
    }

    pub async fn a_copy_that_comes_after_the_lock_was_broken_is_told_that_it_landed(db: Db) {
        if !db.refs.checks_locks() {
            return;
        }
        put(&db, &[lock("1-aa", true)]).await;
        let request = Commit::at(&project(), 0).first(MAIN, value(1)).under("1-aa").request();
        land(&db, &request).await;
        put(&db, &[]).await;
        match db.refs.commit(&request).await {
            // A refdb that remembers requests repeats its answer.
            Ok(CommitAnswer::Committed) => {}
            Ok(CommitAnswer::Refused(obstacles)) => assert_eq!(obstacles, [Obstacle::Slot(landed(&request))]),
            other => panic!("{other:?}"),
        }
        assert_eq!(item(&db, MAIN).await.version, Version(1));
    }

    pub async fn a_transaction_under_ref_locks_is_sealed_only_while_the_lock_is_held(db: Db) {
        if !db.refs.checks_locks() {
            return;
        }
        let request = Commit::at(&project(), 0).first(MAIN, value(1)).request();
        let (id, encoded) = (&request.transaction.id, &request.encoded);
        assert_eq!(db.refs.seal_held(id, encoded, "1-aa").await, Ok(SlotState::Empty));
        put(&db, &[lock("1-aa", true)]).await;
        assert_eq!(db.refs.seal_held(id, encoded, "2-bb").await, Ok(SlotState::Empty));
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(SlotState::Empty));
        assert_eq!(db.refs.seal_held(id, encoded, "1-aa").await, Ok(landed(&request)));
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(landed(&request)));
        put(&db, &[]).await;
        assert_eq!(db.refs.seal_held(id, encoded, "1-aa").await, Ok(landed(&request)), "a later copy hears the slot");
        assert_eq!(db.journal.poison(&slot(1)).await, Ok(SlotState::Poisoned));
        let other = Commit::at(&project(), 1).first("refs/heads/x", value(2)).request();
        put(&db, &[lock("3-cc", true)]).await;
        let sealed = db.refs.seal_held(&other.transaction.id, &other.encoded, "3-cc").await;
        assert_eq!(sealed, Ok(SlotState::Poisoned));
    }

    pub async fn of_a_break_and_a_commit_at_once_either_is_first(db: Db) {
        if !db.refs.checks_locks() {
            return;
        }
        for seq in 0..8 {
            let (token, name) = (format!("{seq}-aa"), format!("refs/heads/b{seq}"));
            put(&db, &[lock(&token, true)]).await;
            let request = Commit::at(&project(), seq).first(&name, value(1)).under(&token).request();
            let (committed, ()) = tokio::join!(db.refs.commit(&request), put(&db, &[]));
            let is_there = try_item(&db, &name).await.is_some_and(|item| item.version == Version(1));
            match committed {
                Ok(CommitAnswer::Committed) => assert!(is_there),
                Ok(CommitAnswer::Refused(obstacles)) => {
                    assert_eq!((is_there, obstacles), (false, vec![Obstacle::LockNotHeld]));
                }
                Ok(CommitAnswer::Conflict) => assert!(!is_there),
                Err(error) => panic!("{error}"),
            }
            let again = db.refs.commit(&request).await;
            let is_refused = matches!(again, Ok(CommitAnswer::Refused(_)));
            assert!(is_refused || is_there, "after the break nothing more lands: {again:?}");
        }
    }
}

pub use cases::*;
