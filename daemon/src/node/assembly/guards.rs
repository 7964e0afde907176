//! Looks at the hooks of every repository, again and again, and keeps the faults for the status API and the metrics.
//!
//! A guard that is not in force says nothing by itself: git simply does not run it. See [`in_force`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::ProjectName;
use lockstep_proto::status::GuardStatus;
use parking_lot::Mutex;

use super::stages::Stages;
use crate::base::base_paths::BasePaths;
use crate::clients::git_hooks::in_force::{self, Fault};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(15);
/// Number of faults that the status lists at most.
const LISTED: usize = 100;

/// The result of the last look.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The number of repositories whose hooks are not in force.
    pub count: u64,
    /// The first of them.
    pub first: Vec<GuardStatus>,
}

/// Looks at the hooks of one node's repositories.
pub(super) struct Guards {
    base_paths: BasePaths,
    /// Whether every repository must have the hooks (setting `git.install_hooks`).
    must: bool,
    found: Mutex<Found>,
}

impl Guards {
    /// Nothing is looked at until [`Guards::watch`] runs.
    pub(super) fn new(base_paths: &BasePaths, must: bool) -> Arc<Self> {
        Arc::new(Self { base_paths: base_paths.clone(), must, found: Mutex::default() })
    }

    /// The result of the last look.
    pub(super) fn found(&self) -> Found {
        self.found.lock().clone()
    }

    /// Looks again and again. Never ends.
    pub(super) async fn watch(self: Arc<Self>, stages: Arc<Stages>) {
        loop {
            match stages.state.materializer.versions.projects() {
                Ok(projects) => {
                    let living = projects.into_iter().filter(|(_, record)| !record.value.is_deleted_project());
                    self.look(living.map(|(name, _)| name)).await;
                }
                // On a store error, keep the last result.
                Err(why) => tracing::warn!(%why, "the hooks of the repositories could not be looked at"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn look(&self, projects: impl Iterator<Item = ProjectName>) {
        let mut found = Found::default();
        for project in projects {
            let git_dir = self.base_paths.git_dir(&project);
            // A repository that is away comes back with its hooks, or is reported by others.
            if git_dir.join("HEAD").exists()
                && let Err(fault) = in_force::check(&git_dir, &project, self.must)
            {
                found.count += 1;
                found.first.push(status(&project, git_dir, &fault));
                found.first.truncate(LISTED);
            }
            tokio::task::yield_now().await;
        }
        self.keep(found);
    }

    fn keep(&self, found: Found) {
        let mut last = self.found.lock();
        for one in found.first.iter().filter(|one| !last.first.contains(one)) {
            let (project, reason) = (&one.project, &one.reason);
            tracing::error!(project, reason, "the hooks of a repository are not in force: refs can bypass Lockstep");
        }
        *last = found;
    }
}

fn status(project: &ProjectName, git_dir: PathBuf, fault: &Fault) -> GuardStatus {
    let repository = git_dir.display().to_string();
    let remedy = match fault {
        Fault::Unknown(_) => "repair it",
        Fault::OtherProject(_) => {
            "if it is the right repository, run `lockstep hook uninstall` and `hook install` on it"
        }
        Fault::OtherFolder(_)
        | Fault::NotInstalled
        | Fault::NoHook(_)
        | Fault::NoBinary(_)
        | Fault::NotHandedOver(_) => "run `lockstep hook install` on it",
    };
    let reason = format!("{fault}; {remedy}: {repository}");
    GuardStatus { project: project.to_string(), repository, reason }
}
