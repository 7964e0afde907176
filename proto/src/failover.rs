//! Bodies of the failover API (JSON), and the state of a failover as the refdb keeps it.
//!
//! A failover moves the writes of one site to another. Its state is one JSON document in the refdb, so any node can go
//! on with it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, SiteId};

/// The role of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The site commits and applies.
    Active,
    /// The site applies only. It serves reads, and refuses writes.
    Standby,
    /// The site ends the commits that it has begun, and takes no others.
    Draining,
    /// The site was excluded from commits, and becomes a standby only by a command.
    Fenced,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Active, Self::Standby, Self::Draining, Self::Fenced];

    /// The name of the role, as the refdb, the status and the command line write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Draining => "draining",
            Self::Fenced => "fenced",
        }
    }
}

/// Whether the source of a failover takes part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailoverKind {
    /// The source is up: it ends its commits in order.
    Planned,
    /// The source is gone, or does not answer: it is fenced.
    Forced,
}

/// A step of a failover, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailoverStep {
    /// The source's role becomes draining (planned) or fenced (forced), and its epoch is raised.
    Stop,
    /// Every incarnation of the source is frozen and poisoned. After that, nothing can be committed there.
    Settle,
    /// The nodes of the target apply every transaction of the source.
    CatchUp,
    /// The target's role becomes active.
    Promote,
    /// The nodes of the target open incarnations. After that, they take writes.
    Serve,
    /// The source's role becomes standby (planned). A fenced source stays fenced.
    StandBy,
}

impl FailoverStep {
    /// All steps, in their order.
    pub const ALL: [Self; 6] = [Self::Stop, Self::Settle, Self::CatchUp, Self::Promote, Self::Serve, Self::StandBy];

    /// The name of the step, as the command line and the JSON bodies write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Settle => "settle",
            Self::CatchUp => "catch_up",
            Self::Promote => "promote",
            Self::Serve => "serve",
            Self::StandBy => "stand_by",
        }
    }
}

impl std::str::FromStr for FailoverStep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|step| step.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is not a step of a failover; the steps are {names}")
        })
    }
}

/// The course of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepRecord {
    /// The step.
    pub step: FailoverStep,
    /// When a node began it, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_ms: Option<u64>,
    /// When a node found it complete, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// The node that found it complete.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<NodeId>,
    /// The result of the step, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// How a failover ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailoverOutcome {
    /// The target takes writes.
    Done,
    /// An operator ended it before the promotion. The source is active again.
    Aborted,
}

/// A failover: what was asked for, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failover {
    /// The number of the failover in this installation, from 1.
    pub number: u64,
    /// Whether the source takes part.
    pub kind: FailoverKind,
    /// The source: the site that stops taking writes.
    #[schema(value_type = String)]
    pub from: SiteId,
    /// The target: the site that takes writes afterwards.
    #[schema(value_type = String)]
    pub to: SiteId,
    /// The epoch of the source before the failover. A change of its role starts from this epoch or a next one, so a
    /// late copy of the change has no effect.
    pub from_epoch: u64,
    /// The epoch of the target before the failover.
    pub to_epoch: u64,
    /// The authenticated identity of the operator.
    pub actor: String,
    /// The operator's reason.
    pub reason: String,
    /// When it was requested, in milliseconds since 1970, by the clock of the node that took the request.
    pub requested_ms: u64,
    /// The steps, in their order.
    pub steps: Vec<StepRecord>,
    /// The steps that wait for a `resume`.
    #[serde(default)]
    pub pause_before: Vec<FailoverStep>,
    /// Whether an operator has paused it. No step begins meanwhile.
    #[serde(default)]
    pub paused: bool,
    /// Whether an operator has asked to abort it.
    #[serde(default)]
    pub aborting: bool,
    /// Whether no node of the target took writes in time after the promotion.
    #[serde(default)]
    pub unserved: bool,
    /// The end. None while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<FailoverEnd>,
    /// The acts of operators, oldest first.
    #[serde(default)]
    pub audit: Vec<AuditEntry>,
}

/// The end of a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailoverEnd {
    /// How it ended.
    pub outcome: FailoverOutcome,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// From the request until the target's nodes took writes, in milliseconds. None if it was aborted, or if no node of
    /// the target took writes in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_ms: Option<u64>,
}

/// One act of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The authenticated identity of the operator.
    pub actor: String,
    /// The act: `execute`, `pause`, `resume`, `abort`.
    pub act: String,
    /// The operator's reason.
    pub reason: String,
}

impl Failover {
    /// Whether it has not ended.
    #[must_use]
    pub fn is_in_progress(&self) -> bool {
        self.end.is_none()
    }

    /// The first step that is not complete. None when all are.
    #[must_use]
    pub fn current(&self) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.ended_ms.is_none())
    }

    /// Whether a step has begun. Once the promotion has begun, the failover cannot be aborted.
    #[must_use]
    pub fn has_begun(&self, step: FailoverStep) -> bool {
        self.steps.iter().any(|one| one.step == step && one.began_ms.is_some())
    }
}

/// The state of a site, as the refdb knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteStatus {
    /// The name of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The role of the site.
    pub role: Role,
    /// The epoch of the site: each change of role raises it by one.
    pub epoch: u64,
    /// The nodes of the site.
    pub nodes: Vec<SiteNode>,
    /// The committed slots of this site that the event log does not have yet. Other sites can read them in the refdb.
    pub unpublished: u64,
}

/// A node of a site, as the refdb knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteNode {
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Whether the node that answers has seen its heartbeat move within the lease.
    pub lives: bool,
    /// Whether the node has an open incarnation, so that it takes writes.
    pub takes_writes: bool,
    /// The settled slots of other sites that this node has not durably applied.
    pub behind: u64,
}

/// All sites, and the failover that is in progress or was the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SitesStatus {
    /// The sites, by name.
    pub sites: Vec<SiteStatus>,
    /// The failover that is in progress, or else the last one. None if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
    /// Why the failover that is in progress does not move on at the moment, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

/// Asks for the plan of a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Whether the source takes part.
    pub kind: FailoverKind,
    /// The site that stops taking writes.
    #[schema(value_type = String)]
    pub from: SiteId,
    /// The site that takes writes afterwards.
    #[schema(value_type = String)]
    pub to: SiteId,
}

/// The plan of a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailoverPlan {
    /// Whether the source takes part.
    pub kind: FailoverKind,
    /// The source.
    #[schema(value_type = String)]
    pub from: SiteId,
    /// The target.
    #[schema(value_type = String)]
    pub to: SiteId,
    /// The role and epoch of every site, at the time of the plan.
    pub sites: Vec<SiteStatus>,
    /// The steps, each with its effect here.
    pub steps: Vec<PlannedStep>,
    /// The reasons why it cannot be executed.
    pub blockers: Vec<String>,
    /// Facts that an operator should know before it is executed.
    pub warnings: Vec<String>,
    /// The settled slots of the source that the best node of the target has not durably applied. They are in the
    /// refdb, so none of them is lost.
    pub behind: u64,
    /// Names source, target, kind, roles, epochs, steps and blockers, but no counts. `execute` demands it.
    pub hash: String,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStep {
    /// The step.
    pub step: FailoverStep,
    /// Its effect here, for people.
    pub text: String,
}

/// Executes a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecuteRequest {
    /// The plan's source, target and kind.
    pub plan: PlanRequest,
    /// The hash of the plan that the operator has seen.
    pub plan_hash: String,
    /// The operator's reason, for the audit trail.
    pub reason: String,
    /// The steps that wait for a `resume` before they begin.
    #[serde(default)]
    pub pause_before: Vec<FailoverStep>,
}

/// An act on the failover that is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailoverAct {
    /// No further step begins.
    Pause,
    /// The steps go on.
    Resume,
    /// The source becomes active again. Possible before the promotion.
    Abort,
}

/// Acts on the failover that is in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// The act.
    pub act: FailoverAct,
    /// The number of the failover, so that a late call does not meet another one.
    pub number: u64,
    /// The operator's reason, for the audit trail.
    pub reason: String,
}

/// Changes the role of one site, outside of a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRequest {
    /// The new role: active or standby.
    pub role: Role,
    /// The epoch that the operator has seen. With another one, nothing is changed.
    pub expect_epoch: u64,
    /// The operator's reason, for the audit trail.
    pub reason: String,
}
