//! What an administrator's cron does to repositories, over and over while everything else goes on.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::git::git;

/// gc, pack-refs and maintenance in every repository, until this is dropped.
pub struct Upkeep(JoinHandle<()>);

impl Upkeep {
    /// Begins.
    #[must_use]
    pub fn of(repositories: Vec<PathBuf>) -> Self {
        Self(tokio::spawn(async move {
            let jobs: [&[&str]; 4] = [
                &["pack-refs", "--all"],
                &["gc", "-q"],
                &["pack-refs", "--all", "--prune"],
                &["maintenance", "run", "--quiet", "--task=loose-objects", "--task=incremental-repack"],
            ];
            for job in jobs.iter().cycle() {
                for repository in &repositories {
                    // A job that meets a lock of the moment fails, as it does in a cron; the next round does it.
                    let _ = git(repository, job).await;
                }
                sleep(Duration::from_millis(100)).await;
            }
        }))
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}
