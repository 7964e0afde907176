//! The operators' requests about drills, and the preflight.

use std::time::Duration;

use lockstep_proto::NodeId;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::drill::{Check, DrillBegun, DrillReport, DrillRequest, Drills, Preflight};
use lockstep_proto::failover::{Failover, FailoverStep, Role};
use lockstep_proto::{SiteId, history::MOST_REASON_BYTES};
use tokio::time::{Instant, timeout};

use super::desk::OperatorDesk;
use super::drill::BeginError;
use super::overview;
use super::preflight::{Facts, checks, late_probes, probes};
use super::refusals::{given, invalid, refused, unanswered, unread};
use super::view::View;
use crate::seams::refdb::RefDbError;

/// How long a preflight waits for the refdb.
const PREFLIGHT: Duration = Duration::from_secs(8);
/// How long a preflight waits for the probes of its node. Each has a limit of its own, which may be longer.
const PROBES: Duration = Duration::from_secs(10);

impl OperatorDesk {
    /// Looks at everything that a failover to `to` depends on. The probes of this node count only if its site is `to`:
    /// users would be there.
    pub(super) async fn look_before(&self, to: &SiteId) -> Result<Preflight, ApiError> {
        let late = || unread(RefDbError::NotNow(format!("no answer within {} s", PREFLIGHT.as_secs())));
        let (looked, probed) = tokio::join!(timeout(PREFLIGHT, self.looked(to)), self.probed(to));
        let mut preflight = looked.unwrap_or_else(|_| Err(late()))?;
        preflight.checks.extend(probed);
        Ok(preflight)
    }

    /// The check of the probes of this node. None at a node of another site than `to`.
    async fn probed(&self, to: &SiteId) -> Option<Check> {
        if self.silent.site != *to {
            return None;
        }
        match timeout(PROBES, self.tools.probes.look()).await {
            Ok(found) => probes(&self.node, &found),
            Err(_) => Some(late_probes(&self.node, PROBES)),
        }
    }

    async fn looked(&self, to: &SiteId) -> Result<Preflight, ApiError> {
        let began = Instant::now();
        let failover = self.stored().await?.map(|stored| stored.failover).filter(Failover::is_in_progress);
        let view = self.view().await?;
        let digests = self.digests.read(&self.refdb).await.map_err(unread)?;
        let went_back = self.went_back().await?;
        let reads = began.elapsed();
        let sites = overview::sites(&view, &digests, failover.as_ref(), went_back.as_deref());
        let now_ms = self.clock.now_ms();
        let facts = Facts { view: &view, digests: &digests, sites: &sites, reads, now_ms, to };
        let mut all = checks(&facts);
        all.extend(self.tools.local.checks());
        Ok(Preflight { by: self.node.clone(), at_ms: now_ms, checks: all })
    }

    /// Begins a drill, unless the preflight is red.
    ///
    /// # Errors
    /// The request is malformed, the preflight is red, another drill is in progress, or the refdb does not answer.
    pub(super) async fn begin_drill(&self, actor: &str, request: DrillRequest) -> Result<DrillBegun, ApiError> {
        given("reason", &request.reason)?;
        self.check_drill(&request).await?;
        let preflight = self.look_before(&request.to).await?;
        let red = reds(&preflight);
        if !red.is_empty() {
            return Err(refused(&format!("the preflight is red: {red}; see `lockstep preflight`")));
        }
        let takes_writes = self.view().await?.nodes_that_write().contains(&self.node);
        match self.drill.begin(actor, request, takes_writes).await {
            Ok(begun) => Ok(begun),
            Err(error @ BeginError::Running(_)) => Err(refused(&error.to_string())),
            Err(BeginError::RefDb(error)) => Err(unanswered(error)),
        }
    }

    async fn check_drill(&self, request: &DrillRequest) -> Result<(), ApiError> {
        if let Some(step) = request.fail_in.filter(|step| !FailoverStep::OF_DRILLS.contains(step)) {
            let names = FailoverStep::OF_DRILLS.map(FailoverStep::name).join(", ");
            return Err(invalid(&format!("fail_in {} is no step of a drill; the steps are {names}", step.name())));
        }
        if request.from == request.to {
            return Err(invalid(&format!("source and target are both {}; name two sites", request.from)));
        }
        let view = self.view().await?;
        if view.role(&request.from) != Some(Role::Active) {
            let role = view.role(&request.from).map_or("not in the refdb", Role::name);
            return Err(refused(&format!("the source {} is {role}; name an active site", request.from)));
        }
        Ok(())
    }

    /// The sites, and the trend of drills.
    pub(super) async fn drill_state(&self) -> Result<(View, Drills), ApiError> {
        Ok((self.view().await?, self.drill.all().await.map_err(unread)?))
    }

    /// Whether this node begins the drills of a schedule: it is the living node with the lowest name.
    pub(super) fn drives(&self, view: &View) -> bool {
        let first = view.nodes.iter().filter(|node| view.lives(node)).map(|node| &node.node).min();
        first == Some(&self.node)
    }

    /// Notes a drill that was due and was not begun.
    pub(super) async fn note_refused(&self, report: DrillReport) -> Result<(), RefDbError> {
        self.drill.note(report).await
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(super) fn node(&self) -> &NodeId {
        &self.node
    }
}

/// The reasons why a preflight is red, in one text of bounded length. Empty if it is green.
pub(super) fn reds(preflight: &Preflight) -> String {
    let red: Vec<&str> = preflight.checks.iter().flat_map(|check| &check.red).map(String::as_str).collect();
    red.join("; ").chars().take(MOST_REASON_BYTES).collect()
}
