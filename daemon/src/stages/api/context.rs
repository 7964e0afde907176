//! The stages behind the API, for every handler, and the rule that work outlives its caller.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::FromRef;
use lockstep_proto::bridge::{ApiError, Outcome, ProjectResponse, Refusal, RefusalCode};
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Work};
use super::check;
use super::error::Failure;
use super::turns::Turns;
use crate::seams::git::Repositories;
use crate::stages::ports::{
    Arrivals, Doctor, Handshake, Inspection, Locking, Operators, PeerRefs, Rebuilds, Refreshes, Seeding, SharedRecords,
    StreamEvents, Transactions,
};

/// How long past its deadline a request still waits for the commit stage, whose answer says more than "no answer".
const GRACE: Duration = Duration::from_millis(500);

/// The state that all handlers share.
#[derive(Clone)]
pub(super) struct Api {
    pub transactions: Arc<dyn Transactions>,
    pub inspection: Arc<dyn Inspection>,
    /// The repositories whose objects peers may fetch.
    pub repositories: Option<Arc<dyn Repositories>>,
    /// The stage whose refresh tasks a bridge inside Gerrit takes.
    pub refreshes: Option<Arc<dyn Refreshes>>,
    /// The stage that accepts or denies starting Gerrits.
    pub handshake: Option<Arc<dyn Handshake>>,
    /// The stage that seeds projects.
    pub seeding: Option<Arc<dyn Seeding>>,
    /// The stage that forwards stream events; none when they are not forwarded.
    pub events: Option<Arc<dyn StreamEvents>>,
    /// The stage that takes the requests of operators.
    pub operators: Option<Arc<dyn Operators>>,
    /// The stage that takes requests about locks.
    pub locks: Option<Arc<dyn Locking>>,
    /// The stage that serves the version map and rebuilds a lost refdb.
    pub rebuilds: Option<Arc<dyn Rebuilds>>,
    /// The stage that tells peers what this node has.
    pub peer_refs: Option<Arc<dyn PeerRefs>>,
    /// The stage that hands records of streams to siblings.
    pub shared_records: Option<Arc<dyn SharedRecords>>,
    /// The stage that tells when a site shows a transaction.
    pub arrivals: Option<Arc<dyn Arrivals>>,
    /// Runs the checks of this node.
    pub doctor: Option<Arc<dyn Doctor>>,
    /// Tracks the tasks that do the work of requests, and that go on when a client hangs up.
    pub work: TaskTracker,
    /// The bounds on requests in progress.
    pub admission: Admission,
    /// The turns of batches. None if every batch commits at once.
    pub turns: Option<Arc<Turns>>,
    /// The deadline of a request that names none.
    pub deadline: Duration,
}

/// A handler's answer: a JSON body with status 200, or an error.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

impl FromRef<Api> for Admission {
    fn from_ref(api: &Api) -> Self {
        api.admission.clone()
    }
}

impl Api {
    /// Runs `work` to its end, even if the caller hangs up. Returns `None` if there is no answer within `deadline` and
    /// [`GRACE`], or if `work` panicked: the outcome is then unknown. The permit is held until `work` has ended. It is
    /// for calls whose caller names no deadline.
    pub(super) async fn outlive<T: Send + 'static>(
        &self,
        permit: Work,
        deadline: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.outlive_within(permit, deadline + GRACE, work).await
    }

    /// As [`Api::outlive`], for a call whose caller waits for this long and no longer.
    pub(super) async fn outlive_within<T: Send + 'static>(
        &self,
        permit: Work,
        wait: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let work = async move {
            let answer = work.await;
            drop(permit);
            answer
        };
        answer_within(&self.work, wait, work).await
    }

    /// Runs an operation on a project, with the default deadline. Answers "unknown" when it ends first.
    pub(super) async fn on_project(
        &self,
        permit: Work,
        request_id: &str,
        work: impl Future<Output = Result<ProjectResponse, ApiError>> + Send + 'static,
    ) -> Answer<ProjectResponse> {
        check::request_id(request_id)?;
        let answer = self.outlive(permit, self.deadline, work).await;
        Ok(Json(answer.unwrap_or_else(|| Ok(unknown_operation()))?))
    }
}

/// Runs `work` to its end in a task of its own. None if it has not ended after `wait`, or if it panicked.
pub(super) async fn answer_within<T: Send + 'static>(
    tasks: &TaskTracker,
    wait: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    match tokio::time::timeout(wait, tasks.spawn(work)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(panic)) => {
            tracing::error!(error = %panic, "the task of a request panicked; the request's outcome is unknown");
            None
        }
        Err(_) => None,
    }
}

/// The part of a caller's deadline that the commit stage gets. The rest is for its answer, which says more than "no
/// answer".
pub(super) fn of_the_stage(deadline: Duration) -> Duration {
    deadline.saturating_sub(GRACE.min(deadline / 10))
}

pub(super) fn no_answer() -> Refusal {
    let message = "no answer within the deadline; it may be committed: ask again with the same request id";
    Refusal::new(RefusalCode::Unavailable, true, message)
}

pub(super) fn unknown_operation() -> ProjectResponse {
    ProjectResponse { outcome: Outcome::Unknown, txn: None, refusal: Some(no_answer()) }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_answered_at_its_deadline_while_the_refdb_hangs() {
        let (tasks, began, deadline) = (TaskTracker::new(), Instant::now(), Duration::from_secs(5));
        let hangs = async {
            std::future::pending::<()>().await;
        };
        assert_eq!(answer_within(&tasks, deadline, hangs).await, None, "the outcome is unknown");
        assert_eq!(began.elapsed(), deadline);
        assert_eq!(tasks.len(), 1, "the work goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_of_a_stage_that_gives_up_in_its_part_of_the_deadline_arrives_before_it() {
        let tasks = TaskTracker::new();
        for deadline in [Duration::from_millis(50), Duration::from_secs(5), Duration::from_secs(600)] {
            let part = of_the_stage(deadline);
            assert!(part < deadline && deadline - part <= GRACE);
            let gives_up = async move {
                tokio::time::sleep(part).await;
                "refused"
            };
            assert_eq!(answer_within(&tasks, deadline, gives_up).await, Some("refused"));
        }
    }
}
