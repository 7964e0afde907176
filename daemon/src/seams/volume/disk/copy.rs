//! A copy of the store at one moment, while the node goes on: all rows of one read transaction, in a new file.
//!
//! Nothing waits for the copy. The move intents are left out: they are of the refs on the disk, which are copied later.

use std::path::Path;

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, Value,
    WriteTransaction,
};

use super::{CACHE_BYTES, DiskStore, Fallible, tables};

impl DiskStore {
    /// Writes a copy into a new file.
    pub(super) fn write_copy(&self, path: &Path) -> Fallible<()> {
        let copy = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        tables::prepare(&copy)?;
        let (from, to) = (self.database.begin_read()?, copy.begin_write()?);
        rows(&from, &to, tables::REFS)?;
        rows(&from, &to, tables::PROJECTS)?;
        rows(&from, &to, tables::VALUES)?;
        rows(&from, &to, tables::CHECKPOINTS)?;
        rows(&from, &to, tables::LOW_WATER)?;
        rows(&from, &to, tables::PARKED)?;
        rows(&from, &to, tables::QUARANTINE)?;
        rows(&from, &to, tables::DEBTS)?;
        rows(&from, &to, tables::REFRESH)?;
        rows(&from, &to, tables::OUTBOX)?;
        rows(&from, &to, tables::SENT)?;
        rows(&from, &to, tables::INBOX)?;
        rows(&from, &to, tables::RECEIVED)?;
        rows(&from, &to, tables::RECEIVED_BLOCKS)?;
        rows(&from, &to, tables::FACTS)?;
        rows(&from, &to, tables::REQUESTS)?;
        Ok(to.commit()?)
    }
}

fn rows<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    definition: TableDefinition<'static, K, V>,
) -> Fallible<()> {
    let (from, mut to) = (from.open_table(definition)?, to.open_table(definition)?);
    for row in from.iter()? {
        let (key, value) = row?;
        to.insert(key.value(), value.value())?;
    }
    let (here, there) = (from.len()?, to.len()?);
    if here == there { Ok(()) } else { Err(format!("{there} of {here} rows of a table were copied").into()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_proto::{LaneId, Oid, ProjectKey, RefKey, RefValue, Seq, Version};
    use redb::TableHandle;

    use super::*;
    use crate::seams::volume::{Changes, MoveIntent, NodeStore, RefRecord};

    fn names(path: &Path) -> Vec<String> {
        let txn = Database::open(path).unwrap().begin_read().unwrap();
        let mut names: Vec<String> = txn.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
        names.sort();
        names
    }

    fn record(version: u64) -> RefRecord {
        let oid: Oid = format!("{version:040x}").parse().unwrap();
        RefRecord {
            version: Version(version),
            value: RefValue::Oid(oid),
            txn: "n.1.0.0.00000000000000aa".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_copy_is_the_store_at_one_moment_and_has_every_table() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("node.redb"), folder.path().join("copy.redb"));
        let store = DiskStore::open(&from).unwrap();
        let (project, key): (ProjectKey, RefKey) = ("p#1".parse().unwrap(), "refs/heads/a".parse().unwrap());
        let lane: LaneId = "n.1.0".parse().unwrap();
        let refs = vec![(project.clone(), key.clone(), record(1))];
        store.commit(Changes { refs, low_water: vec![(lane.clone(), Seq(5))], ..Changes::default() }).await.unwrap();
        store.record_intents(&[MoveIntent { project: project.clone(), key: key.clone(), record: record(2) }]).unwrap();
        store.copy_to(&to).unwrap();
        let refs = vec![(project.clone(), key.clone(), record(2))];
        store.commit(Changes { refs, ..Changes::default() }).await.unwrap();
        let copy = DiskStore::open(&to).unwrap();
        assert_eq!(copy.reference(&project, &key).unwrap(), Some(record(1)), "the store goes on without the copy");
        assert_eq!(copy.low_water().unwrap(), BTreeMap::from([(lane, Seq(5))]));
        assert_eq!(copy.intents().unwrap(), vec![]);
        let again = store.copy_to(&to);
        assert!(again.is_err(), "a copy is never written over a store that is in use");
        drop((store, copy));
        assert_eq!(names(&from), names(&to), "a table that is added must be copied, too");
    }
}
