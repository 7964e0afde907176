//! The record of the failover in the refdb: reads it, and replaces it under the condition that nobody else has.

use lockstep_proto::failover::Failover;

use super::earlier;
use crate::seams::refdb::{Document, FailoverDb, RefDbError, SiteRecord, StoredDocument};

const FAILOVER: StoredDocument<Failover> = StoredDocument::new(Document::Failover, earlier::encode, earlier::decode);

/// A failover with the revision of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) revision: u64,
    pub(super) failover: Failover,
}

/// Reads the failover that is in progress, or else the last one.
pub(super) async fn read(refdb: &FailoverDb) -> Result<Option<Stored>, RefDbError> {
    Ok(FAILOVER.read(refdb.documents.as_ref()).await?.map(|(revision, failover)| Stored { revision, failover }))
}

/// Replaces the record of revision `before` (0: there is none). Returns whether it was replaced. If not, somebody else
/// has replaced it.
pub(super) async fn replace(refdb: &FailoverDb, before: u64, failover: &Failover) -> Result<bool, RefDbError> {
    FAILOVER.replace(refdb.documents.as_ref(), before, failover).await
}

/// Whether a failover could begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// The failover has begun.
    Yes,
    /// Somebody else has replaced the record.
    Overtaken,
    /// A site has another epoch than the one that the operator has seen.
    SitesMoved,
}

/// Writes the record of a failover over the one of revision `before` (0: there is none), if each of these sites still
/// has its epoch.
pub(super) async fn begin(
    refdb: &FailoverDb,
    before: u64,
    failover: &Failover,
    sites: &[SiteRecord],
) -> Result<Begun, RefDbError> {
    let record = FAILOVER.record(before, failover)?;
    Ok(match refdb.sites.begin_failover(&record, sites).await? {
        Some(stored) if stored == record => Begun::Yes,
        Some(_) => Begun::Overtaken,
        None => Begun::SitesMoved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::refdb::DocumentRecord;
    use crate::seams::refdb::memory::MemoryRefDb;

    #[tokio::test]
    async fn an_ended_failover_is_stored_as_the_first_release_can_read_it() {
        let refdb = MemoryRefDb::new().refdb().for_failover();
        assert!(replace(&refdb, 0, &earlier::tests::ended()).await.unwrap());
        let stored = refdb.documents.document(Document::Failover).await.unwrap().unwrap();
        serde_json::from_str::<earlier::tests::OfFirstRelease>(&stored.body).unwrap().assert_whole();
        assert_eq!(read(&refdb).await.unwrap().unwrap().failover, earlier::tests::ended());
    }

    #[tokio::test]
    async fn a_step_of_a_later_release_is_refused_by_name_and_the_record_stays() {
        let refdb = MemoryRefDb::new().refdb().for_failover();
        let body = r#"{"number": 1, "kind": "planned", "from": "a", "to": "b", "from_epoch": 1, "to_epoch": 1,
            "actor": "", "reason": "", "requested_ms": 1, "steps": [{"step": "of_later"}]}"#;
        let record = DocumentRecord { revision: 1, body: body.to_owned() };
        refdb.documents.put_document(Document::Failover, &record).await.unwrap();
        let Err(RefDbError::Broken(why)) = read(&refdb).await else { panic!("it was read") };
        assert!(why.contains("cannot be read by this release") && why.contains("of_later"), "{why}");
        assert_eq!(refdb.documents.document(Document::Failover).await, Ok(Some(record)));
    }
}
