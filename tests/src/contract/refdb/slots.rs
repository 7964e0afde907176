//! The slots of the journal: a slot is occupied once, and poison stays for ever.

use futures::future::join;
use lockstep::seams::refdb::{CommitAnswer, Obstacle, RefItem, SlotState};
use lockstep_proto::Version;

use super::{Db, item, land, landed, project, refuse, try_item};
use crate::build::{Commit, slot, value};

const MAIN: &str = "refs/heads/main";

/// Whether a ref was never moved, and is free. A commit in steps may have left an item without a version.
fn is_untouched(item: Option<RefItem>) -> bool {
    item.is_none_or(|item| item.version == Version::NONE && item.lock.is_none())
}

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_slot_is_empty_then_committed(db: Db) {
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(SlotState::Empty));
        let request = Commit::at(&project(), 0).first(MAIN, value(1)).request();
        land(&db, &request).await;
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(landed(&request)));
        assert_eq!(db.journal.slot(&slot(1)).await, Ok(SlotState::Empty));
    }

    pub async fn poison_takes_an_empty_slot_for_ever(db: Db) {
        assert_eq!(db.journal.poison(&slot(0)).await, Ok(SlotState::Poisoned));
        assert_eq!(db.journal.poison(&slot(0)).await, Ok(SlotState::Poisoned));
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(SlotState::Poisoned));
    }

    pub async fn poison_does_not_touch_a_committed_slot(db: Db) {
        let request = Commit::at(&project(), 0).first(MAIN, value(1)).request();
        land(&db, &request).await;
        assert_eq!(db.journal.poison(&slot(0)).await, Ok(landed(&request)));
        assert_eq!(db.journal.slot(&slot(0)).await, Ok(landed(&request)));
    }

    pub async fn a_commit_into_a_poisoned_slot_is_refused(db: Db) {
        db.journal.poison(&slot(0)).await.expect("poison");
        let late = Commit::at(&project(), 0).first(MAIN, value(1)).request();
        for _ in 0..2 {
            assert_eq!(refuse(&db, &late).await, [Obstacle::Slot(SlotState::Poisoned)]);
        }
        assert!(is_untouched(try_item(&db, MAIN).await));
    }

    pub async fn a_commit_into_anothers_slot_is_refused(db: Db) {
        let first = Commit::at(&project(), 0).first(MAIN, value(1)).request();
        land(&db, &first).await;
        let second = Commit::new(&project(), slot(0).txn(99)).first("refs/heads/x", value(2)).request();
        assert_eq!(refuse(&db, &second).await, [Obstacle::Slot(landed(&first))]);
        assert!(is_untouched(try_item(&db, "refs/heads/x").await));
    }

    pub async fn of_poison_and_commit_exactly_one_wins(db: Db) {
        for seq in 0..10 {
            let name = format!("refs/heads/r{seq}");
            let request = Commit::at(&project(), seq).first(&name, value(1)).request();
            let at = slot(seq);
            let (answer, state) = join(db.refs.commit(&request), db.journal.poison(&at)).await;
            let state = state.expect("poison");
            if answer == Ok(CommitAnswer::Committed) {
                assert_eq!(state, landed(&request));
                assert_eq!(item(&db, &name).await.value, value(1));
            } else {
                assert_eq!(state, SlotState::Poisoned, "{answer:?}");
                assert!(is_untouched(try_item(&db, &name).await));
            }
            assert_eq!(db.journal.slot(&at).await, Ok(state));
        }
    }

    pub async fn collection_removes_committed_slots_and_leaves_poison(db: Db) {
        for seq in 0..20 {
            let name = format!("refs/heads/r{seq}");
            land(&db, &Commit::at(&project(), seq).first(&name, value(1)).request()).await;
        }
        db.journal.poison(&slot(20)).await.expect("poison");
        let mut past: Vec<_> = (0..19).map(slot).collect();
        past.extend([slot(20), slot(21)]);
        for _ in 0..2 {
            assert_eq!(db.journal.collect(&past).await, Ok(()));
        }
        for seq in (0..19).chain([21]) {
            assert_eq!(db.journal.slot(&slot(seq)).await, Ok(SlotState::Empty), "slot {seq}");
        }
        assert!(matches!(db.journal.slot(&slot(19)).await, Ok(SlotState::Committed(..))));
        assert_eq!(db.journal.slot(&slot(20)).await, Ok(SlotState::Poisoned));
        assert_eq!(item(&db, "refs/heads/r3").await.value, value(1), "collection changes no ref");
    }
}
pub use cases::*;
