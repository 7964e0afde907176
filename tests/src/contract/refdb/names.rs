//! Names that exclude each other, and directory marks.

use lockstep::seams::refdb::{CommitAnswer, CommitRequest, Freed, Obstacle, Part, RefItem};
use lockstep_proto::{RefValue, Version};

use super::{Db, item, land, project, refuse, try_item, unused};
use crate::build::{Commit, ref_name, slot, value};

const UP: &str = "refs/heads/a";
const BELOW: &str = "refs/heads/a/b";

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_marked_name_cannot_be_created(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(BELOW, value(1)).directory(UP).request()).await;
        let request = Commit::at(&project(), 1).first(UP, value(2)).request();
        assert_eq!(refuse(&db, &request).await, [Obstacle::IsDirectory(ref_name(UP))]);
        assert_eq!(item(&db, UP).await.value, RefValue::Absent);
    }

    pub async fn a_live_prefix_refuses_names_below_it(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(UP, value(1)).request()).await;
        let request = Commit::at(&project(), 1).first(BELOW, value(2)).directory(UP).request();
        assert_eq!(refuse(&db, &request).await, [Obstacle::PrefixIsLive(ref_name(UP))]);
        assert!(try_item(&db, BELOW).await.is_none_or(|item| item.version == Version::NONE && item.lock.is_none()));
        assert!(!item(&db, UP).await.directory);
    }

    pub async fn a_mark_raises_no_version(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(BELOW, value(1)).directory(UP).request()).await;
        let marked = item(&db, UP).await;
        assert_eq!((marked.version, &marked.value, &marked.txn), (Version::NONE, &RefValue::Absent, &None));
        assert!(marked.directory);
    }

    pub async fn a_mark_can_be_set_again(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(BELOW, value(1)).directory(UP).request()).await;
        land(&db, &Commit::at(&project(), 1).first("refs/heads/a/c", value(1)).directory(UP).request()).await;
        let below = item(&db, BELOW).await;
        land(&db, &Commit::at(&project(), 2).step(&below, RefValue::Absent).request()).await;
        assert!(item(&db, UP).await.directory, "a mark stays when the refs below it are gone");
    }

    pub async fn a_tombstone_can_become_a_directory(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(UP, value(1)).request()).await;
        let live = item(&db, UP).await;
        land(&db, &Commit::at(&project(), 1).step(&live, RefValue::Absent).request()).await;
        let tombstone = item(&db, UP).await;
        land(&db, &Commit::at(&project(), 2).first(BELOW, value(2)).directory(UP).request()).await;
        let marked = item(&db, UP).await;
        assert_eq!((marked.version, &marked.txn, marked.directory), (Version(2), &tombstone.txn, true));
        let again = Commit::at(&project(), 3).step(&marked, value(3)).request();
        assert_eq!(refuse(&db, &again).await, [Obstacle::IsDirectory(ref_name(UP))]);
    }

    /// Marks the name, and loosens the mark. Returns the item.
    async fn loosened(db: &Db) -> RefItem {
        land(db, &Commit::at(&project(), 0).first(BELOW, value(1)).directory(UP).request()).await;
        let below = item(db, BELOW).await;
        land(db, &Commit::at(&project(), 1).step(&below, RefValue::Absent).request()).await;
        land(db, &Commit::at(&project(), 2).loosen(&item(db, UP).await).request()).await;
        item(db, UP).await
    }

    pub async fn a_loosened_mark_is_still_a_mark(db: Db) {
        let up = loosened(&db).await;
        assert_eq!((up.version, &up.value, up.directory), (Version(1), &RefValue::Absent, true));
        assert_eq!(up.loosened, up.txn);
        let create = Commit::at(&project(), 3).step(&up, value(2));
        let other = slot(9).txn(9);
        for not_freed in [create.clone().request(), create.freed(UP, &other).request()] {
            assert_eq!(refuse(&db, &not_freed).await, [Obstacle::IsDirectory(ref_name(UP))]);
        }
    }

    pub async fn a_freed_name_can_be_created_and_has_no_mark(db: Db) {
        let up = loosened(&db).await;
        let by = up.loosened.clone().expect("it was loosened");
        land(&db, &Commit::at(&project(), 3).step(&up, value(2)).freed(UP, &by).request()).await;
        let live = item(&db, UP).await;
        assert_eq!((live.version, live.directory, &live.loosened), (Version(2), false, &None));
        let below = Commit::at(&project(), 4).first("refs/heads/a/c", value(3)).directory(UP).request();
        assert_eq!(refuse(&db, &below).await, [Obstacle::PrefixIsLive(ref_name(UP))]);
        land(&db, &Commit::at(&project(), 5).step(&live, RefValue::Absent).request()).await;
        land(&db, &Commit::at(&project(), 6).step(&item(&db, UP).await, value(4)).request()).await;
    }

    pub async fn a_mark_that_is_set_again_is_not_loosened(db: Db) {
        let up = loosened(&db).await;
        let by = up.loosened.clone().expect("it was loosened");
        land(&db, &Commit::at(&project(), 3).first("refs/heads/a/c", value(3)).directory(UP).request()).await;
        let again = item(&db, UP).await;
        assert_eq!((again.version, again.directory, &again.loosened), (up.version, true, &None));
        let create = Commit::at(&project(), 4).step(&again, value(2)).freed(UP, &by).request();
        assert_eq!(refuse(&db, &create).await, [Obstacle::IsDirectory(ref_name(UP))]);
    }

    pub async fn only_the_last_loosening_frees_a_name(db: Db) {
        let first = loosened(&db).await;
        land(&db, &Commit::at(&project(), 3).loosen(&first).request()).await;
        let second = item(&db, UP).await;
        assert_eq!((second.version, &second.loosened), (Version(2), &second.txn));
        let by = first.loosened.expect("it was loosened");
        let create = Commit::at(&project(), 4).step(&second, value(2)).freed(UP, &by).request();
        assert_eq!(refuse(&db, &create).await, [Obstacle::IsDirectory(ref_name(UP))]);
    }

    pub async fn a_live_name_cannot_be_loosened(db: Db) {
        land(&db, &Commit::at(&project(), 0).first(UP, value(1)).request()).await;
        let live = item(&db, UP).await;
        let believed = RefItem { value: RefValue::Absent, ..live.clone() };
        let request = Commit::at(&project(), 1).loosen(&believed).request();
        assert_eq!(refuse(&db, &request).await, [Obstacle::Stale(live.clone())]);
        assert_eq!(item(&db, UP).await, live);
    }

    pub async fn a_name_is_freed_for_a_batch_under_locks(db: Db) {
        let up = loosened(&db).await;
        let by = up.loosened.clone().expect("it was loosened");
        let create = Commit::at(&project(), 3).step(&up, value(2));
        let part = |request: &CommitRequest| Part {
            txn: request.transaction.id.clone(),
            project: project(),
            commands: request.transaction.commands.clone(),
            directories: Vec::new(),
            freed: request.freed.clone(),
            loosens: request.transaction.loosens,
        };
        let unfreed = db.refs.lock(&part(&create.clone().request())).await;
        assert_eq!(unfreed, Ok(CommitAnswer::Refused(vec![Obstacle::IsDirectory(ref_name(UP))])));
        let own = part(&create.freed(UP, &by).request());
        assert_eq!(db.refs.lock(&own).await, Ok(CommitAnswer::Committed));
        // A node that meets the lock moves the ref. It does not know that the name was freed.
        assert_eq!(db.refs.flip(&Part { freed: Freed::new(), ..own }).await, Ok(()));
        let live = item(&db, UP).await;
        assert_eq!((live.value, live.directory, live.loosened, live.lock), (value(2), false, None, None));
    }

    pub async fn a_refused_commit_marks_nothing(db: Db) {
        land(&db, &Commit::at(&project(), 0).first("refs/heads/x", value(1)).request()).await;
        let batch = Commit::at(&project(), 1).first(BELOW, value(2)).first("refs/heads/x", value(2)).directory(UP);
        let batch = batch.request();
        refuse(&db, &batch).await;
        assert_eq!(try_item(&db, UP).await, None);
        assert_eq!(db.journal.slot(&slot(1)).await, Ok(unused(&db, &batch)));
    }
}
pub use cases::*;
