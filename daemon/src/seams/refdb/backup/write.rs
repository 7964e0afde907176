//! Reads a refdb page by page, at a bounded rate, and writes its items as lines.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::rebuild::{RefdbIdentity, RefdbState};
use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue};
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::format::{BackedUpRef, Counts, End, Entry, FORMAT, Head, RELEASE};
use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::seams::refdb::{
    Document, DocumentRecord, GerritRecord, NodeRecord, RefDb, RefDbError, RefItem, StoredDocument,
};

/// The items of a page.
const PAGE: usize = 500;
/// How often a call is tried before the backup gives up.
const TRIES: u32 = 8;

const IDENTITY: StoredDocument<RefdbIdentity> = StoredDocument::json(Document::Identity);

/// Why a backup was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A read of the refdb failed.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The file cannot be written.
    #[error("the file cannot be written: {0}")]
    File(#[from] std::io::Error),
    /// An item cannot be written as JSON.
    #[error("an item cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The tables hold no refdb that can be backed up.
    #[error("{0}")]
    NotWhole(&'static str),
}

/// Writes a backup of one refdb. Its reads finish no transaction: give the refdb without `StagedRefs`.
pub struct BackupWriter<W> {
    refdb: RefDb,
    entropy: Arc<dyn Entropy>,
    /// Items that are read per second, about.
    rate: u32,
    out: W,
    digest: Sha256,
    counts: Counts,
}

impl<W: Write> BackupWriter<W> {
    /// A writer to `out` that reads about this many items per second.
    #[must_use]
    pub fn new(refdb: RefDb, entropy: Arc<dyn Entropy>, rate: u32, out: W) -> Self {
        Self { refdb, entropy, rate: rate.max(1), out, digest: Sha256::new(), counts: Counts::default() }
    }

    /// Reads everything, and writes it. `progress` gets the counts after each project. Returns the last line.
    ///
    /// Refs come first. So the numbers of sites, nodes and incarnations are not lower than those of the refs' writers.
    ///
    /// # Errors
    /// See [`WriteError`]. The output has no last line then, so nobody takes it for a backup.
    pub async fn run(mut self, now_ms: u64, progress: impl Fn(&Counts)) -> Result<End, WriteError> {
        let documents = Arc::clone(&self.refdb.documents);
        let before = self.read(|| identity(&self.refdb)).await?;
        let refdb = usable(before.as_ref())?.to_owned();
        let release = RELEASE.to_owned();
        self.put(&Entry::Head(Head { format: FORMAT, release, refdb, began_ms: now_ms }))?;
        self.projects(progress).await?;
        self.registry().await?;
        // The leases of readers are of the moment, as heartbeats are.
        for which in Document::ALL.into_iter().filter(|which| *which != Document::Readers) {
            if let Some(DocumentRecord { revision, body }) = self.read(|| documents.document(which)).await? {
                self.put(&Entry::Document { which, revision, body })?;
            }
        }
        let after = self.read(|| identity(&self.refdb)).await?;
        if after != before {
            return Err(WriteError::NotWhole("the refdb began to move while it was read: repeat the command"));
        }
        let end = End { counts: self.counts.clone(), sha256: hex::encode(self.digest.clone().finalize()) };
        self.put(&Entry::End(end.clone()))?;
        self.out.flush()?;
        Ok(end)
    }

    /// Repeats a read that may succeed later.
    async fn read<T, F>(&self, call: impl Fn() -> F) -> Result<T, RefDbError>
    where
        F: Future<Output = Result<T, RefDbError>>,
    {
        let first = Duration::from_millis(100);
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), first, Duration::from_secs(5));
        backoff.retry(TRIES, RefDbError::retry_helps, call).await
    }

    async fn pace(&self, items: usize) {
        sleep(Duration::from_secs_f64(items as f64 / f64::from(self.rate))).await;
    }

    fn put(&mut self, entry: &Entry) -> Result<(), WriteError> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.digest.update(&line);
        self.counts.add(entry);
        Ok(self.out.write_all(&line)?)
    }

    async fn projects(&mut self, progress: impl Fn(&Counts)) -> Result<(), WriteError> {
        let (refs, mut after) = (Arc::clone(&self.refdb.refs), None::<ProjectName>);
        loop {
            let page = self.read(|| refs.projects(after.as_ref(), PAGE)).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            self.pace(page.len()).await;
            for (name, item) in page {
                self.project(&name, item).await?;
                progress(&self.counts);
            }
        }
    }

    /// The state of a project, and its refs if it is not deleted.
    async fn project(&mut self, name: &ProjectName, item: RefItem) -> Result<(), WriteError> {
        if item.txn.is_none() {
            // Its creation is under way under a lock, or has failed and left the item.
            return self.put(&Entry::Ref(BackedUpRef::of(&ProjectKey::of_name(name), item)));
        }
        let RefValue::State(state) = &item.value else {
            return Err(WriteError::NotWhole("the state of a project is none: run `lockstep refdb check`"));
        };
        let (project, is_deleted) = (ProjectKey::new(name, state.incarnation), state.phase == ProjectPhase::Deleted);
        self.put(&Entry::Ref(BackedUpRef::of(&project, item)))?;
        if is_deleted {
            return Ok(());
        }
        let (refs, mut after) = (Arc::clone(&self.refdb.refs), None::<RefKey>);
        loop {
            let page = self.read(|| refs.scan(&project, after.as_ref(), PAGE)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            self.pace(page.len()).await;
            for item in page {
                self.put(&Entry::Ref(BackedUpRef::of(&project, item)))?;
            }
        }
    }

    /// Sites, nodes, incarnations, and the installation's Gerrit.
    async fn registry(&mut self) -> Result<(), WriteError> {
        let refdb = self.refdb.clone();
        for record in self.read(|| refdb.incarnations()).await? {
            self.put(&Entry::Incarnation(record))?;
        }
        for NodeRecord { node, site, volume, expelled, .. } in self.read(|| refdb.nodes.nodes()).await? {
            let highest = self.read(|| refdb.incarnations.last_incarnation(&site, &node)).await?;
            self.put(&Entry::Node { node, site, volume, highest, expelled })?;
        }
        for site in self.read(|| refdb.sites.sites()).await? {
            self.put(&Entry::Site((&site).into()))?;
        }
        if let Some(gerrit) = self.read(|| refdb.gerrit.gerrit()).await? {
            let GerritRecord { server_id, all_projects, all_users } = gerrit;
            self.put(&Entry::Gerrit { server_id, all_projects, all_users })?;
        }
        for (id, node) in self.read(|| refdb.gerrit.instances()).await? {
            self.put(&Entry::Instance { id, node })?;
        }
        Ok(())
    }
}

async fn identity(refdb: &RefDb) -> Result<Option<RefdbIdentity>, RefDbError> {
    Ok(IDENTITY.read(refdb.documents.as_ref()).await?.map(|(_, identity)| identity))
}

/// The id of a refdb that is whole.
fn usable(identity: Option<&RefdbIdentity>) -> Result<&str, WriteError> {
    let refuse = |why| Err(WriteError::NotWhole(why));
    match identity.map(|identity| (identity.state, identity.id.as_str())) {
        None => refuse("these tables hold no refdb yet: check refdb.prefix, or wait until a node has joined"),
        Some((RefdbState::Building, _)) => refuse("the refdb is still being built: let the rebuild or the move end"),
        Some((RefdbState::Moved, _)) => refuse("the refdb has moved: name its new tables in refdb.prefix"),
        Some((RefdbState::Ready | RefdbState::Moving, id)) => Ok(id),
    }
}
