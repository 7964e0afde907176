//! The operators' requests: plan, execute, pause, resume, abort, and the roles of sites.
//!
//! A request only reads the refdb, or replaces one record in it. The drivers do the work.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::SiteId;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::failover::{
    ActRequest, AuditEntry, ExecuteRequest, Failover, FailoverAct, FailoverPlan, FailoverStep, PlanRequest,
    RoleRequest, SitesStatus,
};

use super::decide::{Decision, decide};
use super::driver::DriverLimits;
use super::plan::{plan, steps};
use super::record::{self, Stored};
use super::view::View;
use crate::base::clock::Clock;
use crate::seams::refdb::{RefDb, RefDbError, Role};
use crate::stages::ports::Operators;
use crate::state::context::{NodeContext, NodeState};
use crate::state::gone_nodes::GoneNodes;

/// Takes the requests of operators on behalf of one node.
pub struct OperatorDesk {
    refdb: RefDb,
    clock: Arc<dyn Clock>,
    gone: GoneNodes,
}

impl OperatorDesk {
    /// Creates the desk of a node.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState) -> Self {
        let (refdb, clock) = (context.refdb.clone(), Arc::clone(&context.clock));
        Self { refdb, clock, gone: state.gone.clone() }
    }

    async fn view(&self) -> Result<View, ApiError> {
        View::read(&self.refdb, self.gone.all()).await.map_err(unanswered)
    }

    async fn stored(&self) -> Result<Option<Stored>, ApiError> {
        record::read(&self.refdb).await.map_err(unanswered)
    }

    async fn replace(&self, before: u64, failover: Failover) -> Result<Failover, ApiError> {
        match record::replace(&self.refdb, before, &failover).await.map_err(unanswered)? {
            true => Ok(failover),
            false => Err(refused("somebody else has changed the failover meanwhile; look at it and ask again")),
        }
    }

    /// Whether the target is promoted, or a promotion in transit may still land.
    async fn may_promote(&self, failover: &Failover) -> Result<bool, ApiError> {
        let view = self.view().await?;
        let target = view.site(&failover.to);
        Ok(target.is_none_or(|site| site.role == Role::Active || site.epoch == failover.to_epoch))
    }

    fn entry(&self, actor: &str, act: &str, reason: &str) -> AuditEntry {
        AuditEntry { at_ms: self.clock.now_ms(), actor: actor.into(), act: act.into(), reason: reason.into() }
    }
}

#[async_trait]
impl Operators for OperatorDesk {
    async fn sites(&self) -> Result<SitesStatus, ApiError> {
        let failover = self.stored().await?.map(|stored| stored.failover);
        let view = self.view().await?;
        let running = failover.as_ref().filter(|one| one.is_in_progress());
        let waits_for = running.and_then(|running| waits_for(running, &view));
        Ok(SitesStatus { sites: view.statuses(), failover, waits_for })
    }

    async fn plan(&self, request: &PlanRequest) -> Result<FailoverPlan, ApiError> {
        let running = self.stored().await?.map(|stored| stored.failover).filter(Failover::is_in_progress);
        Ok(plan(request, &self.view().await?, running.as_ref()))
    }

    async fn execute(&self, actor: &str, request: ExecuteRequest) -> Result<Failover, ApiError> {
        given("reason", &request.reason)?;
        let stored = self.stored().await?;
        let running = stored.as_ref().map(|stored| &stored.failover).filter(|one| one.is_in_progress());
        let view = self.view().await?;
        let plan = plan(&request.plan, &view, running);
        if !plan.blockers.is_empty() {
            return Err(refused(&format!("the plan has blockers: {}", plan.blockers.join("; "))));
        }
        if plan.hash != request.plan_hash {
            return Err(refused(&format!(
                "plan_hash {} is of another plan: roles, epochs or steps have changed since; plan again",
                request.plan_hash
            )));
        }
        let epoch = |site: &SiteId| view.site(site).map_or(0, |site| site.epoch);
        let (before, number) = stored.as_ref().map_or((0, 1), |stored| (stored.revision, stored.failover.number + 1));
        let failover = Failover {
            number,
            kind: plan.kind,
            from_epoch: epoch(&plan.from),
            to_epoch: epoch(&plan.to),
            from: plan.from,
            to: plan.to,
            actor: actor.to_owned(),
            reason: request.reason.clone(),
            requested_ms: self.clock.now_ms(),
            steps: steps(),
            pause_before: request.pause_before,
            paused: false,
            aborting: false,
            unserved: false,
            end: None,
            audit: vec![self.entry(actor, "execute", &request.reason)],
        };
        self.replace(before, failover).await
    }

    async fn act(&self, actor: &str, request: ActRequest) -> Result<Failover, ApiError> {
        given("reason", &request.reason)?;
        let stored = self.stored().await?.filter(|stored| stored.failover.is_in_progress());
        let Some(stored) = stored.filter(|stored| stored.failover.number == request.number) else {
            return Err(refused(&format!("failover {} is not in progress", request.number)));
        };
        let mut failover = stored.failover;
        let act = match request.act {
            FailoverAct::Pause => {
                failover.paused = true;
                "pause"
            }
            FailoverAct::Resume => {
                let held = failover.current().map(|step| step.step);
                failover.pause_before.retain(|step| Some(*step) != held);
                failover.paused = false;
                "resume"
            }
            FailoverAct::Abort if failover.has_begun(FailoverStep::Promote) && self.may_promote(&failover).await? => {
                return Err(refused(&format!(
                    "the promotion of {} has begun; let failover {} end, and fail back with a plan from {} to {}",
                    failover.to, failover.number, failover.to, failover.from
                )));
            }
            FailoverAct::Abort => {
                failover.aborting = true;
                "abort"
            }
        };
        failover.audit.push(self.entry(actor, act, &request.reason));
        self.replace(stored.revision, failover).await
    }

    async fn change_role(&self, actor: &str, site: &SiteId, request: RoleRequest) -> Result<SitesStatus, ApiError> {
        given("reason", &request.reason)?;
        if !matches!(request.role, Role::Active | Role::Standby) {
            let role = request.role.name();
            return Err(invalid(&format!("role {role} is set by a failover alone; give active or standby")));
        }
        if let Some(running) = self.stored().await?.filter(|stored| stored.failover.is_in_progress()) {
            let number = running.failover.number;
            return Err(refused(&format!("failover {number} is in progress; no role is changed meanwhile")));
        }
        let view = self.view().await?;
        let Some(record) = view.site(site) else {
            return Err(invalid(&format!("site {site} is not in the refdb; `lockstep sites` lists the sites")));
        };
        if record.epoch != request.expect_epoch {
            let (role, epoch) = (record.role.name(), record.epoch);
            return Err(refused(&format!(
                "expect_epoch {} is not the epoch of {site}: it is {role}, epoch {epoch}; look at it and ask again",
                request.expect_epoch
            )));
        }
        if request.role == Role::Active && !matches!(record.role, Role::Active | Role::Standby) {
            let role = record.role.name();
            return Err(refused(&format!("{site} is {role}; make it a standby first, then look at it again")));
        }
        let others = view.sites.iter().filter(|other| other.site != *site && other.role == Role::Active).count();
        if request.role == Role::Standby && record.role == Role::Active && others == 0 {
            return Err(refused(&format!("{site} is the only active site; move its writes with `lockstep failover`")));
        }
        tracing::warn!(%site, role = request.role.name(), actor, reason = request.reason, "an operator changes a role");
        if record.role != request.role {
            self.refdb.registry.change_role(record, request.role).await.map_err(unanswered)?;
        }
        self.sites().await
    }
}

/// Why a failover that is in progress does not move on at the moment.
fn waits_for(failover: &Failover, view: &View) -> Option<String> {
    match decide(failover, view, Duration::ZERO, &DriverLimits::default().patience()) {
        Decision::Wait(why) => Some(why),
        _ => None,
    }
}

fn given(field: &str, value: &str) -> Result<(), ApiError> {
    match value.trim().is_empty() {
        true => Err(invalid(&format!("{field} is empty; say why, for the audit trail"))),
        false => Ok(()),
    }
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(RefusalCode::Invalid, false, message)
}

/// A refusal: it would not be safe, or another state was expected. Nothing was changed.
fn refused(message: &str) -> ApiError {
    ApiError::new(RefusalCode::Stale, false, format!("{message}; nothing was changed"))
}

fn unanswered(error: RefDbError) -> ApiError {
    ApiError::unavailable(format!("the refdb does not answer: {error}"))
}
