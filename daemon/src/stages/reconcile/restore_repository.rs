//! The repository restorer: restores the missing repository of a living project, with objects from peers.
//!
//! A repository may be missing although its project lives. The delete-project plugin moves the folder away before it
//! asks for the deletion, which may then be refused or never arrive. An operator may take away a folder that was
//! initialised apart. The start of a restoration is noted durably before the repository is created, so that a crash
//! leaves no repository that lacks refs and is taken for complete.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue};
use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::seams::git::{GitError, Repositories};
use crate::seams::refdb::{RefDb, RefDbError};
use crate::seams::volume::{NodeStore, StoreError, VolumeFacts};
use crate::stages::ports::{CatchUp, CatchUpError};
use crate::state::context::{NodeContext, NodeState};
use crate::state::durability::Durability;
use crate::state::version_map::VersionMap;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation on a repository failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// A call of the refdb failed. A retry may help.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The objects or refs could not be brought.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// A repository stays missing.
    #[error("the repository of {project} is missing and cannot be restored yet: {why}")]
    Missing {
        /// The living project that has no repository.
        project: ProjectName,
        /// Why it was not restored.
        why: Box<RestoreError>,
    },
}

/// The repository restorer of one node.
pub struct RepositoryRestorer {
    /// The refdb, which tells whether a project still lives.
    refdb: RefDb,
    /// The version map, which has the projects that this node knows.
    versions: Arc<VersionMap>,
    /// The repositories of this node.
    repositories: Arc<dyn Repositories>,
    /// Has the note of restorations in progress.
    store: Arc<dyn NodeStore>,
    /// Makes that note durable.
    durability: Durability,
    /// Restores a repository, with refs and objects.
    catch_up: Arc<dyn CatchUp>,
    /// Receives every run that failed.
    observer: Arc<dyn Observer>,
    /// The pause between two runs.
    pace: Duration,
}

impl RepositoryRestorer {
    /// Creates a restorer that restores through `catch_up`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, catch_up: Arc<dyn CatchUp>, pace: Duration) -> Self {
        let NodeContext { refdb, repositories, store, observer, .. } = context.clone();
        let NodeState { versions, durability, .. } = state.clone();
        Self { refdb, versions, repositories, store, durability, catch_up, observer, pace }
    }

    /// Looks for missing repositories periodically, until the task is aborted.
    pub async fn run(self) {
        let mut gone_before = BTreeSet::new();
        loop {
            sleep(self.pace).await;
            if let Err(why) = self.look(&mut gone_before).await {
                self.observer.failed("restore-repository", &why);
            }
        }
    }

    /// Looks once. A missing repository is restored only if the run before missed it too, because mostly the deletion
    /// of its project is just on its way. A restoration in progress is continued at once.
    async fn look(&self, gone_before: &mut BTreeSet<ProjectName>) -> Result<(), RestoreError> {
        let under_way = self.facts()?.restoring;
        let mut gone = BTreeSet::new();
        for (name, record) in self.versions.projects()? {
            let lives = matches!(record.value, RefValue::State(state) if lives(state.phase));
            if !lives {
                continue;
            }
            let is_there = self.repositories.exists(&name).await?;
            if under_way.contains(&name) || !is_there {
                gone.insert(name);
            }
        }
        let mut failed = None;
        for name in &gone {
            if (under_way.contains(name) || gone_before.contains(name))
                && let Err(why) = self.restore_repository(name).await
            {
                failed = Some(RestoreError::Missing { project: name.clone(), why: Box::new(why) });
            }
        }
        for name in under_way.iter().filter(|name| !gone.contains(*name)) {
            // The project was deleted meanwhile.
            self.note(name, false).await?;
        }
        *gone_before = gone;
        failed.map_or(Ok(()), Err)
    }

    async fn restore_repository(&self, name: &ProjectName) -> Result<(), RestoreError> {
        let any = ProjectKey::of_name(name);
        let read = self.refdb.refs.read(&any, &[RefKey::State]).await?;
        let state = read.into_iter().flatten().next().map(|item| item.value);
        let Some(RefValue::State(state)) = state else { return Ok(()) };
        let key = ProjectKey::new(name, state.incarnation);
        let known = self.versions.project_key(name)?;
        if !lives(state.phase) || known.as_ref() != Some(&key) {
            // The deletion of the project, or a successor of it, is on its way to this node.
            return Ok(());
        }
        tracing::error!(project = %key, "the repository of a living project is missing: restoring it from a peer");
        self.note(name, true).await?;
        self.catch_up.restore_repository(&key).await?;
        self.note(name, false).await?;
        tracing::warn!(project = %key, "the repository is restored");
        Ok(())
    }

    fn facts(&self) -> Result<VolumeFacts, StoreError> {
        self.store.facts()
    }

    /// Notes durably whether the repository of a project is being restored. Everything that was moved before becomes
    /// durable first.
    async fn note(&self, name: &ProjectName, is_under_way: bool) -> Result<(), StoreError> {
        self.durability.wait_durable().await;
        let mut facts = self.facts()?;
        let changed = if is_under_way { facts.restoring.insert(name.clone()) } else { facts.restoring.remove(name) };
        if changed {
            self.durability.stage(|changes| changes.facts = Some(facts));
            self.durability.wait_durable().await;
        }
        Ok(())
    }
}

/// Whether a project in this phase has a repository. A closing project is about to lose it.
fn lives(phase: ProjectPhase) -> bool {
    matches!(phase, ProjectPhase::Active | ProjectPhase::ReadOnly)
}
