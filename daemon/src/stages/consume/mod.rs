//! The consume stage: reads the streams of all sites, this node's own site included.
//!
//! The own site's stream has the commits of sibling nodes. It also has this node's own commits, which are skipped by
//! version, or repaired after a crash. A reader takes a record, decodes it, and hands it to the apply stage. The
//! checkpoint moves over a record when nothing before it is open. A record of a newer release stops its shard until
//! this sidecar is upgraded: it is never skipped.
//!
//! | file | idea |
//! |---|---|
//! | `shards` | decides which shards to read, parents before children: a pure function |
//! | `checkpoints` | the checkpoint of each shard |
//! | `reader` | the loop that reads one shard |
//! | `replay` | reads streams again as an operator asks; it moves no checkpoint |
//! | `unread` | the transactions that a stream may have lost before a shard was begun |

mod checkpoints;
mod reader;
mod replay;
mod shards;
mod unread;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{LaneId, Seq, SiteId};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use checkpoints::Progress;
pub use replay::Replayer;
pub use shards::{has_lost, obsolete, readable, shard_id, unfinished};

use crate::base::backoff::Backoff;
use crate::base::clock::{Clock, Entropy};
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::eventlog::{EventLog, EventLogError, Position};
use crate::seams::refdb::RefDb;
use crate::seams::volume::{NodeStore, ShardId, StoreError};
use crate::stages::ports::{Announcements, CatchUp, CatchUpError, Sink};
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::durability::Durability;
use crate::state::low_water::LowWater;
use crate::state::signing::Signing;
use crate::state::version_map::VersionMap;

/// The bounds of the consume stage.
#[derive(Clone, Copy, Debug)]
pub struct ConsumeLimits {
    /// How long a reader pauses when it has read everything that was there, unless it waits for records by itself.
    /// Kinesis allows five reads per second and shard, for all readers together.
    pub poll_interval: Duration,
    /// The longest time between two listings of a stream's shards.
    pub list_interval: Duration,
    /// The most records in one read.
    pub batch: usize,
    /// The most open records of a shard, which are neither applied nor durably set aside yet.
    pub open: usize,
    /// The most bytes of the open records of all shards together. One more read per shard may come on top.
    pub open_bytes: u64,
}

impl Default for ConsumeLimits {
    fn default() -> Self {
        let (poll_interval, list_interval) = (Duration::from_millis(250), Duration::from_secs(30));
        Self { poll_interval, list_interval, batch: 1_000, open: 4_000, open_bytes: 128 << 20 }
    }
}

/// Why the shards of a stream were not listed.
#[derive(Debug, thiserror::Error)]
enum ListError {
    /// The event log did not describe the stream.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records that the stream lost could not be taken from the refdb.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// The records that the stream may have lost could not be taken from the journal.
    #[error(transparent)]
    Unread(#[from] unread::UnreadError),
}

/// The shards of one stream whose readers run, or have read them to their ends.
type Running = Arc<Mutex<BTreeSet<ShardId>>>;

/// The consume stage of one node: the dependencies and bounds that its readers share.
pub struct Consumer {
    /// The event log, with one stream per site.
    eventlog: Arc<dyn EventLog>,
    /// The refdb, which has the published marks of a site and the journal.
    refdb: RefDb,
    /// Knows which slots are done here.
    low_water: Arc<LowWater>,
    /// Knows which transactions are applied here.
    versions: Arc<VersionMap>,
    /// By site, the marks below which every ref was taken from the refdb, although slots may not be known as done.
    whole: Mutex<BTreeMap<SiteId, BTreeMap<LaneId, Seq>>>,
    /// Takes the transactions that were read.
    sink: Arc<dyn Sink>,
    /// Takes the stream events that were read.
    announcements: Arc<dyn Announcements>,
    /// Brings every project up to the refdb when a stream lost records.
    catch_up: Arc<dyn CatchUp>,
    /// Verifies the records of streams.
    signing: Arc<Signing>,
    /// Notes the projects that stay behind.
    debts: Arc<Debts>,
    /// Has the durable checkpoints.
    store: Arc<dyn NodeStore>,
    /// Makes checkpoints and quarantined records durable.
    durability: Durability,
    /// The position of each shard, durable or not.
    progress: Arc<Progress>,
    /// Receives every record that was seen or quarantined, and every failure.
    observer: Arc<dyn Observer>,
    /// The wall clock, for the times of quarantined records.
    clock: Arc<dyn Clock>,
    /// Randomness, for the jitter of retries.
    entropy: Arc<dyn Entropy>,
    /// Owns the tasks of the readers.
    tasks: Tasks,
    /// The bounds of the stage.
    limits: ConsumeLimits,
    /// The injected bugs that a test switched on.
    bugs: InjectedBugs,
}

impl Consumer {
    /// Creates the stage. Its checkpoints become durable with the node's durable steps.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        sink: Arc<dyn Sink>,
        announcements: Arc<dyn Announcements>,
        catch_up: Arc<dyn CatchUp>,
        limits: ConsumeLimits,
    ) -> Arc<Self> {
        let NodeContext { eventlog, refdb, store, observer, clock, entropy, tasks, bugs, .. } = context.clone();
        let (durability, progress) = (state.durability.clone(), Arc::new(Progress::default()));
        let (low_water, versions) = (Arc::clone(&state.low_water), Arc::clone(&state.versions));
        let (debts, signing) = (Arc::clone(&state.debts), Arc::clone(&state.signing));
        durability.add(Arc::clone(&progress) as _);
        Arc::new(Self {
            eventlog,
            refdb,
            low_water,
            versions,
            whole: Mutex::default(),
            sink,
            announcements,
            catch_up,
            signing,
            debts,
            store,
            durability,
            progress,
            observer,
            clock,
            entropy,
            tasks,
            limits,
            bugs,
        })
    }

    /// Reads the stream of one site until `over` is cancelled. Calls `caught_up` once, when every record that was there
    /// at the start is applied or durably set aside. The readers end between two records.
    pub async fn run(
        self: Arc<Self>,
        site: SiteId,
        caught_up: Arc<dyn Fn(&SiteId) + Send + Sync>,
        over: CancellationToken,
    ) {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(100), Duration::from_secs(10));
        let running = Running::default();
        let ended = Arc::new(Notify::new());
        let caught_up = Arc::new(reader::CaughtUp::new(site.clone(), caught_up, self.tell_of_lost(&site)));
        while !over.is_cancelled() {
            match self.list(&site, &running, &ended, &caught_up, &over).await {
                Ok(()) => backoff.reset(),
                Err(why) => {
                    self.observer.failed("consume", &format!("{site}: {why}"));
                    backoff.wait().await;
                    continue;
                }
            }
            tokio::select! {
                biased;
                () = over.cancelled() => {}
                () = ended.notified() => {}
                () = tokio::time::sleep(self.limits.list_interval) => {}
            }
        }
    }

    /// A function that tells that the stream of a site has lost a number of transactions, which were taken from the
    /// journal, and with them perhaps stream events, which nothing has any more.
    fn tell_of_lost(&self, site: &SiteId) -> Arc<dyn Fn(usize) + Send + Sync> {
        let (observer, announcements) = (Arc::clone(&self.observer), Arc::clone(&self.announcements));
        let site = site.clone();
        Arc::new(move |count: usize| {
            let what = format!("{site}: the stream no longer has {count} transactions, which the journal had");
            observer.failed("consume", &what);
            announcements.missed(&site);
        })
    }

    /// Lists the shards of a stream, and starts a reader for each that can be read now.
    async fn list(
        self: &Arc<Self>,
        site: &SiteId,
        running: &Running,
        ended: &Arc<Notify>,
        caught_up: &Arc<reader::CaughtUp>,
        over: &CancellationToken,
    ) -> Result<(), ListError> {
        let info = self.eventlog.describe(site).await?;
        let mut checkpoints = self.store.checkpoints()?;
        checkpoints.extend(self.progress.positions().into_iter().filter(|(id, _)| id.site == *site));
        let gone = obsolete(site, &info, &checkpoints);
        if gone.iter().any(|shard| shard.created != info.created) || has_lost(site, &info, &checkpoints) {
            // The stream was deleted and created again, or a shard is gone that was not read to its end. The refdb
            // still has the transactions that were not applied, but nothing has the stream events.
            self.observer.failed("consume", &format!("{site}: the stream no longer has records that were not read"));
            self.take_from_refdb(site).await?;
        }
        if !gone.is_empty() {
            checkpoints.retain(|id, _| !gone.contains(id));
            self.progress.forget(&gone);
            self.durability.stage(|changes| changes.forget_shards.extend(gone));
        }
        caught_up.behind(unfinished(site, &info, &checkpoints));
        let readable = readable(site, &info, &checkpoints, !self.bugs.has(InjectedBug::ChildBeforeParent));
        let is_first = running.lock().is_empty();
        if is_first && readable.iter().any(|(_, from)| *from == Position::Start) {
            // Before any reader runs, so that each of these transactions that the stream still has is seen to come.
            let (aside, mut taken) = (self.set_aside()?, BTreeSet::new());
            let end = self.take_unread(site, &BTreeSet::new(), &mut taken).await;
            taken.retain(|txn| !aside.contains(txn));
            // Also after an error: the next try does not find again the slots that are done meanwhile.
            caught_up.lacks(taken);
            end?;
        }
        for (id, from) in readable {
            self.start_reader(id, from, running, ended, caught_up, over);
        }
        caught_up.listed();
        Ok(())
    }

    /// Starts the reader of a shard, unless it runs.
    fn start_reader(
        self: &Arc<Self>,
        id: ShardId,
        from: Position,
        running: &Running,
        ended: &Arc<Notify>,
        caught_up: &Arc<reader::CaughtUp>,
        over: &CancellationToken,
    ) {
        if !running.lock().insert(id.clone()) {
            return;
        }
        if from == Position::Start {
            self.progress.begun(&id);
        }
        let (consumer, running) = (Arc::clone(self), Arc::clone(running));
        let (ended, caught_up, over) = (Arc::clone(ended), Arc::clone(caught_up), over.clone());
        self.tasks.spawn("consume", async move {
            if consumer.read(&id, from, caught_up, &over).await == reader::End::Gone {
                // If the shard appears again, it is read again.
                running.lock().remove(&id);
            }
            ended.notify_one();
        });
    }

    /// Handles a checkpoint whose position the stream no longer has. The missed transactions are taken from the refdb.
    /// The missed stream events are lost, and the events stage is told.
    /// From then on, the shard's checkpoint is its oldest record, so that the position is not looked for again.
    async fn trimmed(&self, id: &ShardId) -> Result<Position, CatchUpError> {
        self.progress.room(id, 1).await;
        if !self.bugs.has(InjectedBug::TrimSkipped) {
            self.take_from_refdb(&id.site).await?;
        }
        self.durability.wait_durable().await;
        self.progress.begun(id);
        self.durability.want();
        Ok(Position::Start)
    }

    /// Takes what a stream lost from the refdb. A project that stays behind is degraded. The stream events are missed.
    async fn take_from_refdb(&self, site: &SiteId) -> Result<(), CatchUpError> {
        for (project, why) in self.catch_up.everything().await? {
            self.debts.failed(&project, why.failure(), None);
        }
        self.announcements.missed(site);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
