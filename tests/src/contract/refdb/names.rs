//! Names that exclude each other, and directory marks.

use lockstep::seams::refdb::{Obstacle, SlotState};
use lockstep_proto::{RefValue, Version};

use super::{Db, item, land, project, refuse, try_item};
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
        assert_eq!(try_item(&db, BELOW).await, None);
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

    pub async fn a_refused_commit_marks_nothing(db: Db) {
        land(&db, &Commit::at(&project(), 0).first("refs/heads/x", value(1)).request()).await;
        let batch = Commit::at(&project(), 1).first(BELOW, value(2)).first("refs/heads/x", value(2)).directory(UP);
        refuse(&db, &batch.request()).await;
        assert_eq!(try_item(&db, UP).await, None);
        assert_eq!(db.journal.slot(&slot(1)).await, Ok(SlotState::Empty));
    }
}
pub use cases::*;
