//! Transactions under locks: each step by itself, and each step twice.

use lockstep::seams::refdb::{CommitAnswer, CommitRequest, Obstacle, Part, RefDbError, RefItem, SlotState};
use lockstep_proto::{RefKey, RefValue, Version};

use super::{Db, item, land, landed, project, refuse, try_item};
use crate::build::{Commit, key, ref_name, slot, value};

const MAIN: &str = "refs/heads/main";
const NEXT: &str = "refs/heads/next";

/// The whole request as one part.
fn part(request: &CommitRequest) -> Part {
    let transaction = &request.transaction;
    Part {
        txn: transaction.id.clone(),
        project: transaction.project.clone(),
        commands: transaction.commands.clone(),
        directories: request.directories.clone(),
        freed: request.freed.clone(),
        loosens: transaction.loosens,
    }
}

/// Cuts a part into parts of one item if one write takes no more.
fn parts(db: &Db, part: Part) -> Vec<Part> {
    if db.refs.write_items() > 1 {
        return vec![part];
    }
    let none = Part { commands: Vec::new(), directories: Vec::new(), ..part.clone() };
    let commands = part.commands.into_iter().map(|command| Part { commands: vec![command], ..none.clone() });
    let directories = part.directories.into_iter().map(|name| Part { directories: vec![name], ..none.clone() });
    commands.chain(directories).collect()
}

async fn lock(db: &Db, part: Part) {
    for part in parts(db, part) {
        assert_eq!(db.refs.lock(&part).await, Ok(CommitAnswer::Committed), "{part:?}");
    }
}

async fn not_locked(db: &Db, request: &CommitRequest) -> Vec<Obstacle> {
    let mut met = Vec::new();
    for part in parts(db, part(request)) {
        match db.refs.lock(&part).await {
            Ok(CommitAnswer::Refused(obstacles)) => met.extend(obstacles),
            Ok(CommitAnswer::Committed) if db.refs.write_items() == 1 => {}
            other => panic!("expected a refusal, got {other:?}: {request:?}"),
        }
    }
    assert!(!met.is_empty(), "nothing was refused: {request:?}");
    met
}

/// The item with the lock of a request, otherwise unchanged.
fn locked(item: &RefItem, by: &CommitRequest) -> RefItem {
    RefItem { lock: Some(by.transaction.id.clone()), ..item.clone() }
}

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_lock_is_what_stands_in_everybody_elses_way(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).request()).await;
        let before = item(&db, MAIN).await;
        let own = Commit::at(&project(), 1).step(&before, value(2)).request();
        lock(&db, part(&own)).await;
        lock(&db, part(&own)).await;
        let now = item(&db, MAIN).await;
        assert_eq!(now, locked(&before, &own));
        let other = Commit::at(&project(), 2).step(&before, value(3)).request();
        assert_eq!(refuse(&db, &other).await, [Obstacle::Locked(now.clone())]);
        // A command that builds on the result of the locked transaction meets the lock too: the outcome of that
        // transaction is not known yet.
        let ahead = RefItem { version: before.version.next(), txn: Some(own.transaction.id.clone()), ..before.clone() };
        let ahead = Commit::at(&project(), 3).step(&ahead, value(4)).request();
        assert_eq!(refuse(&db, &ahead).await, [Obstacle::Locked(now.clone())]);
        assert_eq!(not_locked(&db, &other).await, [Obstacle::Locked(now.clone())]);
        assert_eq!(db.refs.scan(&project(), None, 10).await, Ok(vec![now]));
        assert_eq!(db.journal.slot(&slot(1)).await, Ok(SlotState::Empty));
    }

    pub async fn a_part_is_locked_whole_or_not_at_all(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).request()).await;
        let main = item(&db, MAIN).await;
        let stale = Commit::at(&project(), 1).first(MAIN, value(2)).first(NEXT, value(2)).directory("refs/heads/x");
        let stale = stale.request();
        if db.refs.write_items() == 1 {
            let answer = db.refs.lock(&part(&stale)).await;
            assert!(matches!(answer, Err(RefDbError::Broken(_))), "a part has one item: {answer:?}");
        } else {
            assert_eq!(not_locked(&db, &stale).await, [Obstacle::Stale(main.clone())]);
        }
        assert_eq!(item(&db, MAIN).await, main);
        assert_eq!(try_item(&db, NEXT).await, None);
        assert_eq!(try_item(&db, "refs/heads/x").await, None);
    }

    pub async fn a_lock_asks_for_what_its_command_builds_on(db: Db) {
        let below = Commit::at(&project(), 0).first("refs/heads/a/b", value(1)).directory("refs/heads/a");
        land(&db, &below.request()).await;
        land(&db, &Commit::at(&project(), 1).first(MAIN, value(1)).request()).await;
        let first = item(&db, MAIN).await;
        land(&db, &Commit::at(&project(), 2).step(&first, value(2)).request()).await;
        let second = item(&db, MAIN).await;
        let late = Commit::at(&project(), 3).step(&first, value(3)).first("refs/heads/a", value(3)).request();
        let found = not_locked(&db, &late).await;
        assert_eq!(found, [Obstacle::Stale(second), Obstacle::IsDirectory(ref_name("refs/heads/a"))]);
    }

    pub async fn a_locked_name_becomes_no_directory(db: Db) {
        let above = Commit::at(&project(), 0).first("refs/heads/a", value(1)).request();
        lock(&db, part(&above)).await;
        let held = item(&db, "refs/heads/a").await;
        let below = Commit::at(&project(), 1).first("refs/heads/a/b", value(2)).directory("refs/heads/a").request();
        assert_eq!(refuse(&db, &below).await, [Obstacle::Locked(held.clone())]);
        assert_eq!(not_locked(&db, &below).await, [Obstacle::Locked(held)]);
        assert!(try_item(&db, "refs/heads/a/b").await.is_none_or(|item| item.version == Version::NONE));
        db.refs.release(&project(), &above.transaction.id, &[key("refs/heads/a")]).await.expect("a release");
        lock(&db, part(&below)).await;
        assert!(item(&db, "refs/heads/a").await.directory);
        assert_eq!(refuse(&db, &above).await, [Obstacle::IsDirectory(ref_name("refs/heads/a"))]);
    }

    pub async fn a_locked_ref_may_be_about_to_go(db: Db) {
        land(&db, &Commit::at(&project(), 0).first("refs/heads/a", value(1)).request()).await;
        let live = item(&db, "refs/heads/a").await;
        lock(&db, part(&Commit::at(&project(), 1).step(&live, RefValue::Absent).request())).await;
        let held = item(&db, "refs/heads/a").await;
        let below = Commit::at(&project(), 2).first("refs/heads/a/b", value(2)).directory("refs/heads/a").request();
        assert_eq!(refuse(&db, &below).await, [Obstacle::Locked(held)], "the obstacle is the lock, not a live ref");
    }

    pub async fn a_seal_is_the_commit_point_once(db: Db) {
        let request = Commit::at(&project(), 0).first(MAIN, value(1)).request();
        let sealed = landed(&request);
        assert_eq!(db.refs.seal(&request.transaction.id, &request.encoded).await, Ok(sealed.clone()));
        assert_eq!(db.refs.seal(&request.transaction.id, &request.encoded).await, Ok(sealed.clone()));
        let other = Commit::new(&project(), slot(0).txn(9)).first(MAIN, value(2)).request();
        assert_eq!(db.refs.seal(&other.transaction.id, &other.encoded).await, Ok(sealed.clone()));
        assert_eq!(db.journal.poison(&slot(0)).await, Ok(sealed.clone()));
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(sealed));
        assert_eq!(try_item(&db, MAIN).await, None, "a seal touches no ref");
        assert_eq!(db.journal.poison(&slot(1)).await, Ok(SlotState::Poisoned));
        let late = Commit::at(&project(), 1).first(MAIN, value(1)).request();
        assert_eq!(db.refs.seal(&late.transaction.id, &late.encoded).await, Ok(SlotState::Poisoned));
    }

    pub async fn a_flip_moves_what_carries_the_lock_and_nothing_else(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(NEXT, value(1)).request()).await;
        let (next, deleted) = (item(&db, NEXT).await, RefValue::Absent);
        let own = Commit::at(&project(), 1).first(MAIN, value(2)).step(&next, deleted).first("refs/heads/x", value(2));
        let own = own.request();
        // Two of the three refs are locked. Another transaction has moved the third one.
        let two = Part { commands: own.transaction.commands[..2].to_vec(), ..part(&own) };
        lock(&db, two).await;
        land(&db, &Commit::at(&project(), 2).first("refs/heads/x", value(3)).request()).await;
        let moved_on = item(&db, "refs/heads/x").await;
        for _ in 0..2 {
            assert_eq!(db.refs.flip(&part(&own)).await, Ok(()));
            for (name, value, version) in [(MAIN, value(2), Version(1)), (NEXT, RefValue::Absent, Version(2))] {
                let now = item(&db, name).await;
                assert_eq!((now.value, now.version, now.lock), (value, version, None), "{name}");
                assert_eq!(now.txn.as_ref(), Some(&own.transaction.id));
            }
            assert_eq!(item(&db, "refs/heads/x").await, moved_on);
        }
        assert_eq!(not_locked(&db, &own).await.len(), 3, "a late copy of the lock meets newer versions");
    }

    pub async fn a_released_ref_is_what_it_was(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).request()).await;
        let before = item(&db, MAIN).await;
        let own = Commit::at(&project(), 1).step(&before, value(2)).first(NEXT, value(2)).request();
        lock(&db, part(&own)).await;
        let keys: Vec<RefKey> = [MAIN, NEXT, "refs/heads/never"].map(key).to_vec();
        let other = slot(7).txn(7);
        assert_eq!(db.refs.release(&project(), &other, &keys).await, Ok(()));
        assert_eq!(item(&db, MAIN).await, locked(&before, &own), "another transaction's lock stays");
        for _ in 0..2 {
            assert_eq!(db.refs.release(&project(), &own.transaction.id, &keys).await, Ok(()));
            assert_eq!(item(&db, MAIN).await, before);
        }
        assert_eq!(try_item(&db, "refs/heads/never").await, None);
        land(&db, &Commit::at(&project(), 2).step(&before, value(3)).first(NEXT, value(3)).request()).await;
    }

    pub async fn a_part_of_the_wrong_size_is_broken(db: Db) {
        let many = |count| {
            let all =
                (0..count).fold(Commit::at(&project(), 0), |all, n| all.first(&format!("refs/tags/{n}"), value(1)));
            part(&all.request())
        };
        let most = db.refs.write_items();
        for wrong in [many(0), many(most + 1)] {
            let answer = db.refs.lock(&wrong).await;
            assert!(matches!(answer, Err(RefDbError::Broken(_))), "{answer:?}");
        }
        assert_eq!(db.refs.scan(&project(), None, 10).await, Ok(Vec::new()));
        assert_eq!(db.refs.lock(&many(most)).await, Ok(CommitAnswer::Committed));
        assert_eq!(db.refs.flip(&many(most)).await, Ok(()));
        assert_eq!(item(&db, &format!("refs/tags/{}", most - 1)).await.version, Version(1));
    }
}

pub use cases::*;
