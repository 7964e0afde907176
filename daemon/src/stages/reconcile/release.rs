//! The releaser: releases kept values. A value that a transaction made unreachable is kept until the journal entry of
//! that transaction is collected. By then every node has applied the entry, and no transaction still to come builds on
//! the value.
//!
//! A value is kept under a label: the id of the transaction and a suffix, as the materializer writes it. Labels are
//! read before the incarnations. So the incarnation of a label is among them, unless it was forgotten, which happens
//! only when all of its slots are collected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lockstep_proto::{IncarnationId, ProjectName, Slot, TxnId};
use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::seams::git::{GitError, Repositories};
use crate::seams::refdb::{IncarnationRecord, RefDb, RefDbError, SlotState};
use crate::state::context::NodeContext;
use crate::state::materialize::is_stray;

/// Projects per page, when the list of projects is read.
const PAGE: usize = 1_000;

/// Why kept values were not released.
#[derive(Debug, thiserror::Error)]
enum ReleaseError {
    /// A call of the refdb failed. A retry may help.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// An operation on a repository failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// The releaser of one node.
pub struct Releaser {
    /// The refdb, which has the projects, the incarnations and the journal.
    refdb: RefDb,
    /// The repositories that keep the values.
    repositories: Arc<dyn Repositories>,
    /// Receives every run that failed.
    observer: Arc<dyn Observer>,
    /// The pause between two runs.
    pace: Duration,
    /// The strays that the present run has met.
    strays: AtomicU64,
}

impl Releaser {
    /// Creates the job that releases kept values at one node.
    #[must_use]
    pub fn new(context: &NodeContext, pace: Duration) -> Self {
        let NodeContext { refdb, repositories, observer, .. } = context.clone();
        Self { refdb, repositories, observer, pace, strays: AtomicU64::new(0) }
    }

    /// Releases values periodically, until the task is aborted.
    pub async fn run(self) {
        loop {
            sleep(self.pace).await;
            if let Err(why) = self.release().await {
                self.observer.failed("release", &why);
            }
        }
    }

    async fn release(&self) -> Result<(), ReleaseError> {
        self.strays.store(0, Ordering::SeqCst);
        let mut after: Option<ProjectName> = None;
        loop {
            let page = self.refdb.refs.projects(after.as_ref(), PAGE).await?;
            for (project, _) in &page {
                self.release_of(project).await?;
            }
            if page.len() < PAGE {
                self.observer.strays(self.strays.swap(0, Ordering::SeqCst));
                return Ok(());
            }
            after = page.last().map(|(name, _)| name.clone());
        }
    }

    async fn release_of(&self, project: &ProjectName) -> Result<(), ReleaseError> {
        let labels = match self.repositories.kept(project).await {
            Err(GitError::NoRepository(_)) => return Ok(()),
            kept => kept?,
        };
        if labels.is_empty() {
            return Ok(());
        }
        let strays = labels.iter().filter(|label| is_stray(label)).count();
        self.strays.fetch_add(strays as u64, Ordering::SeqCst);
        let incarnations = self.refdb.incarnations().await?;
        let known = incarnations.into_iter().map(|record| (record.id.clone(), record)).collect();
        let mut over = Vec::new();
        for label in labels {
            if let Some(txn) = ended_by(&label)
                && self.is_collected(&txn.slot, &known).await?
            {
                over.push(label);
            }
        }
        Ok(self.repositories.release(project, &over).await?)
    }

    /// Whether a slot is collected: its incarnation is forgotten, or it is empty below the published mark.
    async fn is_collected(
        &self,
        slot: &Slot,
        known: &BTreeMap<IncarnationId, IncarnationRecord>,
    ) -> Result<bool, RefDbError> {
        let Some(incarnation) = known.get(&slot.lane.incarnation) else { return Ok(true) };
        let published = incarnation.published.get(slot.lane.lane.index()).copied().unwrap_or_default();
        Ok(slot.seq < published && self.refdb.journal.slot(slot).await? == SlotState::Empty)
    }
}

/// The transaction that a label names. `None` for a label of another form.
fn ended_by(label: &str) -> Option<TxnId> {
    label.rsplit_once('-').and_then(|(txn, _)| txn.parse().ok())
}

#[cfg(test)]
mod tests {
    use lockstep_proto::{Oid, Seq};

    use super::*;
    use crate::base::faults::injected_bug::InjectedBugs;
    use crate::seams::git::model::ModelRepositories;

    const LABELS: [&str; 2] = ["n.1.0.3.00000000000000aa-0", "n.1.0.7.00000000000000bb-j2"];

    async fn world() -> (NodeContext, ModelRepositories, ProjectName, Oid) {
        let repositories = ModelRepositories::new(InjectedBugs::default());
        let project: ProjectName = "p".parse().unwrap();
        repositories.create(&project, &"refs/heads/main".parse().unwrap()).await.unwrap();
        let oid = repositories.add_object(&project, &[], 1);
        let keep = LABELS.map(|label| (label.to_owned(), oid));
        repositories.move_refs(&project, &[], &keep).await.unwrap();
        let context = NodeContext { repositories: Arc::new(repositories.clone()), ..NodeContext::in_memory() };
        (context, repositories, project, oid)
    }

    fn releaser(context: &NodeContext) -> Releaser {
        Releaser::new(context, Duration::from_secs(1))
    }

    #[tokio::test]
    async fn a_value_is_kept_until_its_slot_is_collected() {
        let (context, repositories, project, _) = world().await;
        let (releaser, refdb) = (releaser(&context), &context.refdb);
        let IncarnationRecord { site, id, .. } = context.open_incarnation().await;
        releaser.release_of(&project).await.unwrap();
        assert_eq!(repositories.kept(&project).len(), 2, "an empty slot above the published mark may still be taken");
        refdb.journal.poison(&"n.1.0.3".parse().unwrap()).await.unwrap();
        refdb.registry.mark(&site, &id, &[Seq(5)], &[Seq(5)]).await.unwrap();
        releaser.release_of(&project).await.unwrap();
        assert_eq!(repositories.kept(&project).len(), 2, "an occupied slot is not collected");
        refdb.registry.mark(&site, &id, &[Seq(8)], &[Seq(8)]).await.unwrap();
        releaser.release_of(&project).await.unwrap();
        let left: Vec<String> = repositories.kept(&project).into_keys().collect();
        assert_eq!(left, [LABELS[0]], "the slot of the other label is empty below the mark");
    }

    #[tokio::test]
    async fn values_of_a_forgotten_incarnation_are_released_and_other_labels_stay() {
        let (context, repositories, project, oid) = world().await;
        repositories.move_refs(&project, &[], &[("by-hand".to_owned(), oid)]).await.unwrap();
        releaser(&context).release_of(&project).await.unwrap();
        let left: Vec<String> = repositories.kept(&project).into_keys().collect();
        assert_eq!(left, ["by-hand"]);
    }
}
