//! Copies the records that a move takes along, beside refs and sites: the documents of the installation, and the
//! identity of its Gerrit. Every write is conditional, so a copy may be repeated.

use lockstep_proto::locks::Locks;

use crate::seams::refdb::{Document, DocumentRecord, RefDb, RefDbError, StoredDocument};

/// The locks of operators, which travel with their revision.
const LOCKS: StoredDocument<Locks> = StoredDocument::json(Document::Locks);
/// How often the list of locks is written anew when somebody else has just changed it.
const TRIES: usize = 8;

/// The documents that travel with a revision of the new refdb. The identity does not: each refdb has its own.
/// Nor do the leases of readers: the nodes take new ones.
const DOCUMENTS: [Document; 8] = [
    Document::Failover,
    Document::History,
    Document::FirstSites,
    Document::Drill,
    Document::DrillHistory,
    Document::SilentDrills,
    Document::Keys,
    Document::Capacity,
];

/// Copies them.
///
/// # Errors
/// A call failed. Some records may be copied.
pub(super) async fn copy(from: &RefDb, to: &RefDb) -> Result<(), RefDbError> {
    for which in DOCUMENTS {
        let Some(record) = from.documents.document(which).await? else { continue };
        let stored = to.documents.document(which).await?;
        if stored.as_ref().is_some_and(|stored| stored.body == record.body) {
            continue;
        }
        let revision = stored.map_or(0, |stored| stored.revision) + 1;
        to.documents.put_document(which, &DocumentRecord { revision, ..record }).await?;
    }
    if let Some(gerrit) = from.gerrit.gerrit().await? {
        to.gerrit.enroll_gerrit(&gerrit).await?;
    }
    for (instance, node) in from.gerrit.instances().await? {
        to.gerrit.claim_instance(&instance, &node, None).await?;
    }
    Ok(())
}

/// The last list of locks of a refdb that is closed, for the new one. It keeps its revision, because that is the
/// fencing token of the next lock.
///
/// It writes the list anew first. Each change of locks reads the list, then the identity, and replaces the list under
/// the condition of its revision. So a change that read the identity before it was closed has landed before this write,
/// and travels, or fails. Every later one is refused by the identity.
///
/// # Errors
/// A call failed. The list may be written anew, which changes no lock.
pub(super) async fn last_locks(from: &RefDb) -> Result<Option<DocumentRecord>, RefDbError> {
    LOCKS.change(from.documents.as_ref(), TRIES, |_| Ok::<bool, RefDbError>(true)).await?;
    from.documents.document(Document::Locks).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::refdb::GerritRecord;
    use crate::seams::refdb::memory::MemoryRefDb;

    fn locked() -> Locks {
        let target = serde_json::json!({"project": "p"});
        let lock = serde_json::json!({"token": "1-aa", "held": true, "id": 1, "kind": "lock", "target": target,
            "owner": "o", "reason": "r", "request_id": "1", "by": "uid 0", "since_ms": 1, "renewals": 0});
        Locks { locks: vec![serde_json::from_value(lock).unwrap()] }
    }

    #[tokio::test]
    async fn a_change_of_the_locks_that_was_decided_before_fails_and_the_revision_grows() {
        let refdb = MemoryRefDb::new().refdb();
        let documents = refdb.documents.as_ref();
        assert!(LOCKS.replace(documents, 0, &locked()).await.unwrap());
        let (before, list) = LOCKS.read(documents).await.unwrap().unwrap();
        let last = last_locks(&refdb).await.unwrap().unwrap();
        assert_eq!((before, last.revision, list), (1, 2, locked()));
        let released = LOCKS.replace(documents, before, &Locks::default()).await.unwrap();
        assert!(!released, "it was decided before the fence");
        let again = last_locks(&refdb).await.unwrap().unwrap();
        assert_eq!(again, DocumentRecord { revision: 3, ..last }, "a repetition changes no lock");
        let empty = last_locks(&MemoryRefDb::new().refdb()).await.unwrap().unwrap();
        assert_eq!(empty.revision, 1, "nobody can begin a list any more");
    }

    #[tokio::test]
    async fn documents_and_the_gerrit_identity_travel_and_the_identity_of_the_refdb_and_the_leases_stay() {
        let (from, to) = (MemoryRefDb::new().refdb(), MemoryRefDb::new().refdb());
        for revision in 1..=3 {
            let record = DocumentRecord { revision, body: format!("keys {revision}") };
            from.documents.put_document(Document::Keys, &record).await.unwrap();
        }
        let identity = DocumentRecord { revision: 1, body: "{}".to_owned() };
        for which in [Document::Identity, Document::Readers] {
            from.documents.put_document(which, &identity).await.unwrap();
        }
        let (all_projects, all_users) = ("All-Projects".parse().unwrap(), "All-Users".parse().unwrap());
        let gerrit = GerritRecord { server_id: "server".to_owned(), all_projects, all_users };
        from.gerrit.enroll_gerrit(&gerrit).await.unwrap();
        from.gerrit.claim_instance("one", &"n".parse().unwrap(), None).await.unwrap();
        for _ in 0..2 {
            copy(&from, &to).await.unwrap();
        }
        let copied = DocumentRecord { revision: 1, body: "keys 3".to_owned() };
        assert_eq!(to.documents.document(Document::Keys).await, Ok(Some(copied)));
        for which in [Document::Identity, Document::Readers] {
            assert_eq!(to.documents.document(which).await, Ok(None));
        }
        assert_eq!(to.gerrit.gerrit().await, Ok(Some(gerrit)));
        assert_eq!(to.gerrit.instances().await, Ok([("one".to_owned(), "n".parse().unwrap())].into()));
    }
}
