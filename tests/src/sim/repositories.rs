//! The repositories of a simulated node's volume: calls are delayed, fail, and are watched.
//!
//! The watch learns of every change of refs and of every sync, at the moment at which the model has done it.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::seams::blob::Payload;
use lockstep::seams::git::{
    GitError, IsCommitted, ObjectSlice, Packed, RefMove, Relation, RepairReport, Repositories, SliceChecked,
};
use lockstep_proto::{Oid, ProjectName, RefName};

use super::link::Link;
use super::watch::Watch;

/// Repositories whose calls pass a link, and whose changes the watch learns of.
pub struct FaultyRepositories {
    inner: Arc<dyn Repositories>,
    link: Link,
    watch: Arc<Watch>,
}

impl FaultyRepositories {
    /// Puts `link` in front of `inner`, and tells `watch` about changes.
    #[must_use]
    pub fn new(inner: Arc<dyn Repositories>, link: Link, watch: Arc<Watch>) -> Self {
        Self { inner, link, watch }
    }
}

/// The error of a failing disk. The effect of the call is unknown.
fn disk_failed() -> GitError {
    GitError::Failed { project: "any".into(), op: "use the disk", why: "simulated fault".into() }
}

/// A pack whose debug text is its bases and its length.
struct Shown(Packed);

impl std::fmt::Debug for Shown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.0.payload.as_ref().map_or(0, Payload::len);
        write!(out, "{bytes} bytes on {:?}", self.0.bases)
    }
}

#[async_trait]
impl Repositories for FaultyRepositories {
    async fn exists(&self, project: &ProjectName) -> Result<bool, GitError> {
        self.link.local(format!("exists {project}"), self.inner.exists(project), Some(disk_failed)).await
    }

    async fn create(&self, project: &ProjectName, head: &RefName) -> Result<(), GitError> {
        self.link.local(format!("create {project} {head}"), self.inner.create(project, head), Some(disk_failed)).await
    }

    async fn delete(&self, project: &ProjectName) -> Result<(), GitError> {
        let call = async {
            self.inner.delete(project).await?;
            self.watch.repository_deleted(self.link.node(), project);
            Ok(())
        };
        self.link.local(format!("delete {project}"), call, Some(disk_failed)).await
    }

    async fn set_head(&self, project: &ProjectName, target: &RefName) -> Result<(), GitError> {
        let call = self.inner.set_head(project, target);
        self.link.local(format!("set_head {project} {target}"), call, Some(disk_failed)).await
    }

    async fn head(&self, project: &ProjectName) -> Result<Option<RefName>, GitError> {
        self.link.local(format!("head {project}"), self.inner.head(project), Some(disk_failed)).await
    }

    async fn read_ref(&self, project: &ProjectName, name: &RefName) -> Result<Option<Oid>, GitError> {
        let call = self.inner.read_ref(project, name);
        self.link.local(format!("read_ref {project} {name}"), call, Some(disk_failed)).await
    }

    async fn list_refs(&self, project: &ProjectName) -> Result<Vec<(RefName, Oid)>, GitError> {
        self.link.local(format!("list_refs {project}"), self.inner.list_refs(project), Some(disk_failed)).await
    }

    async fn missing(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
        let call = self.inner.missing(project, oids);
        self.link.local(format!("missing {project}"), call, Some(disk_failed)).await
    }

    async fn check_objects(&self, project: &ProjectName, slice: ObjectSlice) -> Result<SliceChecked, GitError> {
        let call = self.inner.check_objects(project, slice);
        self.link.local(format!("check_objects {project} {slice:?}"), call, Some(disk_failed)).await
    }

    async fn relation(&self, project: &ProjectName, old: Oid, new: Oid) -> Result<Relation, GitError> {
        let call = self.inner.relation(project, old, new);
        self.link.local(format!("relation {project} {old} {new}"), call, Some(disk_failed)).await
    }

    async fn share_history(&self, project: &ProjectName, one: Oid, other: Oid) -> Result<bool, GitError> {
        let call = self.inner.share_history(project, one, other);
        self.link.local(format!("share_history {project} {one} {other}"), call, Some(disk_failed)).await
    }

    async fn share_histories(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<bool>, GitError> {
        let call = self.inner.share_histories(project, pairs);
        self.link.local(format!("share_histories {project} {pairs:?}"), call, Some(disk_failed)).await
    }

    async fn counter(&self, project: &ProjectName, oid: Oid) -> Result<Option<u64>, GitError> {
        let call = self.inner.counter(project, oid);
        self.link.local(format!("counter {project} {oid}"), call, Some(disk_failed)).await
    }

    async fn counters(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Option<u64>>, GitError> {
        let call = self.inner.counters(project, oids);
        self.link.local(format!("counters {project} {oids:?}"), call, Some(disk_failed)).await
    }

    async fn commits_behind(&self, project: &ProjectName, tips: &[Oid], most: usize) -> Result<Vec<Oid>, GitError> {
        let call = self.inner.commits_behind(project, tips, most);
        self.link.local(format!("commits_behind {project} {tips:?}"), call, Some(disk_failed)).await
    }

    async fn steps_to(&self, project: &ProjectName, tip: Oid, every: usize) -> Result<Vec<Oid>, GitError> {
        let call = self.inner.steps_to(project, tip, every);
        self.link.local(format!("steps_to {project} {tip}"), call, Some(disk_failed)).await
    }

    async fn pack(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        hints: &[Oid],
        is_committed: &IsCommitted,
    ) -> Result<Packed, GitError> {
        let call = async { self.inner.pack(project, wants, hints, is_committed).await.map(Shown) };
        let packed = self.link.local(format!("pack {project} {wants:?}"), call, Some(disk_failed)).await;
        packed.map(|Shown(packed)| packed)
    }

    async fn ingest(
        &self,
        project: &ProjectName,
        packs: &[Payload],
        wants: &[Oid],
        bases: &[Oid],
    ) -> Result<(), GitError> {
        let what = format!("ingest {project} {} packs for {wants:?} on {bases:?}", packs.len());
        self.link.local(what, self.inner.ingest(project, packs, wants, bases), Some(disk_failed)).await
    }

    async fn move_refs(
        &self,
        project: &ProjectName,
        moves: &[RefMove],
        keep: &[(String, Oid)],
    ) -> Result<(), GitError> {
        let steps = moves.iter().map(|m| format!(" {} {:?}>{:?}", m.name, m.old, m.new)).collect::<String>();
        let call = async {
            self.inner.move_refs(project, moves, keep).await?;
            self.watch.refs_moved(self.link.node(), project, moves);
            Ok(())
        };
        self.link.local(format!("move_refs {project}{steps}"), call, Some(disk_failed)).await
    }

    async fn kept(&self, project: &ProjectName) -> Result<Vec<String>, GitError> {
        self.link.local(format!("kept {project}"), self.inner.kept(project), Some(disk_failed)).await
    }

    async fn release(&self, project: &ProjectName, labels: &[String]) -> Result<(), GitError> {
        let call = self.inner.release(project, labels);
        self.link.local(format!("release {project} {}", labels.len()), call, Some(disk_failed)).await
    }

    async fn sync(&self) -> Result<(), GitError> {
        let call = async {
            let mark = self.watch.sync_begins(self.link.node());
            self.inner.sync().await?;
            self.watch.synced(self.link.node(), mark);
            Ok(())
        };
        self.link.local("sync".into(), call, Some(disk_failed)).await
    }

    async fn repair(&self, unclean_boot: bool) -> Result<RepairReport, GitError> {
        let call = async {
            let report = self.inner.repair(unclean_boot).await?;
            self.watch.repaired(self.link.node());
            Ok(report)
        };
        self.link.local(format!("repair {unclean_boot}"), call, Some(disk_failed)).await
    }

    async fn garbled(&self, project: &ProjectName, away: bool) -> Result<u64, GitError> {
        let call = self.inner.garbled(project, away);
        self.link.local(format!("garbled {project} {away}"), call, Some(disk_failed)).await
    }

    async fn is_complete(&self, project: &ProjectName, values: &[Oid]) -> Result<bool, GitError> {
        let call = self.inner.is_complete(project, values);
        self.link.local(format!("is_complete {project} {values:?}"), call, Some(disk_failed)).await
    }

    fn spill(&self) -> PathBuf {
        self.inner.spill()
    }
}
