//! The operators' requests: plan, execute, pause, resume, abort, and the roles of sites.
//!
//! A request only reads the refdb, or replaces one record in it. The drivers do the work.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::drill::{DrillBegun, DrillRequest, Drills, Preflight, PreflightRequest};
use lockstep_proto::failover::{
    ActRequest, AuditEntry, ExecuteRequest, Failover, FailoverAct, FailoverPlan, FailoverStep, FollowUp, ModeRequest,
    PlanRequest, RoleRequest, SiteStatus, SitesStatus,
};
use lockstep_proto::history::{History, PastChange, RoleChange};
use lockstep_proto::keys::{ChangeKeyRequest, RequireSigningRequest, SigningStatus};
use lockstep_proto::overview::Overview;
use lockstep_proto::silent::{SilentBegun, SilentDrills, SilentRequest};
use lockstep_proto::site_list::{AddSiteRequest, RemoveNodeRequest, RemoveSiteRequest};
use lockstep_proto::{NodeId, SiteId};

use tokio::time::timeout;

use super::decide::{Decision, decide};
use super::digests::DigestReader;
use super::drill::DrillStage;
use super::driver::DriverLimits;
use super::follow_up::follow_up;
use super::history;
use super::overview;
use super::plan::{exposure, switch_on};
use super::record::{self, Stored};
use super::refusals::{given, in_time, invalid, refused, unanswered, unread};
use super::resume::{resumes, too_late};
use super::silent::SilentStage;
use super::view::View;
use crate::base::clock::Clock;
use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::refdb::{RefDb, Role, SiteAnswer, SiteRecord};
use crate::stages::ports::{FencingOver, LocalHealth, Operators, Probes, StandbyCopies, check_approval};
use crate::state::context::{NodeContext, NodeState};
use crate::state::gone_nodes::GoneNodes;
use crate::state::operator_locks::OperatorLocks;
use crate::state::site_roles::SiteRoles;

/// How long a request waits until its entry is in the history.
const NOTE: Duration = Duration::from_secs(5);

/// Takes the requests of operators on behalf of one node.
pub struct OperatorDesk {
    pub(super) node: NodeId,
    pub(super) refdb: RefDb,
    pub(super) clock: Arc<dyn Clock>,
    gone: GoneNodes,
    /// Knows the sites with which the list of sites began.
    pub(super) roles: Arc<SiteRoles>,
    /// Knows the locks of operators and bridges.
    locks: Arc<OperatorLocks>,
    pub(super) digests: DigestReader,
    /// Defects that a test has switched on.
    pub(super) bugs: InjectedBugs,
    pub(super) tools: DeskTools,
    pub(super) drill: Arc<DrillStage>,
    pub(super) silent: Arc<SilentStage>,
}

/// The means of a node that its desk uses for drills.
#[derive(Clone)]
pub struct DeskTools {
    /// Ends incarnations of a canary.
    pub fencing: FencingOver,
    /// Acts as users of this node do.
    pub probes: Arc<dyn Probes>,
    /// Looks at the disks and certificates of this machine.
    pub local: Arc<dyn LocalHealth>,
    /// Makes copies of this node's volume. `None` at a node without one.
    pub copies: Option<Arc<dyn StandbyCopies>>,
}

impl OperatorDesk {
    /// Creates the desk of a node.
    #[must_use]
    pub fn new(context: &NodeContext, state: &NodeState, tools: DeskTools) -> Self {
        let (refdb, clock) = (context.refdb.clone(), Arc::clone(&context.clock));
        let digests = DigestReader::new(Arc::clone(&clock));
        let (gone, roles, bugs) = (state.gone.clone(), Arc::clone(&state.roles), context.bugs);
        let drill = DrillStage::new(context, Arc::clone(&tools.fencing), Arc::clone(&tools.probes));
        let silent = Arc::new(SilentStage::new(context, &roles, tools.copies.clone()));
        let (node, drill) = (context.node.clone(), Arc::new(drill));
        let locks = Arc::clone(&state.operator_locks);
        Self { node, refdb, clock, gone, roles, locks, digests, bugs, tools, drill, silent }
    }

    /// The stage that drives drills of this node.
    #[must_use]
    pub fn drills(&self) -> Arc<DrillStage> {
        Arc::clone(&self.drill)
    }

    pub(super) async fn view(&self) -> Result<View, ApiError> {
        View::read(&self.refdb.for_failover(), self.gone.all()).await.map_err(unread)
    }

    pub(super) async fn stored(&self) -> Result<Option<Stored>, ApiError> {
        record::read(&self.refdb.for_failover()).await.map_err(unread)
    }

    /// The revision of the failover document, and the state of the sites, unless a failover is in progress. A change
    /// that names the revision has no effect if a failover begins meanwhile.
    pub(super) async fn without_failover(&self) -> Result<(u64, View), ApiError> {
        let stored = self.stored().await?;
        if let Some(running) = stored.as_ref().filter(|stored| stored.failover.is_in_progress()) {
            let number = running.failover.number;
            return Err(refused(&format!("failover {number} is in progress; no site is changed meanwhile")));
        }
        Ok((stored.map_or(0, |stored| stored.revision), self.view().await?))
    }

    async fn replace(&self, before: u64, failover: Failover) -> Result<Failover, ApiError> {
        match record::replace(&self.refdb.for_failover(), before, &failover).await.map_err(unanswered)? {
            true => Ok(failover),
            false => Err(refused("somebody else has changed the failover meanwhile; look at it and ask again")),
        }
    }

    /// Acts on the failover of the record that was seen, unless somebody has replaced that record since.
    async fn act_on(&self, seen: Option<Stored>, actor: &str, request: &ActRequest) -> Result<Failover, ApiError> {
        given("reason", &request.reason)?;
        let seen = seen.filter(|seen| seen.failover.is_in_progress() && seen.failover.number == request.number);
        let Some(Stored { revision, mut failover }) = seen else {
            return Err(refused(&format!("failover {} is not in progress", request.number)));
        };
        let act = match request.act {
            FailoverAct::Pause => {
                failover.paused = true;
                "pause"
            }
            FailoverAct::Resume => {
                resumes(&failover, request.step).map_err(|why| refused(&why.to_string()))?;
                let held = failover.current().map(|step| step.step);
                failover.pause_before.retain(|step| Some(*step) != held);
                (failover.paused, failover.held) = (false, None);
                "resume"
            }
            FailoverAct::Abort if failover.has_begun(FailoverStep::Promote) && self.may_promote(&failover).await? => {
                return Err(refused(&too_late(&failover)));
            }
            FailoverAct::Abort => {
                failover.aborting = true;
                "abort"
            }
        };
        failover.audit.push(self.entry(actor, act, &request.reason));
        self.replace(revision, failover).await
    }

    /// The sites, with the progress of nodes that take everything from the refdb and from peers, and the work that goes
    /// on beside the last failover. The digests are read once, and only if one of both needs them.
    async fn with_progress(
        &self,
        view: &View,
        last: Option<&Failover>,
    ) -> Result<(Vec<SiteStatus>, Option<FollowUp>), ApiError> {
        let joins = view.nodes.iter().any(|node| view.lives(node) && node.reconciles());
        let ended = last.filter(|last| !last.is_in_progress());
        let mut sites = view.statuses();
        if !joins && ended.is_none() {
            return Ok((sites, None));
        }
        let digests = self.digests.read(&self.refdb).await.map_err(unread)?;
        for node in sites.iter_mut().flat_map(|site| &mut site.nodes).filter(|_| joins) {
            let own = digests.iter().find(|one| one.digest.node == node.node && !one.is_old);
            node.bootstrap = own.and_then(|one| one.digest.bootstrap.clone());
        }
        Ok((sites, ended.and_then(|ended| follow_up(ended, view, &digests))))
    }

    /// Whether the target is promoted, or a promotion in transit may still land.
    async fn may_promote(&self, failover: &Failover) -> Result<bool, ApiError> {
        let view = self.view().await?;
        let target = view.site(&failover.to);
        Ok(target.is_none_or(|site| site.role == Role::Active || site.epoch == failover.to_epoch))
    }

    /// Why the refdb is known to be older than a node. None if it is not.
    pub(super) async fn went_back(&self) -> Result<Option<String>, ApiError> {
        let declared = self.refdb.documents.went_back().await.map_err(unread)?;
        Ok(declared.map(|declared| format!("{} (declared by {})", declared.why, declared.by)))
    }

    pub(super) fn entry(&self, actor: &str, act: &str, reason: &str) -> AuditEntry {
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
        let removed = view.removed.iter().map(|one| one.site.clone()).collect();
        let (sites, follow_up) = self.with_progress(&view, failover.as_ref()).await?;
        Ok(SitesStatus { sites, removed, failover, waits_for, follow_up })
    }

    async fn overview(&self) -> Result<Overview, ApiError> {
        let failover = self.stored().await?.map(|stored| stored.failover);
        let view = self.view().await?;
        let digests = self.digests.read(&self.refdb).await.map_err(unread)?;
        let went_back = self.went_back().await?;
        let running = failover.as_ref().filter(|one| one.is_in_progress());
        Ok(Overview {
            by: self.node.clone(),
            at_ms: self.clock.now_ms(),
            sites: overview::sites(&view, &digests, running, went_back.as_deref()),
            exposure: exposure(&view),
            refdb_went_back: went_back,
            waits_for: running.and_then(|running| waits_for(running, &view)),
            locks: self.locks.shown(),
            failover,
        })
    }

    async fn history(&self) -> Result<History, ApiError> {
        let mut history = history::read(&self.refdb).await.map_err(unread)?;
        if let Some(stored) = self.stored().await? {
            history.put(PastChange::Failover(Box::new(stored.failover)));
        }
        Ok(history)
    }

    async fn plan(&self, request: &PlanRequest) -> Result<FailoverPlan, ApiError> {
        in_time(self.planned(request)).await
    }

    async fn execute(&self, actor: &str, request: ExecuteRequest) -> Result<Failover, ApiError> {
        self.begin_failover(actor, request).await
    }

    async fn act(&self, actor: &str, request: ActRequest) -> Result<Failover, ApiError> {
        let seen = self.stored().await?;
        self.act_on(seen, actor, &request).await
    }

    async fn approve(&self, actor: &str, request: ActRequest) -> Result<Failover, ApiError> {
        let seen = self.stored().await?;
        check_approval(seen.as_ref().map(|stored| &stored.failover), &request)?;
        self.act_on(seen, actor, &request).await
    }

    async fn preflight(&self, request: &PreflightRequest) -> Result<Preflight, ApiError> {
        self.look_before(&request.to).await
    }

    async fn drills(&self) -> Result<Drills, ApiError> {
        self.drill.all().await.map_err(unread)
    }

    async fn drill(&self, actor: &str, request: DrillRequest) -> Result<DrillBegun, ApiError> {
        self.begin_drill(actor, request).await
    }

    async fn silent_drills(&self) -> Result<SilentDrills, ApiError> {
        self.silent_drills_now().await
    }

    async fn silent_drill(&self, actor: &str, request: SilentRequest) -> Result<SilentBegun, ApiError> {
        self.begin_silent(actor, request).await
    }

    async fn change_role(&self, actor: &str, site: &SiteId, request: RoleRequest) -> Result<SitesStatus, ApiError> {
        given("reason", &request.reason)?;
        if !matches!(request.role, Role::Active | Role::Standby) {
            let role = request.role.name();
            return Err(invalid(&format!("role {role} is set by a failover alone; give active or standby")));
        }
        let (failover, view) = self.without_failover().await?;
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
        if record.off {
            let way = switch_on(site, request.role, record.epoch);
            return Err(refused(&format!("Lockstep is off at {site}; switch it on with `{way}`")));
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
            let to = SiteRecord { role: request.role, epoch: record.epoch + 1, ..record.clone() };
            let entry = self.site_change(actor, &request.reason, Some(record), &to);
            self.noted(entry, Some(record), &to, failover).await?;
        }
        self.sites().await
    }

    async fn add_site(&self, actor: &str, site: &SiteId, request: AddSiteRequest) -> Result<SitesStatus, ApiError> {
        self.add(actor, site, request).await?;
        self.sites().await
    }

    async fn remove_site(
        &self,
        actor: &str,
        site: &SiteId,
        request: RemoveSiteRequest,
    ) -> Result<SitesStatus, ApiError> {
        self.remove(actor, site, request).await?;
        self.sites().await
    }

    async fn change_mode(&self, actor: &str, site: &SiteId, request: ModeRequest) -> Result<SitesStatus, ApiError> {
        self.switch(actor, site, request).await?;
        self.sites().await
    }

    async fn remove_node(
        &self,
        actor: &str,
        node: &NodeId,
        request: RemoveNodeRequest,
    ) -> Result<SitesStatus, ApiError> {
        self.expel(actor, node, request).await?;
        self.sites().await
    }

    async fn signing(&self) -> Result<SigningStatus, ApiError> {
        self.signing_status().await
    }

    async fn require_signing(&self, actor: &str, request: RequireSigningRequest) -> Result<SigningStatus, ApiError> {
        self.require(actor, request).await
    }

    async fn change_key(&self, actor: &str, request: ChangeKeyRequest) -> Result<SigningStatus, ApiError> {
        self.key_becomes(actor, request).await
    }
}

impl OperatorDesk {
    /// The entry of the history for a change of a site's record.
    pub(super) fn site_change(
        &self,
        actor: &str,
        reason: &str,
        before: Option<&SiteRecord>,
        to: &SiteRecord,
    ) -> RoleChange {
        RoleChange {
            at_ms: self.clock.now_ms(),
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            site: to.site.clone(),
            from: before.map_or(Role::Fenced, |one| one.role),
            to: to.role,
            epoch: before.map_or(0, |one| one.epoch),
            done: None,
            list: None,
            mode: None,
        }
    }

    /// Changes a site's record, in one write that has no effect beside a failover. The history has the request before,
    /// and its outcome afterwards.
    pub(super) async fn noted(
        &self,
        entry: RoleChange,
        from: Option<&SiteRecord>,
        to: &SiteRecord,
        failover: u64,
    ) -> Result<(), ApiError> {
        self.note(PastChange::Role(entry.clone())).await;
        let answer = self.refdb.sites.change_site(from, to, failover).await.map_err(unanswered)?;
        let (done, end) = match answer {
            SiteAnswer::Changed => (true, Ok(())),
            // The answer to an earlier copy of this very change was lost, or somebody else has asked for the same.
            SiteAnswer::Differs(stored) if stored == *to => (true, Ok(())),
            SiteAnswer::Differs(_) => {
                (false, Err(refused(&format!("{} has changed meanwhile; look at it and ask again", to.site))))
            }
            SiteAnswer::FailoverMoved => (false, Err(refused("a failover has begun meanwhile; look at it"))),
        };
        self.note(PastChange::Role(RoleChange { done: Some(done), ..entry })).await;
        end
    }

    /// Notes an entry in the history. A history that cannot be read, or written in time, stops no operator.
    pub(super) async fn note(&self, entry: PastChange) {
        let noted = match timeout(NOTE, history::put(&self.refdb, &entry)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", NOTE.as_secs()),
        };
        tracing::error!(why = noted, ?entry, "the history cannot be written: this log line is all that is kept");
    }
}

/// Why a failover that is in progress does not move on at the moment.
fn waits_for(failover: &Failover, view: &View) -> Option<String> {
    match decide(failover, view, Duration::ZERO, &DriverLimits::default().patience()) {
        Decision::Wait(why) => Some(why),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use lockstep_proto::failover::FailoverKind;
    use parking_lot::Mutex;

    use super::super::decide::tests::failover;
    use super::super::drill::tests::context;
    use super::super::tests::{Disk, desk};
    use super::*;
    use crate::seams::refdb::{Document, DocumentRecord, Documents, RefDbError, WentBackRecord};

    /// Documents of a refdb. While the first look at the failover is on its way back, somebody else acts.
    struct Overtaken(Arc<dyn Documents>, Mutex<Option<BoxFuture<'static, ()>>>);

    #[async_trait]
    impl Documents for Overtaken {
        async fn document(&self, which: Document) -> Result<Option<DocumentRecord>, RefDbError> {
            let found = self.0.document(which).await;
            let meanwhile = if which == Document::Failover { self.1.lock().take() } else { None };
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
            found
        }

        async fn put_document(&self, which: Document, record: &DocumentRecord) -> Result<DocumentRecord, RefDbError> {
            self.0.put_document(which, record).await
        }

        async fn went_back(&self) -> Result<Option<WentBackRecord>, RefDbError> {
            self.0.went_back().await
        }

        async fn declare_went_back(&self, record: &WentBackRecord) -> Result<WentBackRecord, RefDbError> {
            self.0.declare_went_back(record).await
        }
    }

    fn act(act: FailoverAct) -> ActRequest {
        let step = (act == FailoverAct::Resume).then_some(FailoverStep::Stop);
        ActRequest { act, number: 1, step, reason: "test".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_approval_has_no_effect_on_a_pause_that_it_has_not_seen() {
        let (context, disk) = (context(), Arc::new(Disk::default()));
        let mut waiting = failover(FailoverKind::Planned, FailoverStep::Stop);
        waiting.steps.iter_mut().filter(|one| one.step == FailoverStep::Stop).for_each(|one| one.began_ms = None);
        (waiting.paused, waiting.pause_before) = (true, vec![FailoverStep::Stop]);
        assert!(record::replace(&context.refdb.for_failover(), 0, &waiting).await.unwrap());

        let (operators, _) = desk(&context, "b", &disk);
        let pause = async move { operators.act("alice", act(FailoverAct::Pause)).await.map(drop).unwrap() };
        let documents = Overtaken(Arc::clone(&context.refdb.documents), Mutex::new(Some(pause.boxed())));
        let refdb = RefDb { documents: Arc::new(documents), ..context.refdb.clone() };
        let (approvers, _) = desk(&NodeContext { refdb, ..context.clone() }, "a", &disk);
        let refusal = approvers.approve("bob", act(FailoverAct::Resume)).await.unwrap_err();
        assert!(refusal.message.starts_with("somebody else has changed the failover meanwhile"), "{refusal:?}");
        let refusal = approvers.approve("bob", act(FailoverAct::Resume)).await.unwrap_err();
        assert!(refusal.message.contains("no pause of an operator"), "{refusal:?}");
        let now = approvers.stored().await.unwrap().unwrap().failover;
        assert!(now.paused && now.pause_before == [FailoverStep::Stop], "the pause of the operator stands: {now:?}");

        approvers.act("alice", act(FailoverAct::Resume)).await.unwrap();
        assert!(!approvers.stored().await.unwrap().unwrap().failover.paused);
    }
}
