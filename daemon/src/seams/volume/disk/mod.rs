//! The node's store on disk: one redb file, `<root>/.lockstep/node.redb`.
//!
//! A step is one redb transaction with one fsync, whatever its size. Reads see the last committed step and never wait
//! for a writer. The cache is small on purpose: the whole idle sidecar has 30 MiB, and the machine's page cache holds
//! the file anyway.

mod copy;
mod digests;
mod tables;
mod write;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::refresh::Subject;
use lockstep_proto::{LaneId, Oid, ProjectKey, ProjectName, RefKey, Seq, TxnId};
use parking_lot::Mutex;
use redb::{
    Database, Key, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, Value,
};

use super::blobs_under_way::BlobFile;
use super::intents::IntentFile;
use super::{
    BlobsUnderWay, BoundTo, Changes, CommittedRequest, Debt, DigestAt, Held, Mailbox, MoveIntent, NodeStore, RefRecord,
    RefreshMark, Registered, RequestKey, SetDigest, ShardId, StoreError, VolumeFacts, encoding, keys,
};
use crate::seams::eventlog::Position;

/// Size of redb's cache, in bytes.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// The result of an operation of redb or of a form. [`failed`] converts its error into a [`StoreError`].
type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A store in a file. Clones are handles to the same store.
#[derive(Clone)]
pub struct DiskStore {
    database: Arc<Database>,
    intents: Arc<Mutex<IntentFile>>,
    intents_before: Arc<Mutex<Vec<MoveIntent>>>,
    blobs: Arc<Mutex<BlobFile>>,
}

impl DiskStore {
    /// Opens the store, or creates it when there is none. Its folder must exist. After a crash this reads the whole
    /// file once. It blocks, so call it at the start.
    ///
    /// # Errors
    /// Another process holds the file, or the file is damaged or of a newer release. The error names the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || -> Fallible<Database> {
            let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
            tables::prepare(&database)?;
            let txn = database.begin_write()?;
            digests::check(&txn)?;
            txn.commit()?;
            if let Some(folder) = path.parent() {
                std::fs::File::open(folder)?.sync_all()?;
            }
            Ok(database)
        };
        let named = |error: StoreError| StoreError { why: format!("{}: {}", path.display(), error.why), ..error };
        let database = open().map_err(failed("open the store")).map_err(named)?;
        let beside = path.with_extension("announced");
        let intents = IntentFile::open(beside.clone()).map_err(Into::into).map_err(failed("open the move intents"))?;
        let before = IntentFile::read(&beside).map_err(Into::into).map_err(failed("read the move intents"))?;
        let blobs = BlobFile::open(path.with_extension("blobs"));
        let blobs = blobs.map_err(Into::into).map_err(failed("open the notes of blobs"))?;
        Ok(Self {
            database: Arc::new(database),
            intents: Arc::new(Mutex::new(intents)),
            intents_before: Arc::new(Mutex::new(before)),
            blobs: Arc::new(Mutex::new(blobs)),
        })
    }

    fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'static, K, V>,
    ) -> Fallible<ReadOnlyTable<K, V>> {
        Ok(self.database.begin_read()?.open_table(definition)?)
    }

    /// Reads the value of a key. The table must outlive the value: a page that is returned after its transaction may be
    /// in use again.
    fn get<'k, K: Key + 'static, V: Value + 'static, T>(
        &self,
        definition: TableDefinition<'static, K, V>,
        key: K::SelfType<'k>,
        read: impl FnOnce(V::SelfType<'_>) -> Fallible<T>,
    ) -> Fallible<Option<T>> {
        let table = self.table(definition)?;
        let found = table.get(key)?;
        found.map(|found| read(found.value())).transpose()
    }

    /// Reads every row of a table, in the order of the keys.
    fn rows<K: Key + 'static, V: Value + 'static, T, All: FromIterator<T>>(
        &self,
        definition: TableDefinition<'static, K, V>,
        read: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> Fallible<T>,
    ) -> Fallible<All> {
        let table = self.table(definition)?;
        let rows = table.iter()?.map(|row| {
            let (key, value) = row?;
            read(key.value(), value.value())
        });
        rows.collect()
    }

    fn read_reference(&self, project: &ProjectKey, key: &RefKey) -> Fallible<Option<RefRecord>> {
        let read = |bytes: &[u8]| Ok(encoding::read_record(bytes)?);
        match key {
            RefKey::State => self.get(tables::PROJECTS, project.name.as_str(), read),
            RefKey::Head | RefKey::Ref(_) => self.get(tables::REFS, keys::reference(project, key).as_slice(), read),
        }
    }

    fn read_references(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Fallible<Vec<(RefKey, RefRecord)>> {
        let begin = after.map_or_else(|| keys::project(project), |after| keys::reference(project, after));
        let end = keys::project_end(project);
        let table = self.table(tables::REFS)?;
        let range = table.range::<&[u8]>((Bound::Excluded(begin.as_slice()), Bound::Excluded(end.as_slice())))?;
        range
            .take(limit)
            .map(|row| {
                let (key, record) = row?;
                Ok((keys::read_reference(key.value())?.1, encoding::read_record(record.value())?))
            })
            .collect()
    }

    fn read_digest(&self, project: &ProjectKey, wanted: &[RefKey]) -> Fallible<DigestAt> {
        let txn = self.database.begin_read()?;
        let refs = txn.open_table(tables::REFS)?;
        let read = |key: &RefKey| -> Fallible<Option<RefRecord>> {
            let found = refs.get(keys::reference(project, key).as_slice())?;
            Ok(found.map(|bytes| encoding::read_record(bytes.value())).transpose()?)
        };
        let entries = wanted.iter().map(read).collect::<Fallible<_>>()?;
        if !digests::coverage(&txn.open_table(tables::FACTS)?)?.has_project(project) {
            return Ok(DigestAt { digest: None, entries });
        }
        let table = txn.open_table(tables::DIGESTS)?;
        let found = table.get(keys::project(project).as_slice())?;
        let found = found.map(|bytes| SetDigest::from_bytes(bytes.value())).transpose()?;
        Ok(DigestAt { digest: Some(found.unwrap_or_default()), entries })
    }

    fn read_projects(&self) -> Fallible<Vec<(ProjectName, RefRecord)>> {
        self.rows(tables::PROJECTS, |name, record| Ok((name.parse()?, encoding::read_record(record)?)))
    }

    fn read_checkpoints(&self) -> Fallible<BTreeMap<ShardId, Position>> {
        self.rows(tables::CHECKPOINTS, |shard, position| {
            Ok((encoding::read_json("shard", shard)?, encoding::read_json("position", position)?))
        })
    }

    fn read_low_water(&self) -> Fallible<BTreeMap<LaneId, Seq>> {
        self.rows(tables::LOW_WATER, |lane, seq| Ok((lane.parse()?, Seq(seq))))
    }

    fn read_parked(&self, after: Option<&str>, limit: usize) -> Fallible<Vec<(String, Held)>> {
        let table = self.table(tables::PARKED)?;
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = table.range::<&str>((begin, Bound::Unbounded))?.take(limit);
        behind
            .map(|row| {
                let (id, held) = row?;
                Ok((id.value().to_owned(), encoding::read_held(id.value(), held.value())?))
            })
            .collect()
    }

    fn read_quarantined(&self) -> Fallible<BTreeMap<String, Held>> {
        self.rows(tables::QUARANTINE, |id, held| Ok((id.to_owned(), encoding::read_held(id, held)?)))
    }

    fn read_debts(&self) -> Fallible<BTreeMap<ProjectName, Debt>> {
        self.rows(tables::DEBTS, |project, debt| Ok((project.parse()?, encoding::read_json("debt", debt)?)))
    }

    fn read_refresh_marks(&self) -> Fallible<Vec<(Subject, RefreshMark)>> {
        self.rows(tables::REFRESH, |subject, mark| {
            Ok((encoding::read_json("subject", subject)?, encoding::read_json("refresh mark", mark)?))
        })
    }

    fn read_mail(&self, mailbox: Mailbox, after: Option<u64>, limit: usize) -> Fallible<Vec<(u64, Bytes)>> {
        let table = self.table(tables::mail(mailbox))?;
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = table.range::<u64>((begin, Bound::Unbounded))?.take(limit);
        behind
            .map(|row| {
                let (number, letter) = row?;
                Ok((number.value(), Bytes::copy_from_slice(letter.value())))
            })
            .collect()
    }

    fn read_received(&self) -> Fallible<BTreeMap<String, String>> {
        self.rows(tables::RECEIVED, |origin, what| Ok((origin.to_owned(), what.to_owned())))
    }

    fn read_received_blocks(&self) -> Fallible<BTreeMap<(String, u64), Bytes>> {
        let table = self.table(tables::RECEIVED_BLOCKS)?;
        table
            .iter()?
            .map(|row| {
                let (block, bits) = row?;
                let (origin, block) = block.value();
                Ok(((origin.to_owned(), block), Bytes::copy_from_slice(bits.value())))
            })
            .collect()
    }

    fn read_facts(&self) -> Fallible<VolumeFacts> {
        let read = |text: &str| Ok(encoding::read_json("volume facts", text)?);
        Ok(self.get(tables::FACTS, tables::VOLUME, read)?.unwrap_or_default())
    }

    fn read_registered(&self) -> Fallible<Registered> {
        let read = |text: &str| Ok(encoding::read_json("registered numbers", text)?);
        Ok(self.get(tables::FACTS, tables::REGISTERED, read)?.unwrap_or_default())
    }

    fn read_bound(&self) -> Fallible<BoundTo> {
        let read = |text: &str| Ok(encoding::read_json("refdb of the volume", text)?);
        Ok(self.get(tables::FACTS, tables::BOUND, read)?.unwrap_or_default())
    }

    fn read_request(&self, (project, id): &RequestKey) -> Fallible<Option<CommittedRequest>> {
        let read = |text: &str| Ok(encoding::read_json("committed request", text)?);
        self.get(tables::REQUESTS, (project.as_str(), id.as_str()), read)
    }

    fn read_requests(&self, after: Option<&RequestKey>, limit: usize) -> Fallible<Vec<(RequestKey, CommittedRequest)>> {
        let table = self.table(tables::REQUESTS)?;
        let begin = after.map(|(project, id)| (project.as_str(), id.as_str()));
        let behind = table.range((begin.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))?.take(limit);
        behind
            .map(|row| {
                let (key, request) = row?;
                let (project, id) = key.value();
                Ok(((project.parse()?, id.to_owned()), encoding::read_json("committed request", request.value())?))
            })
            .collect()
    }

    /// Writes on a thread of its own. `op` names the operation in an error.
    async fn blocking<T: Send + 'static>(
        &self,
        op: &'static str,
        write: impl FnOnce(&Self) -> Fallible<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        #[expect(clippy::disallowed_methods, reason = "a commit waits for an fsync")]
        let written = tokio::task::spawn_blocking(move || write(&store)).await;
        match written {
            Ok(result) => result.map_err(failed(op)),
            Err(stopped) => Err(StoreError { op, why: stopped.to_string() }),
        }
    }

    fn build(&self, limit: usize) -> Fallible<bool> {
        let txn = self.database.begin_write()?;
        let is_done = digests::build(&txn, limit)?;
        txn.commit()?;
        Ok(is_done)
    }

    fn write(&self, changes: &Changes) -> Fallible<()> {
        let txn = self.database.begin_write()?;
        write::apply(&txn, changes)?;
        txn.commit()?;
        Ok(())
    }
}

/// Builds the store's error from the attempted operation and the complete chain of causes.
fn failed(op: &'static str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    move |error| {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            why = format!("{why}: {error}");
            cause = error.source();
        }
        StoreError { op, why }
    }
}

#[async_trait]
impl NodeStore for DiskStore {
    fn reference(&self, project: &ProjectKey, key: &RefKey) -> Result<Option<RefRecord>, StoreError> {
        self.read_reference(project, key).map_err(failed("read a ref"))
    }

    fn references(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<(RefKey, RefRecord)>, StoreError> {
        self.read_references(project, after, limit).map_err(failed("read the refs of a project"))
    }

    fn digest(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<DigestAt, StoreError> {
        self.read_digest(project, keys).map_err(failed("read the digest of a project"))
    }

    async fn build_digests(&self, limit: usize) -> Result<bool, StoreError> {
        self.blocking("build digests", move |store| store.build(limit)).await
    }

    fn projects(&self) -> Result<Vec<(ProjectName, RefRecord)>, StoreError> {
        self.read_projects().map_err(failed("read the projects"))
    }

    fn is_value(&self, project: &ProjectKey, oid: &Oid) -> Result<bool, StoreError> {
        let found = self.get(tables::VALUES, keys::value(project, oid).as_slice(), |_| Ok(()));
        Ok(found.map_err(failed("look for a value"))?.is_some())
    }

    fn checkpoints(&self) -> Result<BTreeMap<ShardId, Position>, StoreError> {
        self.read_checkpoints().map_err(failed("read the checkpoints"))
    }

    fn low_water(&self) -> Result<BTreeMap<LaneId, Seq>, StoreError> {
        self.read_low_water().map_err(failed("read the low-water marks"))
    }

    fn parked(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, Held)>, StoreError> {
        self.read_parked(after, limit).map_err(failed("read the parked records"))
    }

    fn held_counts(&self) -> Result<(u64, u64), StoreError> {
        let count = || Ok((self.table(tables::PARKED)?.len()?, self.table(tables::QUARANTINE)?.len()?));
        count().map_err(failed("count the held records"))
    }

    fn quarantined(&self) -> Result<BTreeMap<String, Held>, StoreError> {
        self.read_quarantined().map_err(failed("read the quarantine"))
    }

    fn debts(&self) -> Result<BTreeMap<ProjectName, Debt>, StoreError> {
        self.read_debts().map_err(failed("read the debts"))
    }

    fn refresh_marks(&self) -> Result<Vec<(Subject, RefreshMark)>, StoreError> {
        self.read_refresh_marks().map_err(failed("read the refresh marks"))
    }

    fn mail(&self, mailbox: Mailbox, after: Option<u64>, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.read_mail(mailbox, after, limit).map_err(failed("read a mailbox"))
    }

    fn letter(&self, mailbox: Mailbox, number: u64) -> Result<Option<Bytes>, StoreError> {
        let read = || {
            let table = self.table(tables::mail(mailbox))?;
            Ok(table.get(number)?.map(|letter| Bytes::copy_from_slice(letter.value())))
        };
        read().map_err(failed("read a mailbox"))
    }

    fn received(&self) -> Result<BTreeMap<String, String>, StoreError> {
        self.read_received().map_err(failed("read the received numbers"))
    }

    fn received_blocks(&self) -> Result<BTreeMap<(String, u64), Bytes>, StoreError> {
        self.read_received_blocks().map_err(failed("read the received numbers"))
    }

    fn facts(&self) -> Result<VolumeFacts, StoreError> {
        self.read_facts().map_err(failed("read the volume's facts"))
    }

    fn bound(&self) -> Result<BoundTo, StoreError> {
        self.read_bound().map_err(failed("read the refdb of the volume"))
    }

    fn registered(&self) -> Result<Registered, StoreError> {
        self.read_registered().map_err(failed("read the registered numbers"))
    }

    fn verified(&self) -> Result<Option<String>, StoreError> {
        let found = self.get(tables::FACTS, tables::VERIFIED, |text| Ok(text.to_owned()));
        found.map_err(failed("read the results of verifications"))
    }

    fn requests_gap(&self) -> Result<bool, StoreError> {
        let read = |text: &str| Ok(encoding::read_json("gap in the requests", text)?);
        let found = self.get(tables::FACTS, tables::REQUESTS_GAP, read);
        Ok(found.map_err(failed("read the gap in the committed requests"))?.unwrap_or_default())
    }

    fn request(&self, key: &RequestKey) -> Result<Option<CommittedRequest>, StoreError> {
        self.read_request(key).map_err(failed("read a committed request"))
    }

    fn requests(
        &self,
        after: Option<&RequestKey>,
        limit: usize,
    ) -> Result<Vec<(RequestKey, CommittedRequest)>, StoreError> {
        self.read_requests(after, limit).map_err(failed("read the committed requests"))
    }

    fn record_intents(&self, moves: &[MoveIntent]) -> Result<u64, StoreError> {
        let mut file = self.intents.lock();
        file.record_intents(moves).map_err(Into::into).map_err(failed("record move intents"))
    }

    fn intents(&self) -> Result<Vec<MoveIntent>, StoreError> {
        Ok(self.intents_before.lock().clone())
    }

    fn end_intents(&self, until: u64) -> Result<(), StoreError> {
        let mut file = self.intents.lock();
        file.end(until).map_err(Into::into).map_err(failed("end move intents"))
    }

    fn note_blob(&self, key: &str, txn: Option<&TxnId>) -> Result<(), StoreError> {
        self.blobs.lock().note(key, txn).map_err(Into::into).map_err(failed("note a blob"))
    }

    fn end_blob(&self, key: &str) -> Result<(), StoreError> {
        self.blobs.lock().end(key).map_err(Into::into).map_err(failed("end the note of a blob"))
    }

    fn blobs_under_way(&self) -> Result<BlobsUnderWay, StoreError> {
        Ok(self.blobs.lock().all())
    }

    fn forget_blobs(&self) -> Result<(), StoreError> {
        self.blobs.lock().clear().map_err(Into::into).map_err(failed("forget the notes of blobs"))
    }

    fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        self.write_copy(path).map_err(failed("copy the store"))
    }

    async fn commit(&self, changes: Changes) -> Result<(), StoreError> {
        if changes.rebind.is_some() {
            // Before the step: a volume that is bound to the new refdb must not take moves of the one before for newer
            // ones.
            self.intents.lock().clear().map_err(Into::into).map_err(failed("drop the move intents"))?;
            self.intents_before.lock().clear();
            self.forget_blobs()?;
        }
        self.blocking("commit a step", move |store| store.write(&changes)).await
    }
}
