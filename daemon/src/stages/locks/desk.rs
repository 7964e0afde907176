//! Takes the requests of operators and bridges about locks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::locks::{
    AcquireRequest, Acquired, BreakRequest, LOCK_REASON_BYTES, Lock, LockKind, LockList, Locks, ReleaseRequest,
    RenewRequest, TOKEN_BYTES,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::decide::{self, Acquisition};
use super::{LOCKS, LockFollower, TRIES};
use crate::base::clock::{Clock, Entropy};
use crate::seams::refdb::{IncarnationRecord, RefDb, RefDbError};
use crate::stages::ports::Locking;
use crate::state::context::{NodeContext, NodeState};
use crate::state::operator_locks::OperatorLocks;

/// How long one request waits until its lock is held. The caller repeats it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two looks at the nodes that do not obey yet.
const PAUSE: Duration = Duration::from_millis(200);

/// The stage of one node.
pub struct LockDesk {
    refdb: RefDb,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    locks: Arc<OperatorLocks>,
    follower: LockFollower,
    beat: Arc<Notify>,
}

/// Why a lock was not changed.
enum NotChanged {
    RefDb(RefDbError),
    Refused(ApiError),
}

impl From<RefDbError> for NotChanged {
    fn from(error: RefDbError) -> Self {
        Self::RefDb(error)
    }
}

impl From<ApiError> for NotChanged {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<NotChanged> for ApiError {
    fn from(why: NotChanged) -> Self {
        match why {
            NotChanged::RefDb(error) => unanswered(&error),
            NotChanged::Refused(error) => error,
        }
    }
}

fn unanswered(error: &RefDbError) -> ApiError {
    ApiError { retry: error.retry_helps(), ..ApiError::unavailable(error) }
}

impl LockDesk {
    /// The stage of a node. `follower` lets the node obey a lock before others are asked whether they do.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, follower: LockFollower) -> Self {
        let NodeContext { refdb, clock, entropy, .. } = context.clone();
        let (locks, beat) = (Arc::clone(&state.operator_locks), Arc::clone(&state.beat));
        Self { refdb, clock, entropy, locks, follower, beat }
    }

    async fn read(&self) -> Result<(u64, Locks), ApiError> {
        let read = LOCKS.read(self.refdb.documents.as_ref()).await;
        Ok(read.map_err(|error| unanswered(&error))?.unwrap_or_default())
    }

    /// Changes the list, obeys it here, and shows it.
    async fn change(&self, change: impl Fn(&mut Locks) -> Result<bool, ApiError>) -> Result<LockList, ApiError> {
        let change = |list: &mut Locks| change(list).map_err(NotChanged::from);
        super::change(&self.refdb, change).await?;
        self.list().await
    }

    /// Puts a new lock into the list, or finds the one of this very request.
    async fn put(&self, by: &str, request: &AcquireRequest) -> Result<Lock, ApiError> {
        for _ in 0..TRIES {
            let (before, mut list) = self.read().await?;
            let expired = self.locks.expired(Instant::now());
            let is_over =
                |lock: &Lock| expired.iter().any(|one| one.token == lock.token && one.renewals == lock.renewals);
            let acquisition = Acquisition { by, now_ms: self.clock.now_ms(), nonce: self.entropy.next() };
            let (lock, is_new) = decide::acquire(&mut list, before, request, &acquisition, is_over)?;
            if !is_new {
                return Ok(lock);
            }
            let replaced = super::replace(&self.refdb, before, &list).await;
            if replaced.map_err(|error| unanswered(&error))? {
                let Lock { id, target, owner, reason, ttl_ms, .. } = &lock;
                tracing::warn!(actor = by, id, %target, owner, reason, ttl_ms, "a lock is acquired");
                return Ok(lock);
            }
        }
        Err(ApiError::unavailable("others change the list of locks at the same time; nothing was changed, try again"))
    }

    /// The nodes that can commit and may not obey a lock yet. Those of other sites have no part in the lock of a site.
    async fn unaware(&self, lock: &Lock) -> Result<Vec<String>, ApiError> {
        let unread = |error: RefDbError| unanswered(&error);
        let incarnations = self.refdb.incarnations().await.map_err(unread)?;
        let nodes = self.refdb.nodes.nodes().await.map_err(unread)?;
        let counts = |one: &&IncarnationRecord| {
            one.may_commit() && lock.target.site.as_ref().is_none_or(|site| *site == one.site)
        };
        let tell = |one: &IncarnationRecord| {
            let record = nodes.iter().find(|node| node.node == one.id.node);
            match record.map_or(0, |node| node.obeys_locks) {
                obeys if obeys >= lock.id => None,
                0 => Some(format!("{} of site {} (down, or of an earlier release)", one.id.node, one.site)),
                _ => Some(format!("{} of site {} (pushes in progress, or no heartbeat)", one.id.node, one.site)),
            }
        };
        Ok(incarnations.iter().filter(counts).filter_map(tell).collect())
    }

    /// Waits until every node that can commit obeys the lock, and notes that it is held. Returns the nodes that do not
    /// obey in time.
    async fn until_held(&self, lock: &Lock) -> Result<Vec<String>, ApiError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.beat.notify_one();
            let unaware = self.unaware(lock).await?;
            if unaware.is_empty() {
                self.change(|list| decide::hold(list, &lock.token)).await?;
                return Ok(unaware);
            }
            if Instant::now() >= deadline {
                return Ok(unaware);
            }
            sleep(PAUSE).await;
        }
    }
}

#[async_trait]
impl Locking for LockDesk {
    async fn list(&self) -> Result<LockList, ApiError> {
        self.follower.look().await.map_err(|error| unanswered(&error))?;
        let (revision, list) = self.read().await?;
        Ok(LockList::of(revision, &list))
    }

    async fn acquire(&self, by: &str, request: AcquireRequest) -> Result<Acquired, ApiError> {
        decide::check(&request)?;
        if request.kind == LockKind::Lock && !self.refdb.refs.checks_locks() {
            return Err(decide::no_locks(&request.target));
        }
        let lock = self.put(by, &request).await?;
        let mut waits_for = Vec::new();
        if !lock.held {
            self.follower.look().await.map_err(|error| unanswered(&error))?;
            waits_for = self.until_held(&lock).await?;
        }
        let held = waits_for.is_empty();
        Ok(Acquired { token: lock.token.clone(), held, waits_for, lock: Lock { held, ..lock }.shown() })
    }

    async fn renew(&self, by: &str, request: RenewRequest) -> Result<LockList, ApiError> {
        decide::bounded("token", &request.token, TOKEN_BYTES)?;
        decide::ttl(request.ttl_ms)?;
        let list = self.change(|list| decide::renew(list, &request)).await?;
        tracing::info!(actor = by, revision = list.revision, "a lock is renewed");
        Ok(list)
    }

    async fn release(&self, by: &str, request: ReleaseRequest) -> Result<LockList, ApiError> {
        decide::bounded("token", &request.token, TOKEN_BYTES)?;
        let list = self.change(|list| Ok(decide::release(list, &request.token))).await?;
        tracing::warn!(actor = by, revision = list.revision, "a lock is released");
        Ok(list)
    }

    async fn break_lock(&self, by: &str, request: BreakRequest) -> Result<LockList, ApiError> {
        decide::bounded("reason", &request.reason, LOCK_REASON_BYTES)?;
        decide::target(&request.target)?;
        let list = self.change(|list| decide::break_lock(list, request.kind, &request.target)).await?;
        let BreakRequest { kind, target, reason } = request;
        tracing::warn!(actor = by, reason, kind = kind.name(), %target, "an operator breaks a lock");
        Ok(list)
    }
}
