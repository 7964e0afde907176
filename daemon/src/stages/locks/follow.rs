//! Reads the list of locks periodically, so that this node obeys it, and ends locks that have expired.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use lockstep_proto::locks::{Lock, LockTarget, Locks};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::{LOCKS, decide};
use crate::base::observer::Observer;
use crate::base::tasks::Tasks;
use crate::seams::refdb::{RefDb, RefDbError};
use crate::state::bound_refdb::BoundRefdb;
use crate::state::context::{NodeContext, NodeState};
use crate::state::operator_locks::OperatorLocks;
use crate::state::quiesce::Quiesce;
use crate::state::went_back::WentBack;

/// Follows the list of locks on behalf of one node. Clones share its knowledge.
#[derive(Clone)]
pub struct LockFollower {
    refdb: RefDb,
    went_back: WentBack,
    bound: Arc<BoundRefdb>,
    observer: Arc<dyn Observer>,
    tasks: Tasks,
    locks: Arc<OperatorLocks>,
    quiesce: Arc<Quiesce>,
    /// Makes this node write a heartbeat at once, which tells how far it obeys.
    beat: Arc<Notify>,
    pace: Duration,
}

impl LockFollower {
    /// Creates a follower that reads the list once per `pace`.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, pace: Duration) -> Self {
        let NodeContext { refdb, went_back, observer, tasks, .. } = context.clone();
        let NodeState { operator_locks: locks, quiesce, beat, bound, .. } = state.clone();
        Self { refdb, went_back, bound, observer, tasks, locks, quiesce, beat, pace }
    }

    /// Reads the list, and refuses from now on what its locks keep out. The node obeys the list when the batches that
    /// are inside now have ended; the next heartbeats tell.
    ///
    /// # Errors
    /// The refdb did not answer.
    pub async fn look(&self) -> Result<(), RefDbError> {
        let read = LOCKS.read(self.refdb.documents.as_ref()).await?;
        let (revision, list) = read.unwrap_or_default();
        let new = self.locks.note(revision, &list, Instant::now());
        if new.is_empty() {
            return Ok(());
        }
        let inside = join_all(new.iter().map(|target| self.inside(target)).collect::<Vec<_>>());
        let (locks, beat) = (Arc::clone(&self.locks), Arc::clone(&self.beat));
        self.tasks.spawn("locks-obeyed", async move {
            inside.await;
            locks.obeys(revision);
            beat.notify_one();
        });
        Ok(())
    }

    /// The wait until the batches that are inside now, and that a lock would keep out, have ended.
    fn inside(&self, target: &LockTarget) -> BoxFuture<'static, ()> {
        match &target.project {
            Some(project) => Box::pin(self.quiesce.those_inside(project)),
            None => Box::pin(self.quiesce.all_inside()),
        }
    }

    /// Reads until the task is aborted. The earlier incarnations of this node must be poisoned.
    pub async fn run(self) {
        self.locks.begin();
        loop {
            sleep(self.pace).await;
            if self.went_back.is_known() {
                continue;
            }
            if let Err(error) = self.look().await {
                self.observer.failed("locks", &error);
                continue;
            }
            let now = Instant::now();
            if self.bound.moves() {
                // Nobody can renew a lock now, and none ends. Each has its whole time again in the new refdb, and after
                // an abort in this one.
                self.locks.watch_anew(now);
                continue;
            }
            let expired = self.locks.expired(now);
            if !expired.is_empty()
                && let Err(error) = self.end(&expired).await
            {
                self.observer.failed("locks", &error);
            }
        }
    }

    /// Ends locks that this node has watched for their whole time to live. Another node may have done so already.
    async fn end(&self, expired: &[Lock]) -> Result<(), RefDbError> {
        let change = |list: &mut Locks| Ok::<bool, RefDbError>(decide::end(list, expired));
        super::change(&self.refdb, change).await?;
        for Lock { id, target, owner, .. } in expired {
            tracing::warn!(id, %target, owner, "a lock was not renewed in time, and has expired");
        }
        self.look().await
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::locks::LockKind;
    use lockstep_proto::rebuild::{RefdbIdentity, RefdbState};

    use super::*;

    const TTL: Duration = Duration::from_secs(30);
    const PACE: Duration = Duration::from_millis(500);

    /// A list with one lock, which nobody renews.
    fn mortal() -> Locks {
        let lock = Lock {
            token: "1-aa".to_owned(),
            held: true,
            id: 1,
            kind: LockKind::Lock,
            target: LockTarget::project("p".parse().unwrap()),
            owner: "o".to_owned(),
            reason: "r".to_owned(),
            request_id: "1".to_owned(),
            by: "uid 0".to_owned(),
            since_ms: 1,
            renewals: 0,
            ttl_ms: Some(30_000),
            until: None,
        };
        Locks { locks: vec![lock] }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_could_not_be_renewed_during_a_move_has_its_whole_time_after_the_abort() {
        let context = NodeContext::in_memory();
        let state = NodeState::load(&context, Duration::from_millis(50)).unwrap();
        let documents = Arc::clone(&context.refdb.documents);
        assert!(LOCKS.replace(documents.as_ref(), 0, &mortal()).await.unwrap());
        let running = tokio::spawn(LockFollower::new(&context, &state, PACE).run());
        sleep(TTL / 2).await;
        let moving = RefdbIdentity { state: RefdbState::Moving, ..RefdbIdentity::first("1".to_owned()) };
        state.bound.see(Some(&moving));
        sleep(TTL * 2).await;
        state.bound.see(None);
        let left = async || LOCKS.read(documents.as_ref()).await.unwrap().unwrap().1.locks.len();
        sleep(TTL - PACE * 2).await;
        assert_eq!(left().await, 1, "its holder had no time to renew it");
        sleep(PACE * 3).await;
        assert_eq!(left().await, 0, "it was not renewed");
        running.abort();
    }
}
