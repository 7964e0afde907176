//! Background tasks with an owner.
//!
//! Every task of a node is spawned here, so that a node can be ended as a whole: `cancel` asks, `abort` does not.
//! A task that ends by panicking is an error of the whole node, never a silence.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Threads for what blocks: libgit2, the disk, gits that check large packs. Each keeps memory of its own.
const BLOCKING: usize = 32;

/// The runtime of a process in which nodes run.
///
/// # Errors
/// The machine gives no threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(BLOCKING).enable_all().build()
}

/// The tasks of one node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    running: Arc<Mutex<Vec<AbortHandle>>>,
    cancel: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that runs until it ends by itself, or is aborted with all the others.
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
                tracing::error!(task = name, "a task panicked: the node stops, its journal is safe");
                cancel.cancel();
            }
        });
        let mut running = self.running.lock();
        running.retain(|task| !task.is_finished());
        running.push(outer.abort_handle());
    }

    /// Asks every task to end what it is doing.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// What tasks listen to.
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Ends every task where it stands.
    pub fn abort(&self) {
        self.cancel.cancel();
        for task in self.running.lock().drain(..) {
            task.abort();
        }
    }
}

/// A task that does not outlive its owner.
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
