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
            let expired = self.locks.expired(Instant::now());
            // While the refdb moves, no lock ends. The new one watches each anew.
            if !expired.is_empty()
                && !self.bound.moves()
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
