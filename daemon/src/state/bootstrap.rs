//! The progress of a node that takes everything from the refdb and from peers, for people. No decision depends on it.

use lockstep_proto::site_list::{Bootstrap, BootstrapStage};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The progress. Empty unless the node reconciles.
#[derive(Debug, Default)]
pub struct Bootstrapping(Mutex<Option<Running>>);

#[derive(Clone, Copy, Debug)]
struct Running {
    stage: BootstrapStage,
    done: u64,
    total: u64,
    since: Instant,
}

impl Bootstrapping {
    /// The work begins, with this number of projects.
    pub fn begin(&self, total: u64) {
        *self.0.lock() = Some(Running { stage: BootstrapStage::Projects, done: 0, total, since: Instant::now() });
    }

    /// The comparison of all refs begins, with this number of projects. Does nothing unless the work has begun.
    pub fn compare(&self, total: u64) {
        if let Some(running) = self.0.lock().as_mut() {
            *running = Running { stage: BootstrapStage::Refs, done: 0, total, since: Instant::now() };
        }
    }

    /// A project is done in the present part of the work. Does nothing unless the work has begun.
    pub fn done(&self, stage: BootstrapStage) {
        if let Some(running) = self.0.lock().as_mut().filter(|running| running.stage == stage) {
            running.done = (running.done + 1).min(running.total);
        }
    }

    /// The work has ended.
    pub fn end(&self) {
        *self.0.lock() = None;
    }

    /// The progress now. None unless the work has begun.
    #[must_use]
    pub fn now(&self) -> Option<Bootstrap> {
        let Running { stage, done, total, since } = (*self.0.lock())?;
        let spent = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let left_ms = (done > 0).then(|| spent.saturating_mul(total - done) / done);
        Some(Bootstrap { stage, done, total, left_ms })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_estimated_from_the_rate_of_the_part() {
        let progress = Bootstrapping::default();
        progress.done(BootstrapStage::Projects);
        progress.compare(7);
        assert_eq!(progress.now(), None, "nothing has begun");
        progress.begin(4);
        let at = |stage, done, total, left_ms| Some(Bootstrap { stage, done, total, left_ms });
        assert_eq!(progress.now(), at(BootstrapStage::Projects, 0, 4, None));
        tokio::time::advance(Duration::from_secs(2)).await;
        progress.done(BootstrapStage::Projects);
        assert_eq!(progress.now(), at(BootstrapStage::Projects, 1, 4, Some(6_000)));
        progress.compare(2);
        progress.done(BootstrapStage::Projects);
        assert_eq!(progress.now(), at(BootstrapStage::Refs, 0, 2, None));
        (0..3).for_each(|_| progress.done(BootstrapStage::Refs));
        assert_eq!(progress.now(), at(BootstrapStage::Refs, 2, 2, Some(0)));
        progress.end();
        assert_eq!(progress.now(), None);
    }
}
