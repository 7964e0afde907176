//! The operators' request for a plan.

use std::time::Duration;

use lockstep_proto::bridge::ApiError;
use lockstep_proto::failover::{Estimate, Failover, FailoverPlan, PlanRequest};
use tokio::time::timeout;

use super::at_risk::at_risk;
use super::desk::OperatorDesk;
use super::estimate::estimate;
use super::overview;
use super::plan::plan;
use super::refusals::unanswered;
use crate::seams::refdb::RefDbError;
use crate::stages::ports::Operators;

/// How long a plan, and the reads of an execution, wait for the refdb.
const PLAN: Duration = Duration::from_secs(8);
/// The consequence of a refdb that does not answer.
const NO_PROMOTION: &str = "no promotion can help: the refdb is the authority on every ref; if it is lost for good, \
                            rebuild it from the sites with `lockstep refdb rebuild`";

/// The answer of `reads`, or a failure that says what a refdb without an answer means for a failover.
///
/// # Errors
/// The refdb does not answer, or not in time.
pub(super) async fn in_time<T>(reads: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let late = || unanswered(RefDbError::NotNow(format!("no answer within {} s", PLAN.as_secs())));
    let answer = timeout(PLAN, reads).await.unwrap_or_else(|_| Err(late()));
    answer.map_err(|error| ApiError { message: format!("{}; {NO_PROMOTION}", error.message), ..error })
}

impl OperatorDesk {
    /// The plan of a failover, with everything that is for information.
    ///
    /// # Errors
    /// The refdb does not answer.
    pub(super) async fn planned(&self, request: &PlanRequest) -> Result<FailoverPlan, ApiError> {
        let running = self.stored().await?.map(|stored| stored.failover).filter(Failover::is_in_progress);
        let view = self.view().await?;
        let mut plan = plan(request, &view, running.as_ref(), self.went_back().await?.as_deref());
        plan.at_risk = at_risk(&self.refdb.for_failover(), &view, &request.from, &request.to).await;
        let digests = self.digests.read(&self.refdb).await.map_err(unanswered)?;
        plan.warnings.extend(overview::unverified(&view, &digests, &request.to, self.clock.now_ms()));
        plan.estimate = self.estimated(&plan, view.most_behind(&request.to, &request.from)).await;
        Ok(plan)
    }

    /// The estimated time of a plan. No plan fails because the past cannot be read.
    async fn estimated(&self, plan: &FailoverPlan, behind: u64) -> Option<Estimate> {
        let history = self.history().await.ok()?;
        let drills = self.drill.all().await.ok()?;
        estimate(plan, behind, &history, &drills)
    }
}
