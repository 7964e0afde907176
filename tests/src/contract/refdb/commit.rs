//! The commit point: a batch commits as a whole or not at all, only on its exact predecessors, and only once.

use futures::future::join_all;
use lockstep::seams::refdb::{CommitAnswer, Obstacle, RefDbError, SlotState};
use lockstep_proto::{Command, ProjectPhase, ProjectState, RefValue, Version};

use super::{Db, item, land, landed, project, refuse, try_item, unused};
use crate::build::{self, Commit, key, ref_name, slot, value};

const MAIN: &str = "refs/heads/main";
const NEXT: &str = "refs/heads/next";

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_commit_writes_every_ref_and_the_slot(db: Db) {
        let request = Commit::at(&project(), 0).first(MAIN, value(1)).first(NEXT, value(2)).request();
        land(&db, &request).await;
        for (name, wanted) in [(MAIN, value(1)), (NEXT, value(2))] {
            let found = item(&db, name).await;
            assert_eq!((found.key.clone(), found.version, found.value.clone()), (key(name), Version(1), wanted));
            assert_eq!(found.txn.as_ref(), Some(&request.transaction.id));
            assert!(!found.directory && found.lock.is_none());
        }
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(landed(&request)));
    }

    pub async fn one_stale_ref_refuses_the_whole_batch(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).first(NEXT, value(1)).request()).await;
        let (main, next) = (item(&db, MAIN).await, item(&db, NEXT).await);
        land(&db, &Commit::at(&project(), 1).step(&next, value(2)).request()).await;
        let moved = item(&db, NEXT).await;
        let batch =
            Commit::at(&project(), 2).step(&main, value(3)).step(&next, value(3)).first("refs/heads/x", value(3));
        let batch = batch.request();
        assert_eq!(refuse(&db, &batch).await, [Obstacle::Stale(moved.clone())]);
        assert_eq!(item(&db, MAIN).await, main);
        assert_eq!(item(&db, NEXT).await, moved);
        let untouched = try_item(&db, "refs/heads/x").await;
        assert!(untouched.is_none_or(|item| item.version == Version::NONE && item.lock.is_none()));
        assert_eq!(db.journal.slot(&slot(2)).await, Ok(unused(&db, &batch)));
    }

    pub async fn every_obstacle_is_listed(db: Db) {
        let below = Commit::at(&project(), 0).first("refs/heads/a/b", value(1)).directory("refs/heads/a");
        land(&db, &below.request()).await;
        land(&db, &Commit::at(&project(), 1).first(MAIN, value(1)).first("refs/heads/live", value(1)).request()).await;
        let other = db.journal.slot(&slot(1)).await.expect("a slot");
        let batch = Commit::new(&project(), slot(1).txn(5))
            .first(MAIN, value(2))
            .first("refs/heads/a", value(2))
            .first("refs/heads/live/x", value(2))
            .directory("refs/heads/live");
        let batch = batch.request();
        let found = refuse(&db, &batch).await;
        let stale = item(&db, MAIN).await;
        let mut wanted = vec![Obstacle::Stale(stale), Obstacle::IsDirectory(ref_name("refs/heads/a"))];
        // A commit in steps locks the refs first. It does not come to the directories and the slot.
        if !db.refs.commits_in_steps(&batch.transaction) {
            wanted.extend([Obstacle::Slot(other), Obstacle::PrefixIsLive(ref_name("refs/heads/live"))]);
        }
        for wanted in &wanted {
            assert!(found.contains(wanted), "{wanted:?} is not among {found:?}");
        }
        assert_eq!(found.len(), wanted.len(), "{found:?}");
    }

    pub async fn a_value_that_came_back_is_refused_by_its_version(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).request()).await;
        let seen = item(&db, MAIN).await;
        land(&db, &Commit::at(&project(), 1).step(&seen, value(2)).request()).await;
        let between = item(&db, MAIN).await;
        land(&db, &Commit::at(&project(), 2).step(&between, value(1)).request()).await;
        let now = item(&db, MAIN).await;
        assert_eq!((&now.value, now.version), (&seen.value, Version(3)));
        let late = Commit::at(&project(), 3).step(&seen, value(4)).request();
        assert_eq!(refuse(&db, &late).await, [Obstacle::Stale(now.clone())]);
        assert_eq!(item(&db, MAIN).await, now);
    }

    pub async fn the_same_version_of_another_transaction_is_stale(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).request()).await;
        let now = item(&db, MAIN).await;
        let mut wrong = now.clone();
        wrong.txn = Some(slot(9).txn(9));
        let request = Commit::at(&project(), 1).step(&wrong, value(2)).request();
        assert_eq!(refuse(&db, &request).await, [Obstacle::Stale(now)]);
    }

    pub async fn a_wrong_old_value_is_stale(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).request()).await;
        let now = item(&db, MAIN).await;
        let mut wrong = now.clone();
        wrong.value = value(9);
        let request = Commit::at(&project(), 1).step(&wrong, value(2)).request();
        assert_eq!(refuse(&db, &request).await, [Obstacle::Stale(now)]);
    }

    pub async fn a_first_version_meets_a_live_ref(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).request()).await;
        let now = item(&db, MAIN).await;
        let request = Commit::at(&project(), 1).first(MAIN, value(2)).request();
        assert_eq!(refuse(&db, &request).await, [Obstacle::Stale(now)]);
    }

    pub async fn a_later_version_meets_no_item(db: Db) {
        let command = Command {
            key: key(MAIN),
            old: value(1),
            new: value(2),
            version: Version(2),
            predecessor: Some(slot(7).txn(7)),
        };
        let found = refuse(&db, &Commit::at(&project(), 0).command(command).request()).await;
        let [Obstacle::Stale(none)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((none.version, &none.value, &none.txn), (Version::NONE, &RefValue::Absent, &None));
        assert_eq!(try_item(&db, MAIN).await, None);
    }

    pub async fn a_tombstone_keeps_its_version_and_creation_continues_it(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).request()).await;
        let live = item(&db, MAIN).await;
        land(&db, &Commit::at(&project(), 1).step(&live, RefValue::Absent).request()).await;
        let tombstone = item(&db, MAIN).await;
        assert_eq!((tombstone.version, &tombstone.value), (Version(2), &RefValue::Absent));
        let anew = Commit::at(&project(), 2).first(MAIN, value(3)).request();
        assert_eq!(refuse(&db, &anew).await, [Obstacle::Stale(tombstone.clone())]);
        land(&db, &Commit::at(&project(), 3).step(&tombstone, value(3)).request()).await;
        let again = item(&db, MAIN).await;
        assert_eq!((again.version, again.value), (Version(3), value(3)));
    }

    pub async fn a_second_copy_never_commits_twice(db: Db) {
        let request = Commit::at(&project(), 0).first(MAIN, value(1)).request();
        land(&db, &request).await;
        let once = item(&db, MAIN).await;
        landed_before(db.refs.commit(&request).await, Obstacle::Slot(landed(&request)));
        assert_eq!(item(&db, MAIN).await, once);
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(landed(&request)));
    }

    pub async fn a_copy_that_comes_after_its_successor_changes_nothing(db: Db) {
        let request = Commit::at(&project(), 0).first(MAIN, value(1)).request();
        land(&db, &request).await;
        let first = item(&db, MAIN).await;
        land(&db, &Commit::at(&project(), 1).step(&first, value(2)).request()).await;
        let now = item(&db, MAIN).await;
        landed_before(db.refs.commit(&request).await, Obstacle::Slot(landed(&request)));
        assert_eq!(item(&db, MAIN).await, now);
    }

    pub async fn of_concurrent_commits_on_one_ref_exactly_one_wins(db: Db) {
        let requests: Vec<_> =
            (0..8).map(|n| Commit::at(&project(), u64::from(n)).first(MAIN, value(n + 1)).request()).collect();
        let answers = join_all(requests.iter().map(|request| db.refs.commit(request))).await;
        let won: Vec<usize> = (0..8).filter(|n| answers[*n] == Ok(CommitAnswer::Committed)).collect();
        let [winner] = won[..] else { panic!("{answers:?}") };
        let now = item(&db, MAIN).await;
        assert_eq!(now.txn.as_ref(), Some(&requests[winner].transaction.id));
        assert_eq!(now.version, Version(1));
        for (n, answer) in answers.iter().enumerate().filter(|(n, _)| *n != winner) {
            let slot = db.journal.slot(&slot(n as u64)).await;
            let lost = match answer {
                Ok(CommitAnswer::Conflict) => slot == Ok(SlotState::Empty),
                Ok(CommitAnswer::Refused(obstacles)) => {
                    let is_locked = matches!(&obstacles[..], [Obstacle::Locked(_)]);
                    let is_stale = *obstacles == [Obstacle::Stale(now.clone())];
                    slot == Ok(unused(&db, &requests[n]))
                        && (is_stale || (is_locked && db.refs.commits_in_steps(&requests[n].transaction)))
                }
                _ => false,
            };
            assert!(lost, "{answer:?}, {slot:?}");
        }
    }

    pub async fn of_crossing_batches_none_is_halved(db: Db) {
        let requests: Vec<_> = (0..6)
            .map(|n| {
                let (one, two) = if n % 2 == 0 { (MAIN, NEXT) } else { (NEXT, MAIN) };
                Commit::at(&project(), u64::from(n)).first(one, value(n + 1)).first(two, value(n + 1)).request()
            })
            .collect();
        let answers = join_all(requests.iter().map(|request| db.refs.commit(request))).await;
        let won = answers.iter().filter(|answer| **answer == Ok(CommitAnswer::Committed)).count();
        // Commits in steps may stand in each other's way, and then all are refused.
        let least = usize::from(!db.refs.commits_in_steps(&requests[0].transaction));
        assert!((least..=1).contains(&won), "{answers:?}");
        let txn = async |name: &str| try_item(&db, name).await.and_then(|item| item.txn);
        assert_eq!(txn(MAIN).await, txn(NEXT).await);
    }

    pub async fn a_batch_of_fifty_refs(db: Db) {
        batch(&db, 50, 0).await;
    }

    pub async fn the_largest_batch(db: Db) {
        batch(&db, 99, 0).await;
        batch(&db, 60, 39).await;
    }

    pub async fn a_malformed_request_is_broken_and_changes_nothing(db: Db) {
        let empty = Commit::at(&project(), 0);
        let twice = empty.clone().first(MAIN, value(1)).first(MAIN, value(2));
        let own_directory = empty.clone().first(MAIN, value(1)).directory(MAIN);
        let too_many = (0..100).fold(empty.clone(), |commit, n| commit.first(&format!("refs/heads/r{n}"), value(1)));
        let no_predecessor = empty.clone().command(Command {
            key: key(MAIN),
            old: value(1),
            new: value(2),
            version: Version(2),
            predecessor: None,
        });
        for request in [empty, twice, own_directory, too_many, no_predecessor].map(Commit::request) {
            // No transaction in steps has too many commands for one write.
            if request.transaction.commands.len() > 2 && db.refs.commits_in_steps(&request.transaction) {
                continue;
            }
            let answer = db.refs.commit(&request).await;
            assert!(matches!(answer, Err(RefDbError::Broken(_))), "{answer:?}");
        }
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(SlotState::Empty));
        assert_eq!(db.refs.scan(&project(), None, 10).await, Ok(Vec::new()));
    }

    pub async fn pseudo_refs_are_in_the_same_chain(db: Db) {
        let state = |phase| RefValue::State(ProjectState { phase, incarnation: 1 });
        let head = RefValue::Symref(ref_name(MAIN));
        let created = Commit::at(&project(), 0)
            .first("@state", state(ProjectPhase::Active))
            .first("@HEAD", head.clone())
            .first(MAIN, value(1));
        land(&db, &created.request()).await;
        assert_eq!(item(&db, "@HEAD").await.value, head);
        let active = item(&db, "@state").await;
        assert_eq!(active.value, state(ProjectPhase::Active));
        land(&db, &Commit::at(&project(), 1).step(&active, state(ProjectPhase::Closing)).request()).await;
        let closing = item(&db, "@state").await;
        assert_eq!((closing.version, &closing.value), (Version(2), &state(ProjectPhase::Closing)));
        let late = Commit::at(&project(), 2).step(&active, state(ProjectPhase::ReadOnly)).request();
        assert_eq!(refuse(&db, &late).await, [Obstacle::Stale(closing)]);
    }

    pub async fn projects_and_their_incarnations_do_not_touch(db: Db) {
        let others = ["tools/build#2", "tools#1", "tools/build/x#1"].map(build::project);
        land(&db, &Commit::at(&project(), 0).first(MAIN, value(1)).request()).await;
        for (n, other) in others.iter().enumerate() {
            assert_eq!(db.refs.read(other, &[key(MAIN)]).await, Ok(vec![None]));
            assert_eq!(db.refs.scan(other, None, 10).await, Ok(Vec::new()));
            land(&db, &Commit::at(other, n as u64 + 1).first(MAIN, value(2)).request()).await;
        }
        assert_eq!(item(&db, MAIN).await.value, value(1));
    }
}
pub use cases::*;

/// Checks the answer to a copy of a transaction whose earlier copy landed: either the slot as an obstacle, or the same
/// answer as to the first copy.
fn landed_before(answer: Result<CommitAnswer, RefDbError>, slot: Obstacle) {
    let known = answer == Ok(CommitAnswer::Committed) || answer == Ok(CommitAnswer::Refused(vec![slot]));
    assert!(known, "{answer:?}");
}

/// Commits a batch of `commands` creations and `directories` marks, then checks that one stale ref refuses the whole
/// next batch.
async fn batch(db: &Db, commands: u64, directories: u64) {
    let seq = commands * 10;
    let name = |n: u64| format!("refs/heads/b{commands}/r{n:03}");
    let create = |commit: Commit, n| commit.first(&name(n), value(1));
    let mark = |commit: Commit, n| commit.directory(&format!("refs/heads/b{commands}/d{n:03}"));
    let commit = (0..commands).fold(Commit::at(&project(), seq), create);
    let request = (0..directories).fold(commit, mark).request();
    land(db, &request).await;
    let keys: Vec<_> = (0..commands).map(|n| key(&name(n))).collect();
    let items = db.refs.read(&project(), &keys).await.expect("a read");
    let items: Vec<_> = items.into_iter().map(|item| item.expect("an item")).collect();
    assert!(items.iter().all(|item| item.txn.as_ref() == Some(&request.transaction.id)));
    land(db, &Commit::at(&project(), seq + 1).step(&items[7], value(2)).request()).await;
    let all = items.iter().fold(Commit::at(&project(), seq + 2), |commit, item| commit.step(item, value(3)));
    let stale = item(db, &name(7)).await;
    assert_eq!(refuse(db, &all.request()).await, [Obstacle::Stale(stale)]);
    assert_eq!(item(db, &name(8)).await, items[8]);
}
