//! Background tasks with an owner.
//!
//! Every task of a node is spawned here, so that the node can be ended as a whole. `cancel` asks the tasks to end,
//! `abort` ends them at once. A task that panics stops the whole node, and is logged.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Threads for blocking work: libgit2, the disk, git processes that check large packs. Each thread keeps its own
/// memory.
const BLOCKING: usize = 32;

/// Builds the runtime of a process that runs nodes.
///
/// # Errors
/// The machine cannot start the threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(BLOCKING).enable_all().build()
}

/// The tasks of one node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    running: Arc<Mutex<Running>>,
    cancel: CancellationToken,
}

/// The tasks that run, and some that have ended.
#[derive(Debug, Default)]
struct Running {
    tasks: Vec<AbortHandle>,
    /// The number of tasks at which those that have ended are taken out. It is twice the number that was left the last
    /// time, so a start costs the same however many tasks run.
    full: usize,
}

impl Running {
    fn add(&mut self, task: AbortHandle) {
        if self.tasks.len() >= self.full {
            self.tasks.retain(|task| !task.is_finished());
            self.full = 2 * self.tasks.len() + 16;
        }
        self.tasks.push(task);
    }
}

impl Tasks {
    /// An empty set of tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that runs until it ends by itself, or until [`Tasks::abort`].
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        let outer = tokio::spawn(async move {
            let inner = AbortOnDrop(tokio::spawn(task));
            if let Err(error) = inner.join().await
                && error.is_panic()
            {
                tracing::error!(task = name, "a task panicked; the node stops, its journal is safe");
                cancel.cancel();
            }
        });
        self.running.lock().add(outer.abort_handle());
    }

    /// Asks every task to end.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The token that tells tasks to end.
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Ends every task at once, at its current await point.
    pub fn abort(&self) {
        self.cancel.cancel();
        for task in self.running.lock().tasks.drain(..) {
            task.abort();
        }
    }
}

/// A task that is aborted when this is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl AbortOnDrop {
    async fn join(mut self) -> Result<(), tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_that_have_ended_are_taken_out_and_those_that_run_are_ended_together() {
        let tasks = Tasks::new();
        let (alive, mut none_left) = tokio::sync::mpsc::channel::<()>(1);
        for _ in 0..8 {
            let alive = alive.clone();
            tasks.spawn("long", async move {
                let _alive = alive;
                std::future::pending::<()>().await;
            });
        }
        drop(alive);
        for _ in 0..1_000 {
            tasks.spawn("short", async {});
            tokio::task::yield_now().await;
        }
        let kept = tasks.running.lock().tasks.len();
        assert!((8..200).contains(&kept), "{kept}");
        tasks.abort();
        assert_eq!(none_left.recv().await, None, "every task has ended");
    }
}
