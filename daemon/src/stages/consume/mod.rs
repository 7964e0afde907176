//! The consume stage: readers on every site's stream, the own one included.
//!
//! Siblings' commits are news to a node, and its own come back to be skipped by version or repaired after a crash. A
//! reader takes a record, reads it, and hands it to the apply stage; the checkpoint moves when nothing before it is open.
//! A record of a newer release stops its shard until this sidecar is upgraded: it is never skipped.
//!
//! | file | idea |
//! |---|---|
//! | `shards` | parents before children: a pure function |
//! | `progress` | checkpoints |
//! | `reader` | one shard's loop |

mod progress;
mod reader;
mod shards;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::SiteId;
use tokio::sync::Notify;

pub use progress::Progress;
pub use shards::{obsolete, readable, shard_id};

use crate::base::backoff::Backoff;
use crate::base::clock::{Clock, Entropy};
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::eventlog::{EventLog, Position};
use crate::seams::volume::{NodeStore, ShardId};
use crate::stages::ports::{Announcements, CatchUp, Sink};
use crate::state::durability::Durability;

/// Bounds of the consume stage.
#[derive(Clone, Copy, Debug)]
pub struct ConsumeLimits {
    /// How long a reader rests when it has read all that was there. Kinesis allows five reads a second and shard, for
    /// all readers together.
    pub poll_interval: Duration,
    /// How often a stream's shards are listed.
    pub list_interval: Duration,
    /// Most records in one read.
    pub batch: usize,
    /// Most records of a shard that are not applied or parked yet.
    pub open: usize,
}

impl Default for ConsumeLimits {
    fn default() -> Self {
        let (poll_interval, list_interval) = (Duration::from_millis(250), Duration::from_secs(30));
        Self { poll_interval, list_interval, batch: 1_000, open: 4_000 }
    }
}

/// What the readers of one node share.
pub struct Consumer {
    /// The event logs.
    pub eventlog: Arc<dyn EventLog>,
    /// Where records go.
    pub sink: Arc<dyn Sink>,
    /// Where stream events go.
    pub announcements: Arc<dyn Announcements>,
    /// When records are lost.
    pub catch_up: Arc<dyn CatchUp>,
    /// Durable checkpoints.
    pub store: Arc<dyn NodeStore>,
    /// Makes them durable.
    pub durability: Durability,
    /// How far each shard is.
    pub progress: Arc<Progress>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// For people.
    pub clock: Arc<dyn Clock>,
    /// For jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Owns the readers.
    pub tasks: Tasks,
    /// Bounds.
    pub limits: ConsumeLimits,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

impl Consumer {
    /// Reads one site's stream until it is aborted. `caught_up` is called once: when every record that was there at
    /// the start is applied or parked.
    pub async fn run(self: Arc<Self>, site: SiteId, caught_up: Arc<dyn Fn(&SiteId) + Send + Sync>) {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(100), Duration::from_secs(10));
        let mut running: BTreeSet<ShardId> = BTreeSet::new();
        let ended = Arc::new(Notify::new());
        let caught_up = Arc::new(reader::CaughtUp::new(site.clone(), caught_up));
        loop {
            match self.list(&site, &mut running, &ended, &caught_up).await {
                Ok(()) => backoff.reset(),
                Err(why) => {
                    self.observer.failed("consume", &format!("{site}: {why}"));
                    backoff.wait().await;
                    continue;
                }
            }
            tokio::select! {
                biased;
                () = ended.notified() => {}
                () = tokio::time::sleep(self.limits.list_interval) => {}
            }
        }
    }

    async fn list(
        self: &Arc<Self>,
        site: &SiteId,
        running: &mut BTreeSet<ShardId>,
        ended: &Arc<Notify>,
        caught_up: &Arc<reader::CaughtUp>,
    ) -> Result<(), String> {
        let info = self.eventlog.describe(site).await.map_err(|error| error.to_string())?;
        let mut checkpoints = self.store.checkpoints().map_err(|error| error.to_string())?;
        let lost = obsolete(site, &info, &checkpoints);
        if lost.iter().any(|shard| shard.created != info.created) {
            // The stream was made again: what it held and was not applied is still in the refdb.
            self.catch_up.everything().await?;
            self.announcements.missed(site);
        }
        if !lost.is_empty() {
            self.durability.stage(|changes| changes.forget_shards.extend(lost));
        }
        let now = self.progress.positions().into_iter().filter(|(id, _)| id.created == info.created);
        checkpoints.extend(now);
        for (id, from) in readable(site, &info, &checkpoints, !self.bugs.has(InjectedBug::ChildBeforeParent)) {
            if running.insert(id.clone()) {
                caught_up.reading(&id);
                let consumer = Arc::clone(self);
                let (ended, caught_up) = (Arc::clone(ended), Arc::clone(caught_up));
                self.tasks.spawn("consume", async move {
                    consumer.read(id, from, caught_up).await;
                    ended.notify_one();
                });
            }
        }
        caught_up.listed();
        Ok(())
    }

    /// A shard's position is no longer kept: everything that was missed is in the refdb, but for stream events.
    async fn trimmed(&self, site: &SiteId) -> Result<Position, String> {
        self.catch_up.everything().await?;
        self.announcements.missed(site);
        Ok(Position::Start)
    }
}

#[cfg(test)]
mod tests;
