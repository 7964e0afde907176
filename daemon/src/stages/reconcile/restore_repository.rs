//! The repository_restorer: a project that lives has a repository.
//!
//! A repository may be gone without its project: the delete-project plugin moves the folder away before it asks for the
//! deletion, which may then be refused or never arrive; an operator may take a folder away that was initialised apart. Such
//! a project is brought back, with objects from peers. That it is under way is noted durably before the repository is made
//! anew, so that a crash leaves no repository that lacks its refs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue};
use tokio::time::sleep;

use crate::base::observer::Observer;
use crate::seams::git::Repositories;
use crate::seams::refdb::RefDb;
use crate::seams::volume::{NodeStore, VolumeFacts};
use crate::stages::ports::CatchUp;
use crate::state::durability::Durability;
use crate::state::version_map::VersionMap;

/// Brings repositories back at one node.
pub struct RepositoryRestorer {
    /// The refdb.
    pub refdb: Arc<dyn RefDb>,
    /// What is known of projects.
    pub versions: Arc<VersionMap>,
    /// Their repositories.
    pub repositories: Arc<dyn Repositories>,
    /// Remembers what is under way.
    pub store: Arc<dyn NodeStore>,
    /// Makes it durable.
    pub durability: Durability,
    /// Brings refs and objects.
    pub catch_up: Arc<dyn CatchUp>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// How often.
    pub pace: Duration,
}

impl RepositoryRestorer {
    /// Looks until it is aborted.
    pub async fn run(self) {
        let mut gone_before = BTreeSet::new();
        loop {
            sleep(self.pace).await;
            if let Err(why) = self.look(&mut gone_before).await {
                self.observer.failed("revive", &why);
            }
        }
    }

    /// One look. What is gone is brought back when it was gone at the last look too: mostly its deletion is on its way.
    async fn look(&self, gone_before: &mut BTreeSet<ProjectName>) -> Result<(), String> {
        let under_way = self.facts()?.restoring;
        let mut gone = BTreeSet::new();
        for (name, record) in self.versions.projects().map_err(|error| error.to_string())? {
            let lives = matches!(record.value, RefValue::State(state) if lives(state.phase));
            if !lives {
                continue;
            }
            let is_there = self.repositories.exists(&name).await.map_err(|error| error.to_string())?;
            if under_way.contains(&name) || !is_there {
                gone.insert(name);
            }
        }
        let mut failed = None;
        for name in &gone {
            if (under_way.contains(name) || gone_before.contains(name))
                && let Err(why) = self.restore_repository(name).await
            {
                failed = Some(format!("the repository of {name} is gone and cannot be brought back yet: {why}"));
            }
        }
        for name in under_way.iter().filter(|name| !gone.contains(*name)) {
            // It was deleted meanwhile.
            self.note(name, false).await?;
        }
        *gone_before = gone;
        failed.map_or(Ok(()), Err)
    }

    async fn restore_repository(&self, name: &ProjectName) -> Result<(), String> {
        let any = ProjectKey { name: name.clone(), incarnation: 0 };
        let read = self.refdb.read(&any, &[RefKey::State]).await.map_err(|error| error.to_string())?;
        let state = read.into_iter().flatten().next().map(|item| item.value);
        let Some(RefValue::State(state)) = state else { return Ok(()) };
        let key = ProjectKey { name: name.clone(), incarnation: state.incarnation };
        let known = self.versions.project_key(name).map_err(|error| error.to_string())?;
        if !lives(state.phase) || known.as_ref() != Some(&key) {
            // A deletion, or a successor, is on its way here.
            return Ok(());
        }
        tracing::error!(project = %key, "the repository is gone, and its project lives: bringing it back from a peer");
        self.note(name, true).await?;
        self.catch_up.restore_repository(&key).await?;
        self.note(name, false).await?;
        tracing::warn!(project = %key, "the repository is back");
        Ok(())
    }

    fn facts(&self) -> Result<VolumeFacts, String> {
        self.store.facts().map_err(|error| error.to_string())
    }

    /// Notes durably whether a project is being brought back; with it everything that was moved for it.
    async fn note(&self, name: &ProjectName, is_under_way: bool) -> Result<(), String> {
        self.durability.settle().await;
        let mut facts = self.facts()?;
        let changed = if is_under_way { facts.restoring.insert(name.clone()) } else { facts.restoring.remove(name) };
        if changed {
            self.durability.stage(|changes| changes.facts = Some(facts));
            self.durability.settle().await;
        }
        Ok(())
    }
}

/// Whether a project in this phase has a repository. One that closes is about to lose it.
fn lives(phase: ProjectPhase) -> bool {
    matches!(phase, ProjectPhase::Active | ProjectPhase::ReadOnly)
}
