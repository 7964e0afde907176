//! Copies the records that a move takes along, beside refs and sites: the documents of the installation, and the
//! identity of its Gerrit. Every write is conditional, so a copy may be repeated.

use crate::seams::refdb::{Document, DocumentRecord, RefDb, RefDbError};

/// The documents that travel. The identity does not: each refdb has its own.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::refdb::GerritRecord;
    use crate::seams::refdb::memory::MemoryRefDb;

    #[tokio::test]
    async fn documents_and_the_gerrit_identity_travel_and_the_identity_of_the_refdb_stays() {
        let (from, to) = (MemoryRefDb::new().refdb(), MemoryRefDb::new().refdb());
        for revision in 1..=3 {
            let record = DocumentRecord { revision, body: format!("keys {revision}") };
            from.documents.put_document(Document::Keys, &record).await.unwrap();
        }
        let identity = DocumentRecord { revision: 1, body: "{}".to_owned() };
        from.documents.put_document(Document::Identity, &identity).await.unwrap();
        let (all_projects, all_users) = ("All-Projects".parse().unwrap(), "All-Users".parse().unwrap());
        let gerrit = GerritRecord { server_id: "server".to_owned(), all_projects, all_users };
        from.gerrit.enroll_gerrit(&gerrit).await.unwrap();
        from.gerrit.claim_instance("one", &"n".parse().unwrap(), None).await.unwrap();
        for _ in 0..2 {
            copy(&from, &to).await.unwrap();
        }
        let copied = DocumentRecord { revision: 1, body: "keys 3".to_owned() };
        assert_eq!(to.documents.document(Document::Keys).await, Ok(Some(copied)));
        assert_eq!(to.documents.document(Document::Identity).await, Ok(None));
        assert_eq!(to.gerrit.gerrit().await, Ok(Some(gerrit)));
        assert_eq!(to.gerrit.instances().await, Ok([("one".to_owned(), "n".parse().unwrap())].into()));
    }
}
