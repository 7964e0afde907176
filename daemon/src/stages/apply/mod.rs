//! The apply stage: committed transactions of all sites become what this node's repositories show.
//!
//! Version n+1 goes onto n; what is not newer is skipped; what misses something waits or is fetched. All refs of a
//! transaction move together or not at all, objects before refs. Duplicates and reordering are therefore harmless.
//!
//! | file | idea |
//! |---|---|
//! | `event` | a transaction under way |
//! | `plan` | apply, skip or wait: a pure function |
//! | `unit` | objects, then refs, of transactions that go together |
//! | `project` | one project's single writer: batches, parking, quarantine |
//! | `parked` | what waits in memory, and its bounds |
//! | `catch_up` | whole transactions from the journal |
//! | `state_transfer` | the refdb's state at once, where the journal does not lead there any more |
//! | `latest` | records of the refdb: objects from peers, then all refs |

mod catch_up;
mod event;
mod latest;
mod parked;
mod plan;
mod project;
mod restore_repository;
mod state_transfer;
mod unit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{ProjectName, Transaction};
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use catch_up::Catcher;
use event::Event;
pub use plan::{Step, plan};
pub use unit::{UnitError, Units};

use crate::base::clock::{Clock, Entropy};
use crate::base::tasks::Tasks;
use crate::seams::volume::NodeStore;
use crate::stages::ports::{CatchUp, Done, Sink};
use crate::state::durability::Durability;
use crate::state::low_water::LowWater;
use crate::state::quiesce::Quiesce;

/// Bounds of the apply stage.
#[derive(Clone, Copy, Debug)]
pub struct ApplyLimits {
    /// Most transactions in one unit.
    pub batch: usize,
    /// Most transactions that wait for one project's writer; the readers wait then.
    pub queue: usize,
    /// How long something is parked before it is fetched.
    pub patience: Duration,
    /// How long a writer lives without work.
    pub idle: Duration,
    /// Most bytes of one project that are parked in memory; above it the project jumps to the refdb's state.
    pub parked_bytes: u64,
    /// How long something is parked before the same.
    pub parked_age: Duration,
}

impl Default for ApplyLimits {
    fn default() -> Self {
        let (patience, idle) = (Duration::from_millis(300), Duration::from_secs(60));
        let (parked_bytes, parked_age) = (256 << 20, Duration::from_secs(3_600));
        Self { batch: 128, queue: 512, patience, idle, parked_bytes, parked_age }
    }
}

/// What every writer needs.
pub struct Shared {
    /// Applies units.
    pub units: Units,
    /// Fetches what is missing.
    pub catch_up: Arc<dyn CatchUp>,
    /// Makes it durable.
    pub durability: Durability,
    /// What is done.
    pub low_water: Arc<LowWater>,
    /// Commits under way.
    pub quiesce: Arc<Quiesce>,
    /// For people.
    pub clock: Arc<dyn Clock>,
    /// For jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Bounds.
    pub limits: ApplyLimits,
    /// Owns the writers.
    pub tasks: Tasks,
}

/// The apply stage of one node: finds each event's writer.
#[derive(Clone)]
pub struct Applier {
    shared: Arc<Shared>,
    writers: Arc<Mutex<BTreeMap<ProjectName, mpsc::Sender<Event>>>>,
}

impl Applier {
    /// No writers yet.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), writers: Arc::default() }
    }

    async fn hand_over(&self, mut event: Event) {
        loop {
            let writer = self.writer(&event.transaction.project.name);
            match writer.send(event).await {
                Ok(()) => return,
                Err(back) => event = back.0,
            }
        }
    }

    fn writer(&self, project: &ProjectName) -> mpsc::Sender<Event> {
        let mut writers = self.writers.lock();
        if let Some(writer) = writers.get(project).filter(|writer| !writer.is_closed()) {
            return writer.clone();
        }
        writers.retain(|_, writer| !writer.is_closed());
        let (sender, events) = mpsc::channel(self.shared.limits.queue);
        let writer = project::Writer::new(project.clone(), Arc::clone(&self.shared));
        self.shared.tasks.spawn("apply", writer.run(events));
        writers.insert(project.clone(), sender.clone());
        sender
    }

    /// Offers again what was parked when the node stopped.
    ///
    /// # Errors
    /// The node's store failed.
    pub async fn resume(&self, store: &dyn NodeStore) -> Result<(), crate::seams::volume::StoreError> {
        for (id, held) in store.parked()? {
            match Event::resumed(held) {
                Ok(event) => self.hand_over(event).await,
                Err(error) => tracing::error!(%id, %error, "a parked transaction cannot be read; it stays parked"),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for Applier {
    async fn offer(&self, transaction: Arc<Transaction>, bytes: Bytes, done: Option<Done>) {
        self.hand_over(Event { transaction, bytes, parked_since_ms: None, done }).await;
    }
}
