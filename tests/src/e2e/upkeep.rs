//! Repeats the maintenance of repositories that an administrator's cron does, while a test does everything else.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::git::git;

/// Runs gc, pack-refs and maintenance in every repository, again and again, until this is dropped.
pub struct Upkeep(JoinHandle<()>);

impl Upkeep {
    /// Starts the maintenance of these repositories.
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
                    // A job that meets a short-lived lock fails, as it does under cron. The next round repeats it.
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
