//! A volume that has every object of every other one, and whose refs survive a power cut only if they are synced.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::base::clock::Entropy;
use lockstep::seams::blob::Payload;
use lockstep::seams::git::{GitError, IsCommitted, Packed, RefMove, Relation, RepairReport, Repositories};
use lockstep::seams::volume::NodeStore;
use lockstep::seams::volume::memory::MemoryStore;
use lockstep_proto::{Oid, ProjectName, RefName};
use parking_lot::{Mutex, MutexGuard};

use crate::sim::backend::Volume;
use crate::sim::dice::fnv1a;

type Refs = BTreeMap<ProjectName, BTreeMap<RefName, Oid>>;

#[derive(Clone, Default)]
pub(super) struct TinyRepositories(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    refs: Refs,
    synced: Refs,
}

#[derive(Default)]
pub(super) struct TinyVolume {
    repositories: TinyRepositories,
    store: MemoryStore,
}

impl TinyRepositories {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl Volume for TinyVolume {
    fn repositories(&self) -> Arc<dyn Repositories> {
        Arc::new(self.repositories.clone())
    }

    fn store(&self) -> Arc<dyn NodeStore> {
        Arc::new(self.store.clone())
    }

    fn add_object(&self, project: &ProjectName, pointing_to: &[Oid], nonce: u64) -> Oid {
        let hash = fnv1a(format!("{project}{pointing_to:?}{nonce}").as_bytes());
        let mut bytes = [1; 20];
        bytes[..8].copy_from_slice(&hash.to_be_bytes());
        Oid::Sha1(bytes)
    }

    fn has(&self, project: &ProjectName) -> bool {
        self.repositories.state().refs.contains_key(project)
    }

    fn refs(&self, project: &ProjectName) -> BTreeMap<RefName, Oid> {
        self.repositories.state().refs.get(project).cloned().unwrap_or_default()
    }

    fn closure_is_complete(&self, _project: &ProjectName, _oid: &Oid) -> bool {
        true
    }

    fn power_cut(&self, _entropy: &dyn Entropy) {
        let mut state = self.repositories.state();
        state.refs = state.synced.clone();
    }

    fn wipe(&self) {
        *self.repositories.state() = State::default();
        self.store.wipe();
    }
}

#[async_trait]
impl Repositories for TinyRepositories {
    async fn exists(&self, project: &ProjectName) -> Result<bool, GitError> {
        Ok(self.state().refs.contains_key(project))
    }

    async fn create(&self, project: &ProjectName, _head: &RefName) -> Result<(), GitError> {
        self.state().refs.entry(project.clone()).or_default();
        Ok(())
    }

    async fn delete(&self, project: &ProjectName) -> Result<(), GitError> {
        self.state().refs.remove(project);
        Ok(())
    }

    async fn set_head(&self, _project: &ProjectName, _target: &RefName) -> Result<(), GitError> {
        Ok(())
    }

    async fn head(&self, _project: &ProjectName) -> Result<Option<RefName>, GitError> {
        Ok(None)
    }

    async fn read_ref(&self, project: &ProjectName, name: &RefName) -> Result<Option<Oid>, GitError> {
        Ok(self.state().refs.get(project).and_then(|refs| refs.get(name).copied()))
    }

    async fn list_refs(&self, project: &ProjectName) -> Result<Vec<(RefName, Oid)>, GitError> {
        Ok(self.state().refs.get(project).cloned().unwrap_or_default().into_iter().collect())
    }

    async fn missing(&self, _project: &ProjectName, _oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
        Ok(Vec::new())
    }

    async fn relation(&self, _project: &ProjectName, _old: Oid, _new: Oid) -> Result<Relation, GitError> {
        Ok(Relation::FastForward)
    }

    async fn share_history(&self, _project: &ProjectName, _one: Oid, _other: Oid) -> Result<bool, GitError> {
        Ok(true)
    }

    async fn share_histories(&self, _project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<bool>, GitError> {
        Ok(vec![true; pairs.len()])
    }

    async fn counter(&self, _project: &ProjectName, _oid: Oid) -> Result<Option<u64>, GitError> {
        Ok(None)
    }

    async fn counters(&self, _project: &ProjectName, oids: &[Oid]) -> Result<Vec<Option<u64>>, GitError> {
        Ok(vec![None; oids.len()])
    }

    async fn commits_behind(&self, _project: &ProjectName, _tips: &[Oid], _most: usize) -> Result<Vec<Oid>, GitError> {
        Ok(Vec::new())
    }

    async fn steps_to(&self, _project: &ProjectName, _tip: Oid, _every: usize) -> Result<Vec<Oid>, GitError> {
        Ok(Vec::new())
    }

    async fn pack(
        &self,
        _project: &ProjectName,
        _wants: &[Oid],
        _hints: &[Oid],
        _is_committed: &IsCommitted,
    ) -> Result<Packed, GitError> {
        Ok(Packed { payload: None, bases: Vec::new() })
    }

    async fn ingest(
        &self,
        _project: &ProjectName,
        _packs: &[Payload],
        _wants: &[Oid],
        _bases: &[Oid],
    ) -> Result<(), GitError> {
        Ok(())
    }

    async fn move_refs(
        &self,
        project: &ProjectName,
        moves: &[RefMove],
        _keep: &[(String, Oid)],
    ) -> Result<(), GitError> {
        let mut state = self.state();
        let refs = state.refs.entry(project.clone()).or_default();
        for step in moves {
            match step.new {
                Some(oid) => refs.insert(step.name.clone(), oid),
                None => refs.remove(&step.name),
            };
        }
        Ok(())
    }

    async fn kept(&self, _: &ProjectName) -> Result<Vec<String>, GitError> {
        Ok(Vec::new())
    }

    async fn release(&self, _project: &ProjectName, _labels: &[String]) -> Result<(), GitError> {
        Ok(())
    }

    async fn sync(&self) -> Result<(), GitError> {
        let mut state = self.state();
        state.synced = state.refs.clone();
        Ok(())
    }

    async fn garbled(&self, _project: &ProjectName, _away: bool) -> Result<u64, GitError> {
        Ok(0)
    }

    async fn is_complete(&self, _project: &ProjectName, _values: &[Oid]) -> Result<bool, GitError> {
        Ok(true)
    }

    async fn repair(&self, _unclean_boot: bool) -> Result<RepairReport, GitError> {
        Ok(RepairReport::default())
    }

    fn spill(&self) -> PathBuf {
        PathBuf::new()
    }
}
