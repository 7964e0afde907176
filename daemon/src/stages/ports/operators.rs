//! Port: from the API to failover: what operators see of all sites, and what they ask for.

use async_trait::async_trait;
use lockstep_proto::SiteId;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverPlan, PlanRequest, RoleRequest, SitesStatus,
};

/// Takes the requests of operators. Every change carries the authenticated identity of the operator.
#[async_trait]
pub trait Operators: Send + Sync {
    /// All sites, and the failover that is in progress or was the last one.
    async fn sites(&self) -> Result<SitesStatus, ApiError>;

    /// The plan of a failover. Changes nothing.
    async fn plan(&self, request: &PlanRequest) -> Result<FailoverPlan, ApiError>;

    /// Begins a failover, if its plan still has the hash that the operator has seen, and no blocker.
    async fn execute(&self, actor: &str, request: ExecuteRequest) -> Result<Failover, ApiError>;

    /// Pauses, resumes or aborts the failover that is in progress.
    async fn act(&self, actor: &str, request: ActRequest) -> Result<Failover, ApiError>;

    /// Changes the role of a site to active or standby, while no failover is in progress.
    async fn change_role(&self, actor: &str, site: &SiteId, request: RoleRequest) -> Result<SitesStatus, ApiError>;
}
