//! Port: from the API to failover: the state of all sites, and the requests of operators.

use async_trait::async_trait;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::drill::{DrillBegun, DrillRequest, Drills, Preflight, PreflightRequest};
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverAct, FailoverPlan, ModeRequest, PlanRequest, RoleRequest, SitesStatus,
};
use lockstep_proto::history::History;
use lockstep_proto::keys::{ChangeKeyRequest, RequireSigningRequest, SigningStatus};
use lockstep_proto::overview::Overview;
use lockstep_proto::silent::{SilentBegun, SilentDrills, SilentRequest};
use lockstep_proto::site_list::{AddSiteRequest, RemoveNodeRequest, RemoveSiteRequest};
use lockstep_proto::{NodeId, SiteId};

/// Checks that a request approves the step for whose approval this failover waits.
///
/// # Errors
/// The request is another act, or names another failover or step, or the failover waits for no approval.
pub fn check_approval(failover: Option<&Failover>, request: &ActRequest) -> Result<(), ApiError> {
    let failover = failover.filter(|failover| failover.number == request.number);
    let approved = request.step.filter(|_| request.act == FailoverAct::Resume);
    if approved.is_some() && approved == failover.and_then(Failover::waits_for_approval) {
        return Ok(());
    }
    let message = "an approver only resumes a failover that is paused before a step of --pause-before, and names that \
                   step: no pause of an operator, and no failover that holds itself; nothing was changed; ask an \
                   operator";
    Err(ApiError::new(RefusalCode::Stale, false, message))
}

/// Takes the requests of operators. Every change carries the authenticated identity of the operator.
#[async_trait]
pub trait Operators: Send + Sync {
    /// All sites, and the failover that is in progress or was the last one.
    async fn sites(&self) -> Result<SitesStatus, ApiError>;

    /// All sites with the digests of their nodes, and the answers that count for a failover.
    async fn overview(&self) -> Result<Overview, ApiError>;

    /// Past failovers and changes of role, newest first, the failover that is in progress included.
    async fn history(&self) -> Result<History, ApiError>;

    /// The plan of a failover. Changes nothing.
    async fn plan(&self, request: &PlanRequest) -> Result<FailoverPlan, ApiError>;

    /// Begins a failover, if its plan still has the hash that the operator has seen, and no blocker.
    async fn execute(&self, actor: &str, request: ExecuteRequest) -> Result<Failover, ApiError>;

    /// Pauses, resumes or aborts the failover that is in progress.
    async fn act(&self, actor: &str, request: ActRequest) -> Result<Failover, ApiError>;

    /// Approves the next step of a failover that is paused before it because its execution asked for an approval
    /// there. Any other act is refused, and any other pause: [`check_approval`] has the rule. The approval has an
    /// effect only on the very record that was checked.
    async fn approve(&self, actor: &str, request: ActRequest) -> Result<Failover, ApiError>;

    /// Adds a site to the list of sites, as a standby, while no failover is in progress.
    async fn add_site(&self, actor: &str, site: &SiteId, request: AddSiteRequest) -> Result<SitesStatus, ApiError>;

    /// Removes a site from the list of sites, for good, while no failover is in progress. An active site is refused.
    async fn remove_site(
        &self,
        actor: &str,
        site: &SiteId,
        request: RemoveSiteRequest,
    ) -> Result<SitesStatus, ApiError>;

    /// Switches Lockstep off at a site, or on again, while no failover is in progress.
    async fn change_mode(&self, actor: &str, site: &SiteId, request: ModeRequest) -> Result<SitesStatus, ApiError>;

    /// Removes a node whose heartbeat stands still, and that can commit nothing any more: nothing waits for it.
    async fn remove_node(
        &self,
        actor: &str,
        node: &NodeId,
        request: RemoveNodeRequest,
    ) -> Result<SitesStatus, ApiError>;

    /// Whether records must be signed, and the keys of the sites.
    async fn signing(&self) -> Result<SigningStatus, ApiError>;

    /// Requires signatures at every site of the list, or no longer requires them, while no failover is in progress.
    async fn require_signing(&self, actor: &str, request: RequireSigningRequest) -> Result<SigningStatus, ApiError>;

    /// Retires a key of a site, or drops one that was retired.
    async fn change_key(&self, actor: &str, request: ChangeKeyRequest) -> Result<SigningStatus, ApiError>;

    /// Whether a failover or a drill to a site could go well now.
    async fn preflight(&self, request: &PreflightRequest) -> Result<Preflight, ApiError>;

    /// The trend of drills, and the one that is in progress.
    async fn drills(&self) -> Result<Drills, ApiError>;

    /// Begins a drill, unless the preflight is red or one is in progress.
    async fn drill(&self, actor: &str, request: DrillRequest) -> Result<DrillBegun, ApiError>;

    /// The trend of silent drills, and the one that is in progress at this node.
    async fn silent_drills(&self) -> Result<SilentDrills, ApiError>;

    /// Begins a silent drill of this node, unless the preflight is red, one is in progress, or no copy can be made.
    async fn silent_drill(&self, actor: &str, request: SilentRequest) -> Result<SilentBegun, ApiError>;

    /// Changes the role of a site to active or standby, while no failover is in progress.
    async fn change_role(&self, actor: &str, site: &SiteId, request: RoleRequest) -> Result<SitesStatus, ApiError>;
}
