//! Looks for locks that programs left behind in the repositories, again and again, and keeps them for the status API
//! and the metrics.
//!
//! A commit that meets such a lock is true everywhere, and cannot be shown here until somebody removes the lock. See
//! [`left_locks`].

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::ProjectName;
use lockstep_proto::status::LeftLockStatus;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::stages::Stages;
use crate::base::base_paths::BasePaths;
use crate::base::clock::{Clock, SystemClock};
use crate::seams::git::left_locks::left_locks;

/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_secs(15);
/// A look reads the folders of all refs. The pause is at least this many times as long as the look took.
const REST: u32 = 20;
/// Number of locks that the status lists at most, and that are looked for in one repository.
const LISTED: usize = 100;

/// The result of the last look.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// The number of locks that were left behind, at most [`LISTED`] per repository.
    pub count: u64,
    /// The first of them.
    pub first: Vec<LeftLockStatus>,
}

/// Looks for locks in one node's repositories.
pub(super) struct LeftLocks {
    base_paths: BasePaths,
    found: Mutex<Found>,
}

impl LeftLocks {
    /// Nothing is looked at until [`LeftLocks::watch`] runs.
    pub(super) fn new(base_paths: &BasePaths) -> Arc<Self> {
        Arc::new(Self { base_paths: base_paths.clone(), found: Mutex::default() })
    }

    /// The result of the last look.
    pub(super) fn found(&self) -> Found {
        self.found.lock().clone()
    }

    /// Looks again and again. Never ends.
    pub(super) async fn watch(self: Arc<Self>, stages: Arc<Stages>) {
        loop {
            let began = Instant::now();
            match stages.state.materializer.versions.projects() {
                Ok(projects) => {
                    let living = projects.into_iter().filter(|(_, record)| !record.value.is_deleted_project());
                    self.look(living.map(|(name, _)| name)).await;
                }
                // On a store error, keep the last result.
                Err(why) => tracing::warn!(%why, "the locks in the repositories could not be looked at"),
            }
            tokio::time::sleep(PAUSE.max(began.elapsed() * REST)).await;
        }
    }

    async fn look(&self, projects: impl Iterator<Item = ProjectName>) {
        let mut found = Found::default();
        for project in projects {
            let git_dir = self.base_paths.git_dir(&project);
            for lock in left_locks(git_dir, SystemClock.now_ms(), LISTED).await {
                found.count += 1;
                let (project, path) = (project.to_string(), lock.path.display().to_string());
                found.first.push(LeftLockStatus { project, path, since_ms: lock.since_ms });
            }
            found.first.truncate(LISTED);
        }
        self.keep(found);
    }

    fn keep(&self, found: Found) {
        let mut last = self.found.lock();
        let is_new = |one: &&LeftLockStatus| last.first.iter().all(|before| before.path != one.path);
        for LeftLockStatus { project, path, .. } in found.first.iter().filter(is_new) {
            tracing::warn!(
                project,
                path,
                "a lock was left behind: commits may not be visible here; remove it if no git process uses it"
            );
        }
        *last = found;
    }
}
