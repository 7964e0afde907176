//! The operators' request to execute a plan.
//!
//! It reads first, and then writes the record of the failover, under the condition that nothing has moved since. If the
//! refdb gives no answer to a read in time, or takes no write, nothing was changed: that is a refusal. If it gives no
//! answer to the write, the failover may have begun: that is unknown.

use lockstep_proto::SiteId;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::failover::{ExecuteRequest, Failover, PlanRequest};
use lockstep_proto::history::PastChange;

use super::desk::OperatorDesk;
use super::plan::{begun, plan};
use super::record::{self, Stored};
use super::refusals::{given, in_time, refused, unanswered};
use super::view::View;
use crate::seams::refdb::{RefDbError, Role};

/// The state by which a request is judged.
struct Now {
    stored: Option<Stored>,
    view: View,
    went_back: Option<String>,
}

impl OperatorDesk {
    /// Begins a failover, if its plan is still the one that the operator has seen, and nothing blocks it.
    ///
    /// # Errors
    /// The request is refused, or it is not known whether it was taken.
    pub(super) async fn begin_failover(&self, actor: &str, request: ExecuteRequest) -> Result<Failover, ApiError> {
        given("reason", &request.reason)?;
        let Now { stored, view, went_back } = in_time(self.now()).await.map_err(unread_before)?;
        let running = stored.as_ref().map(|stored| &stored.failover).filter(|one| one.is_in_progress());
        let plan = plan(&request.plan, &view, running, went_back.as_deref());
        if !plan.blockers.is_empty() {
            return Err(refused(&format!("the plan has blockers: {}", plan.blockers.join("; "))));
        }
        if plan.hash != request.plan_hash {
            return Err(refused(&format!(
                "plan_hash {} is of another plan: roles, epochs or steps have changed since; plan again",
                request.plan_hash
            )));
        }
        accepts_loss(&request.plan, &view)?;
        let epoch = |site: &SiteId| view.site(site).map_or(0, |site| site.epoch);
        let (before, number) = stored.as_ref().map_or((0, 1), |stored| (stored.revision, stored.failover.number + 1));
        if let Some(last) = &stored {
            self.note(PastChange::Failover(Box::new(last.failover.clone()))).await;
        }
        let epochs = (epoch(&plan.from), epoch(&plan.to));
        let failover = Failover {
            to_was_active: view.role(&plan.to) == Some(Role::Active),
            actor: actor.to_owned(),
            reason: request.reason.clone(),
            requested_ms: self.clock.now_ms(),
            pause_before: request.pause_before,
            audit: vec![self.entry(actor, "execute", &request.reason)],
            ..begun(number, &request.plan, epochs)
        };
        let seen = [&failover.from, &failover.to].into_iter().filter_map(|site| view.site(site)).cloned();
        let (refdb, seen) = (self.refdb.for_failover(), seen.collect::<Vec<_>>());
        match record::begin(&refdb, before, &failover, &seen).await.map_err(not_written)? {
            record::Begun::Yes => Ok(failover),
            record::Begun::Overtaken => {
                Err(refused("somebody else has begun a failover meanwhile; look at it and ask again"))
            }
            record::Begun::SitesMoved => Err(refused("the role of a site has changed meanwhile; plan again")),
        }
    }

    async fn now(&self) -> Result<Now, ApiError> {
        Ok(Now { stored: self.stored().await?, view: self.view().await?, went_back: self.went_back().await? })
    }
}

/// The refusal when the refdb fails before anything is decided: the error says that nothing was changed.
fn unread_before(error: ApiError) -> ApiError {
    let message = format!("{}; no failover has begun", error.message);
    ApiError::new(RefusalCode::NotServing, error.retry, message)
}

/// The refusal when the refdb fails before the record of the failover is written. A retry helps as it did there.
fn not_begun(error: ApiError) -> ApiError {
    let message = format!("{}; no failover has begun, and nothing was changed", error.message);
    ApiError::new(RefusalCode::NotServing, error.retry, message)
}

/// The answer when the record of the failover could not be written, or may have been.
fn not_written(error: RefDbError) -> ApiError {
    let is_unknown = error.is_unknown();
    let answer = unanswered(error);
    if is_unknown { answer } else { not_begun(answer) }
}

/// Refuses a forced failover whose target is known to lack more than the accepted loss for good: transactions that it
/// holds as quarantined. Transactions that it is behind by are counted before the promotion, once the source has
/// settled.
fn accepts_loss(request: &PlanRequest, view: &View) -> Result<(), ApiError> {
    let Some(most) = request.max_loss else { return Ok(()) };
    let (from, to) = (&request.from, &request.to);
    let for_good = view.lacking(to, from).map(|lacking| lacking.set_aside());
    match for_good {
        Some(count) if count <= most => Ok(()),
        Some(count) => Err(refused(&format!(
            "{to} holds {count} transactions of {from} as quarantined, more than max_loss {most}; see `lockstep \
             quarantine` there"
        ))),
        None => Err(refused(&format!(
            "it is not known which transactions of {from} {to} lacks, and max_loss is {most}: each of its nodes \
             reconciles, is expelled or owes a project; see `lockstep status` there"
        ))),
    }
}
