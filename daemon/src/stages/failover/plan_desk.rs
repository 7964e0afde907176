//! The operators' request for a plan.

use lockstep_proto::bridge::ApiError;
use lockstep_proto::failover::{Estimate, Failover, FailoverPlan, PlanRequest};

use super::at_risk::at_risk;
use super::desk::OperatorDesk;
use super::estimate::estimate;
use super::overview;
use super::plan::plan;
use super::refusals::unread;
use crate::stages::ports::Operators;

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
        let digests = self.digests.read(&self.refdb).await.map_err(unread)?;
        plan.warnings.extend(overview::unverified(&view, &digests, &request.to, self.clock.now_ms()));
        plan.warnings.extend(overview::unprobed(&view, &digests, &request.to));
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
