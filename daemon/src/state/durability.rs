//! The durable step: sync the repositories, then commit the node's store.
//!
//! One reconciler with one code path. A step collects the changes to remember (checkpoints, low-water marks, parked
//! records and the like, and last the version map's overlay), syncs the volume, commits the node's store, and only then
//! wakes the waiters. Everything that was collected before the sync is on the disk after it, so a checkpoint implies
//! the data that it covers. When the sync or the store fails, the state of the disk is unknown, and the node stops.
//!
//! On a busy or slow disk, steps become rarer: while the volume is synced, ref moves wait, and each step writes many
//! pages of the store and of folders that the one before it wrote too. A step that somebody waits for is not put off.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::git::{GitError, Repositories};
use crate::seams::volume::{Changes, NodeStore, StoreError, VolumeFacts};
use crate::state::version_map::VersionMap;

/// Steps take at most one part in so many of the time, unless that makes them rarer than [`RAREST`] allows.
const SHARE: u32 = 10;
/// The longest pause between two steps, as a multiple of the pace.
const RAREST: u32 = 5;

/// The pause after a step that took this long.
fn pause(pace: Duration, took: Duration) -> Duration {
    (took * (SHARE - 1)).clamp(pace, pace * RAREST)
}

/// A stage that has something to remember. Every durable step asks it before the sync.
pub trait Remember: Send + Sync {
    /// Adds facts that are already true. A crash may lose them until the step is durable.
    fn remember(&self, into: &mut Changes);

    /// Adds facts that must become durable no later than the ref moves that this step already contains.
    fn remember_of_moves(&self, _into: &mut Changes) {}

    /// Called when the step that the last call of [`Remember::remember`] added to is durable.
    fn remembered(&self) {}
}

/// Why a durable step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sync of the repositories failed.
    #[error(transparent)]
    Sync(#[from] GitError),
}

/// Runs durable steps. Clones share one state.
#[derive(Clone)]
pub struct Durability(Arc<Inner>);

struct Inner {
    versions: Arc<VersionMap>,
    repositories: Arc<dyn Repositories>,
    store: Arc<dyn NodeStore>,
    sources: Mutex<Vec<Arc<dyn Remember>>>,
    staged: Mutex<Changes>,
    /// The facts about the volume in the step that is under way, if it changes them.
    facts_under_way: Mutex<Option<VolumeFacts>>,
    wanted: Notify,
    /// Somebody waits for a step.
    awaited: Notify,
    steps: Mutex<Steps>,
    /// Wakes the waiters in the order in which they came, so that a simulation repeats exactly.
    stepped: Notify,
    pace: Duration,
    bugs: InjectedBugs,
    failed: CancellationToken,
}

/// Number of requests for a step, and number of requests that finished steps have served.
#[derive(Clone, Copy, Default)]
struct Steps {
    asked: u64,
    done: u64,
}

impl Inner {
    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock()
    }
}

impl Durability {
    /// Creates the reconciler. It runs at most one step per `pace`, and fewer when steps take long. It cancels `failed`
    /// when a step fails.
    #[must_use]
    pub fn new(
        versions: Arc<VersionMap>,
        repositories: Arc<dyn Repositories>,
        store: Arc<dyn NodeStore>,
        pace: Duration,
        bugs: InjectedBugs,
        failed: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            versions,
            repositories,
            store,
            sources: Mutex::default(),
            staged: Mutex::default(),
            facts_under_way: Mutex::default(),
            wanted: Notify::new(),
            awaited: Notify::new(),
            steps: Mutex::default(),
            stepped: Notify::new(),
            pace,
            bugs,
            failed,
        }))
    }

    /// Registers a stage. Every later step asks it.
    pub fn add(&self, source: Arc<dyn Remember>) {
        self.0.sources.lock().push(source);
    }

    /// Adds changes to the next step, and asks for that step.
    pub fn stage(&self, add: impl FnOnce(&mut Changes)) {
        add(&mut self.0.staged.lock());
        self.0.wanted.notify_one();
    }

    /// Changes the facts about the volume in the next step, and asks for that step. Changes that are not durable yet
    /// count as made: nobody takes back the change of another.
    ///
    /// # Errors
    /// The facts cannot be read. Nothing is changed then.
    pub fn change_facts(&self, change: impl FnOnce(&mut VolumeFacts)) -> Result<(), StoreError> {
        let mut staged = self.0.staged.lock();
        let pending = staged.facts.take().or_else(|| self.0.facts_under_way.lock().clone());
        let mut facts = pending.map_or_else(|| self.0.store.facts(), Ok)?;
        change(&mut facts);
        staged.facts = Some(facts);
        drop(staged);
        self.want();
        Ok(())
    }

    /// Asks for a step soon, and does not wait for it.
    pub fn want(&self) {
        self.0.wanted.notify_one();
    }

    /// Asks for a step that is not put off, because somebody waits for what it makes durable. Does not wait for it.
    pub fn hurry(&self) {
        self.0.wanted.notify_one();
        self.0.awaited.notify_one();
    }

    /// Waits until everything that was moved or staged before this call is durable.
    pub async fn wait_durable(&self) {
        let mine = {
            let mut steps = self.0.steps();
            steps.asked += 1;
            steps.asked
        };
        self.hurry();
        loop {
            let stepped = self.0.stepped.notified();
            if self.0.steps().done >= mine {
                return;
            }
            stepped.await;
        }
    }

    /// Runs steps until the task is aborted or a step fails.
    pub async fn run(self) {
        loop {
            let _ = timeout(Duration::from_secs(1), self.0.wanted.notified()).await;
            let began = Instant::now();
            if let Err(why) = self.step().await {
                tracing::error!(%why, "volume failed: check it and restart this node; its commits are in the journal");
                self.0.failed.cancel();
                return;
            }
            let (pace, pause) = (self.0.pace, pause(self.0.pace, began.elapsed()));
            sleep(pace).await;
            if pause > pace {
                let _ = timeout(pause - pace, self.0.awaited.notified()).await;
            }
        }
    }

    async fn step(&self) -> Result<(), StepError> {
        let inner = &self.0;
        let asked = inner.steps().asked;
        let sources = inner.sources.lock().clone();
        let mut remembered = Changes::default();
        for source in &sources {
            source.remember(&mut remembered);
        }
        // A record is staged as parked before its checkpoint may move. Take staged changes after the checkpoints.
        let mut changes = {
            let mut staged = inner.staged.lock();
            *inner.facts_under_way.lock() = staged.facts.clone();
            std::mem::take(&mut *staged)
        };
        changes.checkpoints.append(&mut remembered.checkpoints);
        changes.low_water.append(&mut remembered.low_water);
        // Take the overlay last: every ref move that a checkpoint covers was in it before the checkpoint could be
        // taken.
        let snapshot = inner.versions.collect(&mut changes);
        for source in &sources {
            source.remember_of_moves(&mut changes);
        }
        if !changes.is_empty() {
            if inner.bugs.has(InjectedBug::MapBeforeRefs) {
                inner.store.commit(changes.clone()).await?;
                sleep(Duration::from_millis(50)).await;
            }
            crate::base::faults::failpoint::reach("durable.before_sync");
            inner.repositories.sync().await?;
            crate::base::faults::failpoint::reach("durable.after_sync");
            if inner.bugs.has(InjectedBug::MarkAfterMap) {
                let refresh = std::mem::take(&mut changes.refresh);
                inner.store.commit(std::mem::take(&mut changes)).await?;
                inner.versions.durable(&snapshot)?;
                sleep(Duration::from_millis(500)).await;
                changes.refresh = refresh;
            }
            inner.store.commit(changes).await?;
            *inner.facts_under_way.lock() = None;
            crate::base::faults::failpoint::reach("durable.after_store");
            inner.versions.durable(&snapshot)?;
            sources.iter().for_each(|source| source.remembered());
        }
        inner.steps().done = asked;
        inner.stepped.notify_waiters();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::SiteId;

    use super::*;
    use crate::seams::eventlog::Position;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::git::model::counted::CountedRepositories;
    use crate::seams::volume::memory::MemoryStore;
    use crate::seams::volume::{Held, HeldKind, ShardId};

    /// A reader that parks a record at the very moment when it is asked for its checkpoint, as another thread could.
    struct Parks(Durability);

    impl Remember for Parks {
        fn remember(&self, into: &mut Changes) {
            let held = Held {
                bytes: "record".into(),
                kind: HeldKind::Committed,
                project: "p#1".into(),
                reason: "predecessor".into(),
                waits_for: Vec::new(),
                since_ms: 0,
            };
            self.0.stage(|changes| changes.park.push(("n.1.0.4.00000000000000aa".into(), held)));
            let site: SiteId = "s".parse().unwrap();
            let shard = ShardId { site, created: "t".into(), shard: "0".into() };
            into.checkpoints.push((shard, Position::After("5".into())));
        }
    }

    #[tokio::test]
    async fn a_checkpoint_never_outruns_what_was_parked_for_it() {
        let (store, bugs) = (Arc::new(MemoryStore::default()), InjectedBugs::default());
        let store: Arc<dyn NodeStore> = store;
        let versions = Arc::new(VersionMap::new(Arc::clone(&store), bugs));
        let repositories = Arc::new(ModelRepositories::new(bugs));
        let (pace, failed) = (Duration::from_millis(1), CancellationToken::new());
        let durability = Durability::new(versions, repositories, Arc::clone(&store), pace, bugs, failed);
        durability.add(Arc::new(Parks(durability.clone())));
        durability.step().await.unwrap();
        assert_eq!(store.checkpoints().unwrap().len(), 1);
        assert_eq!(store.parked(None, 9).unwrap().len(), 1, "the checkpoint is durable, but its parked record is not");
    }

    /// Notes a project in the facts about the volume while a step is under way.
    struct Notes(Durability);

    impl Remember for Notes {
        fn remember(&self, _: &mut Changes) {}

        fn remember_of_moves(&self, _: &mut Changes) {
            let note = |facts: &mut VolumeFacts| facts.mending = ["m".parse().unwrap()].into();
            self.0.change_facts(note).unwrap();
        }
    }

    #[tokio::test]
    async fn no_change_of_the_facts_takes_back_another_that_is_not_durable_yet() {
        let (store, bugs) = (Arc::new(MemoryStore::default()), InjectedBugs::default());
        let store: Arc<dyn NodeStore> = store;
        let versions = Arc::new(VersionMap::new(Arc::clone(&store), bugs));
        let repositories = Arc::new(ModelRepositories::new(bugs));
        let (pace, failed) = (Duration::from_millis(1), CancellationToken::new());
        let durability = Durability::new(versions, repositories, Arc::clone(&store), pace, bugs, failed);
        durability.add(Arc::new(Notes(durability.clone())));
        durability.change_facts(|facts| facts.restoring = ["p".parse().unwrap()].into()).unwrap();
        durability.change_facts(|facts| facts.reconciles = true).unwrap();
        for mending in [0, 1] {
            durability.step().await.unwrap();
            let facts = store.facts().unwrap();
            assert_eq!((facts.restoring.len(), facts.reconciles, facts.mending.len()), (1, true, mending));
        }
    }

    /// The one for whom steps are made.
    enum For {
        Nobody,
        Waiting,
        Hurrying,
    }

    /// Runs the reconciler for ten seconds at a pace of 10 ms, over steps that take 50 ms. Something is always to be
    /// stored, and perhaps somebody always waits for it. Returns the number of syncs.
    async fn syncs(whom: For) -> usize {
        let bugs = InjectedBugs::default();
        let store: Arc<dyn NodeStore> = Arc::new(MemoryStore::default());
        let versions = Arc::new(VersionMap::new(Arc::clone(&store), bugs));
        let counted = CountedRepositories::new(ModelRepositories::new(bugs));
        let counted = Arc::new(counted.with_sync_time(Duration::from_millis(50)));
        let repositories: Arc<dyn Repositories> = counted.clone();
        let (pace, failed) = (Duration::from_millis(10), CancellationToken::new());
        let durability = Durability::new(versions, repositories, store, pace, bugs, failed);
        let running = tokio::spawn(durability.clone().run());
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            durability.stage(|changes| changes.forget_lanes.push("n.1.0".parse().unwrap()));
            match whom {
                For::Waiting => durability.wait_durable().await,
                For::Hurrying => durability.hurry(),
                For::Nobody => {}
            }
            if !matches!(whom, For::Waiting) {
                sleep(Duration::from_millis(5)).await;
            }
        }
        running.abort();
        counted.calls("sync")
    }

    #[tokio::test(start_paused = true)]
    async fn slow_steps_become_rarer_unless_somebody_waits_for_them() {
        // One per 50 + 5 * 10 ms, and one per 50 + 10 ms.
        assert!((95..=101).contains(&syncs(For::Nobody).await));
        assert!((160..=168).contains(&syncs(For::Waiting).await));
        assert!((160..=168).contains(&syncs(For::Hurrying).await));
    }

    #[test]
    fn steps_take_a_tenth_of_the_time_within_bounds() {
        let ms = Duration::from_millis;
        let pauses = [0, 10, 36, 100, 9_000].map(|took| pause(ms(200), ms(took)));
        assert_eq!(pauses, [200, 200, 324, 900, 1_000].map(ms));
    }
}
