//! The histories in the refdb, each a bounded document: of failovers and changes of role, and of drills.

use lockstep_proto::history::{History, PastChange};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::earlier;
use crate::seams::refdb::{Document, RefDb, RefDbError, StoredDocument};

/// How often a write is tried again when somebody else has replaced the document meanwhile.
const TRIES: usize = 8;

/// Reads the history. Empty if nothing was noted yet.
pub(super) async fn read(refdb: &RefDb) -> Result<History, RefDbError> {
    read_document(refdb, Document::History).await
}

/// Notes an entry. It replaces an earlier entry about the same request.
pub(super) async fn put(refdb: &RefDb, entry: &PastChange) -> Result<(), RefDbError> {
    change(refdb, Document::History, |history: &mut History| history.put(entry.clone())).await
}

/// Changes a document, again if somebody else has replaced it meanwhile.
pub(super) async fn change<T: Default + Serialize + DeserializeOwned>(
    refdb: &RefDb,
    which: Document,
    change: impl Fn(&mut T),
) -> Result<(), RefDbError> {
    let noted = |content: &mut T| {
        change(content);
        Ok(true)
    };
    document::<T>(which).change(refdb.documents.as_ref(), TRIES, noted).await.map(|_| ())
}

/// Reads a document. It is empty if it was never written.
pub(super) async fn read_document<T: Default + Serialize + DeserializeOwned>(
    refdb: &RefDb,
    which: Document,
) -> Result<T, RefDbError> {
    Ok(document::<T>(which).read(refdb.documents.as_ref()).await?.map(|(_, content)| content).unwrap_or_default())
}

fn document<T: Serialize + DeserializeOwned>(which: Document) -> StoredDocument<T> {
    StoredDocument::new(which, encode::<T>, decode::<T>)
}

/// The text of a document. Nodes of the first release can read the failovers in it.
fn encode<T: Serialize>(content: &T) -> Result<String, serde_json::Error> {
    let mut body = serde_json::to_value(content)?;
    failovers(&mut body).for_each(earlier::split);
    serde_json::to_string(&body)
}

fn decode<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    let mut body = serde_json::from_str(text)?;
    failovers(&mut body).for_each(earlier::merge);
    serde_json::from_value(body)
}

/// The failovers of a history. The other documents have none.
fn failovers(body: &mut Value) -> impl Iterator<Item = &mut Value> {
    let past = body.get_mut("past").and_then(Value::as_array_mut);
    past.into_iter().flatten().filter(|one| one.get("change").is_some_and(|change| change == "failover"))
}

#[cfg(test)]
mod tests {
    use lockstep_proto::failover::Role;
    use lockstep_proto::history::RoleChange;

    use super::super::earlier::tests::{OfFirstRelease, ended};
    use super::*;
    use crate::seams::refdb::memory::MemoryRefDb;

    fn change(epoch: u64, done: Option<bool>) -> PastChange {
        PastChange::Role(RoleChange {
            at_ms: epoch,
            actor: "uid 0".to_owned(),
            reason: "test".to_owned(),
            site: "a".parse().unwrap(),
            from: Role::Active,
            to: Role::Standby,
            epoch,
            done,
            list: None,
            mode: None,
        })
    }

    #[tokio::test]
    async fn entries_are_added_and_the_outcome_replaces_the_request() {
        let refdb = MemoryRefDb::new().refdb();
        assert_eq!(read(&refdb).await, Ok(History::default()));
        for entry in [change(1, None), change(2, None), change(1, Some(true))] {
            put(&refdb, &entry).await.unwrap();
        }
        assert_eq!(read(&refdb).await.unwrap().past, [change(2, None), change(1, Some(true))]);
    }

    #[tokio::test]
    async fn the_failovers_of_the_history_can_be_read_by_the_first_release() {
        let refdb = MemoryRefDb::new().refdb();
        let entry = PastChange::Failover(Box::new(ended()));
        put(&refdb, &entry).await.unwrap();
        put(&refdb, &change(7, None)).await.unwrap();
        let text = refdb.documents.document(Document::History).await.unwrap().unwrap().body;
        let mut body: Value = serde_json::from_str(&text).unwrap();
        let old = failovers(&mut body).map(|one| serde_json::from_value::<OfFirstRelease>(one.clone()).unwrap());
        assert_eq!(old.map(|one| one.assert_whole()).count(), 1);
        assert!(read(&refdb).await.unwrap().past.contains(&entry), "nothing is missing in this release");
    }
}
