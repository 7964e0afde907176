//! The services and the volumes in memory, as a backend of the simulator.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use lockstep::base::clock::Entropy;
use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::blob::BlobStore;
use lockstep::seams::blob::memory::MemoryBlobs;
use lockstep::seams::eventlog::EventLog;
use lockstep::seams::eventlog::memory::MemoryEventLog;
use lockstep::seams::git::Repositories;
use lockstep::seams::git::model::ModelRepositories;
use lockstep::seams::refdb::RefDb;
use lockstep::seams::refdb::memory::{Backup, MemoryRefDb, MemoryTables};
use lockstep::seams::volume::NodeStore;
use lockstep::seams::volume::memory::MemoryStore;
use lockstep_proto::{Oid, ProjectName, RefName, SiteId};

use super::backend::{Backend, Volume};

/// A function that makes a new, empty volume.
pub type NewVolume = Box<dyn Fn() -> Arc<dyn Volume> + Send + Sync>;

/// A refdb, event logs and blobs in memory, and volumes that a function makes.
pub struct MemoryBackend {
    refdb: MemoryRefDb,
    tables: MemoryTables,
    eventlog: MemoryEventLog,
    blobs: MemoryBlobs,
    new_volume: NewVolume,
}

impl MemoryBackend {
    /// Empty services. Each stream begins with `shards` shards.
    #[must_use]
    pub fn new(shards: u32, new_volume: NewVolume) -> Self {
        Self {
            refdb: MemoryRefDb::new(),
            tables: MemoryTables::default(),
            eventlog: MemoryEventLog::new(shards),
            blobs: MemoryBlobs::default(),
            new_volume,
        }
    }

    /// Empty services, with volumes of the models of repositories and store.
    #[must_use]
    pub fn of_models(shards: u32, bugs: InjectedBugs) -> Self {
        let models = Self::new(shards, Box::new(move || Arc::new(ModelVolume::new(bugs))));
        Self { refdb: MemoryRefDb::injected(bugs), ..models }
    }

    /// The open shards of a stream: those that are no shard's parent.
    fn open_shards(&self, site: &SiteId) -> Vec<String> {
        let described = self.eventlog.describe(site).now_or_never();
        let Some(Ok(stream)) = described else { return Vec::new() };
        let is_parent = |id: &String| stream.shards.iter().any(|other| other.parents.contains(id));
        stream.shards.iter().map(|shard| shard.id.clone()).filter(|id| !is_parent(id)).collect()
    }

    /// Merges the first two neighbours, beginning at a random pair.
    fn merge(&self, site: &SiteId, open: &[String], from: usize) -> Option<String> {
        let pairs = (0..open.len()).flat_map(|a| (0..open.len()).map(move |b| (a, b))).filter(|(a, b)| a != b);
        let mut pairs: Vec<(usize, usize)> = pairs.collect();
        let turn = from % pairs.len().max(1);
        pairs.rotate_left(turn);
        pairs.into_iter().find_map(|(a, b)| {
            let child = self.eventlog.merge(site, &open[a], &open[b]).ok()?;
            Some(format!("merged {} and {} into {child}", open[a], open[b]))
        })
    }
}

impl Backend for MemoryBackend {
    fn refdb(&self) -> RefDb {
        self.refdb.refdb()
    }

    fn eventlog(&self) -> Arc<dyn EventLog> {
        Arc::new(self.eventlog.clone())
    }

    fn blobs(&self) -> Arc<dyn BlobStore> {
        Arc::new(self.blobs.clone())
    }

    fn volume(&self) -> Arc<dyn Volume> {
        (self.new_volume)()
    }

    fn write_single_items(&self) {
        self.refdb.write_single_items();
    }

    fn backup(&self) -> Backup {
        self.refdb.backup()
    }

    fn restore(&self, backup: &Backup) {
        self.refdb.restore(backup);
    }

    fn tables(&self) -> MemoryTables {
        self.tables.clone()
    }

    fn trim(&self, site: &SiteId, before: u64) {
        // The number is well-formed. A site without a stream has nothing to trim.
        let _ = self.eventlog.trim(site, &before.to_string());
    }

    fn reshard(&self, site: &SiteId, entropy: &dyn Entropy) -> Option<String> {
        let open = self.open_shards(site);
        let from = usize::try_from(entropy.next() % 1_000).unwrap_or(0);
        if open.len() >= 4 || (open.len() >= 2 && entropy.next().is_multiple_of(2)) {
            return self.merge(site, &open, from);
        }
        let shard = open.get(from % open.len().max(1))?;
        let [low, high] = self.eventlog.split(site, shard).ok()?;
        Some(format!("split {shard} into {low} and {high}"))
    }
}

/// A volume of the models.
struct ModelVolume {
    repositories: ModelRepositories,
    store: MemoryStore,
}

impl ModelVolume {
    fn new(bugs: InjectedBugs) -> Self {
        Self { repositories: ModelRepositories::new(bugs), store: MemoryStore::injected(bugs) }
    }
}

impl Volume for ModelVolume {
    fn repositories(&self) -> Arc<dyn Repositories> {
        Arc::new(self.repositories.clone())
    }

    fn store(&self) -> Arc<dyn NodeStore> {
        Arc::new(self.store.clone())
    }

    fn add_object(&self, project: &ProjectName, pointing_to: &[Oid], nonce: u64) -> Oid {
        self.repositories.add_object(project, pointing_to, nonce)
    }

    fn has(&self, project: &ProjectName) -> bool {
        self.repositories.exists(project).now_or_never().is_some_and(|exists| exists.unwrap_or(false))
    }

    fn refs(&self, project: &ProjectName) -> BTreeMap<RefName, Oid> {
        self.repositories.refs(project)
    }

    fn closure_is_complete(&self, project: &ProjectName, oid: &Oid) -> bool {
        self.repositories.closure_is_complete(project, *oid)
    }

    fn power_cut(&self, entropy: &dyn Entropy) {
        self.repositories.power_cut(entropy);
    }

    fn snapshot(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let (repositories, store) = (self.repositories.snapshot(), self.store.clone());
        let content = store.snapshot();
        Some(Box::new(move || {
            repositories();
            store.restore(&content);
        }))
    }

    fn wipe(&self) {
        self.repositories.wipe();
        self.store.wipe();
    }
}
