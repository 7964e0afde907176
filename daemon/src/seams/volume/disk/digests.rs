//! The digests of the store on disk: each is written in the transaction that writes the entries of its project.
//!
//! Two things beside the digests say which of them may be used ([`Coverage`]): the last entry that they cover, and the
//! start of the sidecar at which they were written last. A release that keeps no digests counts its start in the same
//! store. So do its entries. When either count disagrees, all digests are dropped and built anew.

use std::collections::BTreeMap;
use std::ops::Bound;

use lockstep_proto::digests::SET_DIGEST_FORMAT;
use lockstep_proto::{ProjectKey, RefKey};
use redb::{ReadableTable, ReadableTableMetadata, Table, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Fallible, tables};
use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::volume::{RefRecord, SetDigest, VolumeFacts, encoding, keys};

/// The entries that the digests cover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The form of the digests.
    form: u32,
    /// The start of the sidecar at which they were written last.
    starts: u64,
    /// The key of the last entry that they cover, in hexadecimal digits. None if they cover all entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

impl Coverage {
    /// Whether the digests cover the entry of this key.
    fn has(&self, key: &[u8]) -> bool {
        self.until.as_ref().is_none_or(|until| hex::encode(key) <= *until)
    }

    /// Whether the digests cover every entry of the project, also those to come.
    pub fn has_project(&self, project: &ProjectKey) -> bool {
        self.has(&keys::project_end(project))
    }
}

/// Reads what the digests cover, from the facts of the store.
pub fn coverage(facts: &impl ReadableTable<&'static str, &'static str>) -> Fallible<Coverage> {
    let found = facts.get(tables::COVERAGE)?.map(|text| text.value().to_owned());
    Ok(match found {
        Some(text) => encoding::read_json("coverage of digests", &text)?,
        None => Coverage { until: Some(String::new()), ..Coverage::default() },
    })
}

fn put_coverage(facts: &mut Table<'_, &'static str, &'static str>, coverage: &Coverage) -> Fallible<()> {
    facts.insert(tables::COVERAGE, encoding::json(coverage).as_str())?;
    Ok(())
}

/// Drops the digests if something else than this code has written entries, or a digest has another form.
pub fn check(txn: &WriteTransaction) -> Fallible<()> {
    let (refs, mut digests) = (txn.open_table(tables::REFS)?, txn.open_table(tables::DIGESTS)?);
    let mut facts = txn.open_table(tables::FACTS)?;
    let starts = match facts.get(tables::VOLUME)? {
        Some(text) => encoding::read_json::<VolumeFacts>("volume facts", text.value())?.starts,
        None => 0,
    };
    let (found, mut covered) = (coverage(&facts)?, 0);
    for row in digests.iter()? {
        covered += SetDigest::from_bytes(row?.1.value())?.count();
    }
    let fits = if found.until.is_none() { covered == refs.len()? } else { covered <= refs.len()? };
    if found.form == SET_DIGEST_FORMAT && found.starts == starts && fits {
        return Ok(());
    }
    digests.retain(|_, _| false)?;
    let until = (!refs.is_empty()?).then(String::new);
    put_coverage(&mut facts, &Coverage { form: SET_DIGEST_FORMAT, starts, until })
}

/// Notes a start of the sidecar, or its end, with the facts of the volume.
pub fn started(facts: &mut Table<'_, &'static str, &'static str>, starts: u64) -> Fallible<()> {
    let found = coverage(&*facts)?;
    put_coverage(facts, &Coverage { starts, ..found })
}

/// Drops all digests together with all entries.
pub fn forget_all(txn: &WriteTransaction) -> Fallible<()> {
    txn.open_table(tables::DIGESTS)?.retain(|_, _| false)?;
    let mut facts = txn.open_table(tables::FACTS)?;
    let found = coverage(&facts)?;
    put_coverage(&mut facts, &Coverage { until: None, ..found })
}

/// The digests that change in one transaction.
pub struct Changing {
    coverage: Coverage,
    changed: BTreeMap<ProjectKey, SetDigest>,
}

impl Changing {
    /// Begins with the records that the digests cover now.
    pub fn begin(txn: &WriteTransaction) -> Fallible<Self> {
        Ok(Self { coverage: coverage(&txn.open_table(tables::FACTS)?)?, changed: BTreeMap::new() })
    }

    /// Replaces an entry whose key has these bytes.
    pub fn replace(
        &mut self,
        table: &Table<'_, &'static [u8], &'static [u8]>,
        (project, key, bytes): (&ProjectKey, &RefKey, &[u8]),
        before: Option<&RefRecord>,
        now: &RefRecord,
    ) -> Fallible<()> {
        if !self.coverage.has(bytes) {
            return Ok(());
        }
        self.of(table, project)?.replace(key, before, now, InjectedBugs::default());
        Ok(())
    }

    fn of(
        &mut self,
        table: &Table<'_, &'static [u8], &'static [u8]>,
        project: &ProjectKey,
    ) -> Fallible<&mut SetDigest> {
        if !self.changed.contains_key(project) {
            let found = table.get(keys::project(project).as_slice())?;
            let found = found.map(|bytes| SetDigest::from_bytes(bytes.value())).transpose()?;
            self.changed.insert(project.clone(), found.unwrap_or_default());
        }
        Ok(self.changed.entry(project.clone()).or_default())
    }

    /// Writes the digests that have changed.
    pub fn end(self, table: &mut Table<'_, &'static [u8], &'static [u8]>) -> Fallible<()> {
        for (project, digest) in self.changed {
            table.insert(keys::project(&project).as_slice(), digest.to_bytes().as_slice())?;
        }
        Ok(())
    }
}

/// Covers up to `limit` more entries. Returns whether all are covered.
pub fn build(txn: &WriteTransaction, limit: usize) -> Fallible<bool> {
    let mut changing = Changing::begin(txn)?;
    let Some(until) = changing.coverage.until.clone() else { return Ok(true) };
    let until = hex::decode(until)?;
    let (refs, mut digests) = (txn.open_table(tables::REFS)?, txn.open_table(tables::DIGESTS)?);
    let (mut last, mut count) = (until.clone(), 0);
    for row in refs.range::<&[u8]>((Bound::Excluded(until.as_slice()), Bound::Unbounded))?.take(limit) {
        let (bytes, record) = row?;
        let (project, key) = keys::read_reference(bytes.value())?;
        changing.of(&digests, &project)?.add(&key, &encoding::read_record(record.value())?);
        last = bytes.value().to_vec();
        count += 1;
    }
    let is_done = count < limit;
    let coverage = Coverage { until: (!is_done).then(|| hex::encode(last)), ..changing.coverage.clone() };
    changing.end(&mut digests)?;
    put_coverage(&mut txn.open_table(tables::FACTS)?, &coverage)?;
    Ok(is_done)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lockstep_proto::Version;
    use redb::{Database, ReadableDatabase};

    use super::*;
    use crate::seams::volume::disk::DiskStore;
    use crate::seams::volume::{Changes, NodeStore, build_all};

    fn project(number: u32) -> ProjectKey {
        format!("p{number}#1").parse().unwrap()
    }

    fn record(version: u64) -> RefRecord {
        let txn = format!("n.1.0.{version}.00000000000000aa").parse().unwrap();
        let value: Option<lockstep_proto::Oid> = format!("{version:040x}").parse().ok();
        RefRecord { version: Version(version), value: lockstep_proto::RefValue::from(value), txn }
    }

    fn entry(number: u32, name: u32, version: u64) -> (ProjectKey, RefKey, RefRecord) {
        (project(number), format!("refs/heads/b{name}").parse().unwrap(), record(version))
    }

    fn start(starts: u64) -> Changes {
        Changes { facts: Some(VolumeFacts { starts, ..VolumeFacts::default() }), ..Changes::default() }
    }

    /// The store of a node that ran: three projects with four refs each.
    async fn store(path: &Path) -> DiskStore {
        let store = DiskStore::open(path).unwrap();
        store.commit(start(1)).await.unwrap();
        let refs = (0..12).map(|number| entry(number / 4, number % 4, 1)).collect();
        store.commit(Changes { refs, ..Changes::default() }).await.unwrap();
        store
    }

    fn computed(store: &DiskStore, number: u32) -> SetDigest {
        let all = store.references(&project(number), None, 99).unwrap();
        SetDigest::of(all.iter().map(|(key, record)| (key, record)))
    }

    fn kept(store: &DiskStore) -> [Option<SetDigest>; 3] {
        [0, 1, 2].map(|number| store.digest(&project(number), &[]).unwrap().digest)
    }

    fn all(store: &DiskStore) -> [Option<SetDigest>; 3] {
        [0, 1, 2].map(|number| Some(computed(store, number)))
    }

    /// Writes entries as a release without digests does.
    fn by_an_earlier_release(path: &Path, starts: Option<u64>, entries: &[(ProjectKey, RefKey, RefRecord)]) {
        let database = Database::open(path).unwrap();
        let txn = database.begin_write().unwrap();
        for (project, key, record) in entries {
            let mut refs = txn.open_table(tables::REFS).unwrap();
            refs.insert(keys::reference(project, key).as_slice(), encoding::record(record).as_slice()).unwrap();
        }
        if let Some(starts) = starts {
            let facts = encoding::json(&VolumeFacts { starts, ..VolumeFacts::default() });
            txn.open_table(tables::FACTS).unwrap().insert(tables::VOLUME, facts.as_str()).unwrap();
        }
        txn.commit().unwrap();
    }

    #[tokio::test]
    async fn digests_outlive_a_restart_and_no_start_loses_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.redb");
        let first = store(&path).await;
        let before = kept(&first);
        assert_eq!(before, all(&first));
        drop(first);
        let again = DiskStore::open(&path).unwrap();
        again.commit(start(2)).await.unwrap();
        drop(again);
        assert_eq!(kept(&DiskStore::open(&path).unwrap()), before);
    }

    /// Roll back and upgrade again: the earlier release moved a ref, and neither counted nor dropped a digest.
    #[tokio::test]
    async fn a_release_without_digests_that_ran_in_between_is_noticed() {
        for (starts, entries) in [
            (Some(2), vec![entry(1, 2, 7)]),
            (Some(2), Vec::new()),
            // It died before it noted its start, or somebody else wrote the file.
            (None, vec![entry(2, 9, 1)]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("node.redb");
            drop(store(&path).await);
            by_an_earlier_release(&path, starts, &entries);
            let store = DiskStore::open(&path).unwrap();
            assert_eq!(kept(&store), [None; 3], "{starts:?}: no digest is told that may be wrong");
            store.commit(start(3)).await.unwrap();
            build_all(&store, 100).await.unwrap();
            assert_eq!(kept(&store), all(&store));
        }
    }

    #[tokio::test]
    async fn digests_are_built_in_steps_between_commits_and_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.redb");
        by_an_earlier_release_from_new(&path);
        let mut store = DiskStore::open(&path).unwrap();
        store.commit(start(6)).await.unwrap();
        assert_eq!(kept(&store), [None; 3]);
        let mut steps = 0;
        while !store.build_digests(3).await.unwrap() {
            steps += 1;
            // A move below the place where the building is, one above it, a new project, and a restart.
            let moved = [entry(0, 0, 1 + steps), entry(2, 3, 1 + steps), entry(2, 4, 1 + steps), entry(9, 0, steps)];
            store.commit(Changes { refs: moved.to_vec(), ..Changes::default() }).await.unwrap();
            if steps == 2 {
                drop(store);
                store = DiskStore::open(&path).unwrap();
                let [first, _, last] = kept(&store);
                assert_eq!((first, last), (Some(computed(&store, 0)), None), "it goes on where it was");
                store.commit(start(7)).await.unwrap();
            }
        }
        assert!(steps >= 4, "{steps}");
        assert_eq!(kept(&store), all(&store));
        assert_eq!(store.digest(&project(9), &[]).unwrap().digest, Some(computed(&store, 9)));
        let txn = store.database.begin_read().unwrap();
        assert_eq!(txn.open_table(tables::DIGESTS).unwrap().len().unwrap(), 4);
    }

    /// A store that only a release without digests has written.
    fn by_an_earlier_release_from_new(path: &Path) {
        drop(DiskStore::open(path).unwrap());
        let database = Database::open(path).unwrap();
        let txn = database.begin_write().unwrap();
        txn.delete_table(tables::DIGESTS).unwrap();
        txn.open_table(tables::FACTS).unwrap().remove(tables::COVERAGE).unwrap();
        txn.commit().unwrap();
        drop(database);
        let entries: Vec<_> = (0..12).map(|number| entry(number / 4, number % 4, 1)).collect();
        by_an_earlier_release(path, Some(5), &entries);
    }
}
