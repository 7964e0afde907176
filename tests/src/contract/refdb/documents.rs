//! Documents: one record each, with revisions. The declaration that the refdb went back.

use lockstep::seams::refdb::{Document, DocumentRecord, RefDbError, WentBackRecord};

use super::Db;
use crate::build::node;

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_document_is_written_in_the_order_of_its_revisions(db: Db) {
        let drills = [Document::Drill, Document::DrillHistory, Document::SilentDrills];
        let lists = [Document::Keys, Document::Locks, Document::Readers, Document::Capacity];
        for which in [Document::Failover, Document::History, Document::FirstSites, Document::Identity]
            .into_iter()
            .chain(drills)
            .chain(lists)
        {
            in_order(&db, which).await;
        }
    }

    async fn in_order(db: &Db, which: Document) {
        let record = |revision, body: &str| DocumentRecord { revision, body: body.to_owned() };
        assert_eq!(db.documents.document(which).await, Ok(None));
        let early = db.documents.put_document(which, &record(2, "early")).await;
        assert!(matches!(early, Err(RefDbError::Broken(_))), "{early:?}");
        for revision in [1, 2] {
            let next = record(revision, &format!("state {revision}"));
            assert_eq!(db.documents.put_document(which, &next).await, Ok(next.clone()));
            assert_eq!(db.documents.document(which).await, Ok(Some(next)));
        }
        let stored = record(2, "state 2");
        for late in [record(1, "late"), record(2, "late"), record(4, "early")] {
            assert_eq!(db.documents.put_document(which, &late).await, Ok(stored.clone()));
        }
        assert_eq!(db.documents.document(which).await, Ok(Some(stored)));
    }

    pub async fn the_first_declaration_that_the_refdb_went_back_stays(db: Db) {
        assert_eq!(db.documents.went_back().await, Ok(None));
        let declares = |by: &str, since_ms| WentBackRecord { by: node(by), why: format!("{by} knows more"), since_ms };
        let first = declares("node-a", 7);
        assert_eq!(db.documents.declare_went_back(&first).await, Ok(first.clone()));
        assert_eq!(db.documents.declare_went_back(&declares("node-b", 8)).await, Ok(first.clone()));
        assert_eq!(db.documents.went_back().await, Ok(Some(first)));
    }
}
pub use cases::*;
