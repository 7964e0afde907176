//! Simulated repositories that count their calls, for tests of those who call them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::{Oid, ProjectName, RefName};
use parking_lot::Mutex;

use super::ModelRepositories;
use crate::seams::blob::Payload;
use crate::seams::git::{GitError, IsCommitted, Packed, RefMove, Relation, RepairReport, Repositories};

/// Simulated repositories whose calls are counted by their names.
pub(crate) struct CountedRepositories {
    inner: ModelRepositories,
    calls: Mutex<BTreeMap<&'static str, usize>>,
    /// The time that a sync takes.
    sync: Duration,
    /// The project whose kept values cannot be listed.
    broken: Option<ProjectName>,
}

impl CountedRepositories {
    /// Counts the calls to these repositories, from nought.
    pub(crate) fn new(inner: ModelRepositories) -> Self {
        Self { inner, calls: Mutex::default(), sync: Duration::ZERO, broken: None }
    }

    /// The same repositories on a disk whose sync takes this long.
    pub(crate) fn with_sync_time(self, sync: Duration) -> Self {
        Self { sync, ..self }
    }

    /// The same repositories, of which the kept values of this project cannot be listed.
    pub(crate) fn with_broken_project(self, project: ProjectName) -> Self {
        Self { broken: Some(project), ..self }
    }

    /// The number of calls of this kind.
    pub(crate) fn calls(&self, name: &str) -> usize {
        self.calls.lock().get(name).copied().unwrap_or_default()
    }

    fn count(&self, name: &'static str) -> &dyn Repositories {
        *self.calls.lock().entry(name).or_default() += 1;
        &self.inner
    }
}

#[async_trait]
impl Repositories for CountedRepositories {
    async fn exists(&self, project: &ProjectName) -> Result<bool, GitError> {
        self.count("exists").exists(project).await
    }

    async fn create(&self, project: &ProjectName, head: &RefName) -> Result<(), GitError> {
        self.count("create").create(project, head).await
    }

    async fn delete(&self, project: &ProjectName) -> Result<(), GitError> {
        self.count("delete").delete(project).await
    }

    async fn set_head(&self, project: &ProjectName, target: &RefName) -> Result<(), GitError> {
        self.count("set_head").set_head(project, target).await
    }

    async fn head(&self, project: &ProjectName) -> Result<Option<RefName>, GitError> {
        self.count("head").head(project).await
    }

    async fn read_ref(&self, project: &ProjectName, name: &RefName) -> Result<Option<Oid>, GitError> {
        self.count("read_ref").read_ref(project, name).await
    }

    async fn list_refs(&self, project: &ProjectName) -> Result<Vec<(RefName, Oid)>, GitError> {
        self.count("list_refs").list_refs(project).await
    }

    async fn missing(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
        self.count("missing").missing(project, oids).await
    }

    async fn relation(&self, project: &ProjectName, old: Oid, new: Oid) -> Result<Relation, GitError> {
        self.count("relation").relation(project, old, new).await
    }

    async fn relations(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<Relation>, GitError> {
        self.count("relations").relations(project, pairs).await
    }

    async fn share_history(&self, project: &ProjectName, one: Oid, other: Oid) -> Result<bool, GitError> {
        self.count("share_history").share_history(project, one, other).await
    }

    async fn share_histories(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<bool>, GitError> {
        self.count("share_histories").share_histories(project, pairs).await
    }

    async fn counter(&self, project: &ProjectName, oid: Oid) -> Result<Option<u64>, GitError> {
        self.count("counter").counter(project, oid).await
    }

    async fn counters(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Option<u64>>, GitError> {
        self.count("counters").counters(project, oids).await
    }

    async fn commits_behind(&self, project: &ProjectName, tips: &[Oid], most: usize) -> Result<Vec<Oid>, GitError> {
        self.count("commits_behind").commits_behind(project, tips, most).await
    }

    async fn steps_to(&self, project: &ProjectName, tip: Oid, every: usize) -> Result<Vec<Oid>, GitError> {
        self.count("steps_to").steps_to(project, tip, every).await
    }

    async fn pack(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        hints: &[Oid],
        is_committed: &IsCommitted,
    ) -> Result<Packed, GitError> {
        self.count("pack").pack(project, wants, hints, is_committed).await
    }

    async fn ingest(
        &self,
        project: &ProjectName,
        packs: &[Payload],
        wants: &[Oid],
        bases: &[Oid],
    ) -> Result<(), GitError> {
        self.count("ingest").ingest(project, packs, wants, bases).await
    }

    async fn move_refs(
        &self,
        project: &ProjectName,
        moves: &[RefMove],
        keep: &[(String, Oid)],
    ) -> Result<(), GitError> {
        self.count("move_refs").move_refs(project, moves, keep).await
    }

    async fn kept(&self, project: &ProjectName) -> Result<Vec<String>, GitError> {
        if self.broken.as_ref() == Some(project) {
            return Err(GitError::Bad { project: project.clone(), why: "a ref is no object id".to_owned() });
        }
        self.count("kept").kept(project).await
    }

    async fn release(&self, project: &ProjectName, labels: &[String]) -> Result<(), GitError> {
        self.count("release").release(project, labels).await
    }

    async fn sync(&self) -> Result<(), GitError> {
        tokio::time::sleep(self.sync).await;
        self.count("sync").sync().await
    }

    async fn repair(&self, unclean_boot: bool) -> Result<RepairReport, GitError> {
        self.count("repair").repair(unclean_boot).await
    }

    async fn garbled(&self, project: &ProjectName, away: bool) -> Result<u64, GitError> {
        self.count("garbled").garbled(project, away).await
    }

    async fn is_complete(&self, project: &ProjectName, values: &[Oid]) -> Result<bool, GitError> {
        self.count("is_complete").is_complete(project, values).await
    }

    fn spill(&self) -> PathBuf {
        self.inner.spill()
    }
}
