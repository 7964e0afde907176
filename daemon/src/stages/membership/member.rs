//! The membership of a node: it writes heartbeats and low-water marks.
//!
//! A heartbeat depends on nothing but the refdb's answer to it. In particular it waits for no other node, no stream and
//! no repository. A node whose heartbeat waits for something is taken for dead by its siblings.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{IncarnationState, NodeAnswer, NodeRecord, RefDb, RefDbError};
use crate::seams::volume::{Changes, NodeStore, Registered, StoreError};
use crate::state::bound_refdb::BoundRefdb;
use crate::state::context::{NodeContext, NodeState};
use crate::state::debts::Debts;
use crate::state::durability::Durability;
use crate::state::low_water::LowWater;
use crate::state::low_water_extent::Extent;
use crate::state::operator_locks::OperatorLocks;
use crate::state::went_back::{self, Evidence, WentBack};

/// The intervals and deadlines of membership.
#[derive(Clone, Copy, Debug)]
pub struct MemberLimits {
    /// Interval between the heartbeats of a node.
    pub beat: Duration,
    /// How long a heartbeat may stand still before a sibling adopts the journal.
    pub lease: Duration,
    /// How long a heartbeat may stand still before a node of any site adopts the journal.
    pub elsewhere: Duration,
    /// How long a heartbeat may stand still before the node is expelled and nothing is kept for it any more.
    pub retention: Duration,
}

impl Default for MemberLimits {
    fn default() -> Self {
        let (beat, lease) = (Duration::from_secs(3), Duration::from_secs(15));
        Self { beat, lease, elsewhere: lease * 4, retention: Duration::from_secs(5 * 24 * 3600) }
    }
}

/// Why a round of membership failed.
#[derive(Debug, thiserror::Error)]
enum MemberError {
    /// A call of the refdb failed.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The refdb is older than this node.
    #[error("{}", .0.told())]
    WentBack(Evidence),
    /// This node's record is now another one.
    #[error("another process has changed this node's record ({0:?}); this node stops")]
    Fenced(Box<NodeRecord>),
}

/// The membership of one node, with its record in the refdb.
pub struct Member {
    /// The refdb with the registry of nodes and incarnations.
    refdb: RefDb,
    /// The node's own store, which knows each heartbeat before the refdb does.
    store: Arc<dyn NodeStore>,
    /// Whether the refdb is older than this node.
    went_back: WentBack,
    /// The low-water marks of this node.
    low_water: Arc<LowWater>,
    /// Makes the low-water marks durable.
    durability: Durability,
    /// The debts of this node, which its record names.
    debts: Arc<Debts>,
    /// The operator locks that this node obeys, which its record names.
    locks: Arc<OperatorLocks>,
    /// Notes when the refdb took a heartbeat.
    bound: Arc<BoundRefdb>,
    /// The node's record as it was last written.
    record: Mutex<NodeRecord>,
    /// Cancelled when another process has changed this node's record: the node was expelled, or its volume is used
    /// elsewhere.
    fenced: CancellationToken,
    /// Receives each round that failed.
    observer: Arc<dyn Observer>,
    /// Makes the node write a heartbeat at once.
    nudge: Arc<Notify>,
    /// Times of heartbeats, leases and retention.
    limits: MemberLimits,
    /// Defects that a test has switched on.
    bugs: InjectedBugs,
}

impl Member {
    /// Creates the membership of a node whose record was just written. `nudge` makes it write a heartbeat at once.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        record: NodeRecord,
        nudge: Arc<Notify>,
        limits: MemberLimits,
    ) -> Self {
        let NodeContext { refdb, store, went_back, observer, fenced, bugs, .. } = context.clone();
        let (low_water, record, debts) = (Arc::clone(&state.low_water), Mutex::new(record), Arc::clone(&state.debts));
        let (bound, locks) = (Arc::clone(&state.bound), Arc::clone(&state.operator_locks));
        let durability = state.durability.clone();
        Self {
            refdb,
            store,
            went_back,
            low_water,
            durability,
            debts,
            locks,
            bound,
            record,
            fenced,
            observer,
            nudge,
            limits,
            bugs,
        }
    }

    /// Writes heartbeats, until the task is aborted.
    pub async fn run(self) {
        loop {
            if timeout(self.limits.beat, self.nudge.notified()).await.is_ok() {
                // Somebody waits for marks that may not be durable yet. No heartbeat waits for a disk: they follow with
                // the next one.
                self.durability.hurry();
            }
            if self.went_back.is_known() {
                continue;
            }
            if let Err(why) = self.beat().await {
                self.observer.failed("member", &why);
            }
        }
    }

    /// Writes this node's record with a new heartbeat and the durable low-water marks. The volume knows the heartbeat
    /// first, so that the older of volume and refdb shows after one of them was restored. A volume that does not write
    /// stops no heartbeat: the next start then takes it for a snapshot and reconciles, which is safe.
    async fn beat(&self) -> Result<(), MemberError> {
        if self.bugs.has(InjectedBug::BeatWaitsForPublish) && self.is_anything_left().await? {
            return Ok(());
        }
        let previous = self.record.lock().clone();
        let Extent { low_water, whole } = self.low_water.extent();
        let needs = self.debts.needs();
        let obeys_locks = self.locks.obeyed();
        let next = NodeRecord { beat: previous.beat + 1, low_water, whole, needs, obeys_locks, ..previous.clone() };
        self.note(&next).await;
        let answer = self.refdb.nodes.put_node(&next, Some(&previous)).await?;
        if let Some(evidence) = went_back::heartbeat(previous.beat, &answer) {
            self.went_back.tell(evidence.clone());
            return Err(MemberError::WentBack(evidence));
        }
        match answer {
            NodeAnswer::Written => {
                *self.record.lock() = next;
                self.bound.took_a_beat();
                Ok(())
            }
            // The answer to an earlier copy of this heartbeat was lost.
            NodeAnswer::Differs(now) if is_mine(&now, &next) => {
                *self.record.lock() = now;
                Ok(())
            }
            NodeAnswer::Differs(_) | NodeAnswer::Gone if self.bugs.has(InjectedBug::PausedNodeGoesOn) => Ok(()),
            NodeAnswer::Differs(now) => {
                self.fenced.cancel();
                Err(MemberError::Fenced(Box::new(now)))
            }
            NodeAnswer::Gone => Err(MemberError::WentBack(Evidence::NoRecord)),
        }
    }

    /// Notes a heartbeat on the volume. Waits for the volume as long as one heartbeat may be late, and no longer.
    async fn note(&self, next: &NodeRecord) {
        match timeout(self.limits.beat, will_beat(self.store.as_ref(), next)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => self.observer.failed("member", &why),
            Err(_) => self.observer.failed("member", &"the volume is slow: it does not know this heartbeat yet"),
        }
    }

    /// Whether a dead incarnation of this site is not published yet. No heartbeat may depend on that.
    async fn is_anything_left(&self) -> Result<bool, RefDbError> {
        let site = self.record.lock().site.clone();
        let all = self.refdb.incarnations.incarnations(&site).await?;
        Ok(all.iter().any(|one| one.state == IncarnationState::Poisoned))
    }
}

/// Notes on the volume that this record is about to be written.
///
/// # Errors
/// The node's own store failed.
pub async fn will_beat(store: &dyn NodeStore, record: &NodeRecord) -> Result<(), StoreError> {
    let registered = Registered::beat(&record.site, &record.node, record.beat);
    store.commit(Changes { registered: Some(registered), ..Changes::default() }).await
}

/// Whether the stored record is an earlier copy of the heartbeat that is being written.
fn is_mine(stored: &NodeRecord, sent: &NodeRecord) -> bool {
    let NodeRecord { volume, starts, beat, expelled, .. } = stored;
    (volume, *starts, *beat, *expelled) == (&sent.volume, sent.starts, sent.beat, sent.expelled)
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::seams::git::model::ModelRepositories;
    use crate::seams::git::model::counted::CountedRepositories;

    /// The syncs in ten seconds of a node with a disk that takes 50 ms for each, and always something to store.
    async fn syncs(is_nudged: bool) -> usize {
        let counted = CountedRepositories::new(ModelRepositories::new(InjectedBugs::default()));
        let counted = Arc::new(counted.with_sync_time(Duration::from_millis(50)));
        let context = NodeContext { repositories: Arc::clone(&counted) as _, ..NodeContext::in_memory() };
        let state = NodeState::load(&context, Duration::from_millis(10)).unwrap();
        let record = NodeRecord::first(context.node.as_str(), context.site.as_str());
        context.refdb.nodes.put_node(&record, None).await.unwrap();
        let nudge = Arc::new(Notify::new());
        let member = Member::new(&context, &state, record, Arc::clone(&nudge), MemberLimits::default());
        let running = [tokio::spawn(member.run()), tokio::spawn(state.durability.clone().run())];
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            state.durability.stage(|changes| changes.forget_lanes.push("n.1.0".parse().unwrap()));
            if is_nudged {
                nudge.notify_one();
            }
            sleep(Duration::from_millis(5)).await;
        }
        running.iter().for_each(tokio::task::JoinHandle::abort);
        counted.calls("sync")
    }

    #[tokio::test(start_paused = true)]
    async fn marks_that_somebody_waits_for_are_not_put_off_on_a_slow_disk() {
        assert!((95..=101).contains(&syncs(false).await));
        assert!((160..=168).contains(&syncs(true).await));
    }
}
