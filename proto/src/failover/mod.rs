//! Bodies of the failover API (JSON), and the state of a failover as the refdb keeps it.
//!
//! A failover moves the writes of one site to another. Its state is one JSON document in the refdb, so any node can go
//! on with it.
//!
//! | file | content |
//! |---|---|
//! | `step` | the steps of a failover, and the course of one |
//! | `plan` | the plan of a failover, and what the target lacks |
//! | `notice` | notices to receivers outside of Lockstep |

mod notice;
mod plan;
mod step;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use notice::{HandoverStatus, RoleNotice};
pub use plan::{
    AtRisk, Estimate, ExecuteRequest, FailoverPlan, MOST_AT_RISK, OUTSIDE_REFS, OutsideRefs, PlanRequest, PlannedStep,
    RefAtRisk,
};
pub use step::{FailoverStep, StepRecord, UnknownStep};

use crate::name::{NodeId, SiteId};
use crate::site_list::{Bootstrap, SiteMode};

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
    /// All roles, as lists and metrics show them.
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

impl FailoverKind {
    /// The name of the kind, as plans, reports and the command line write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Forced => "forced",
        }
    }
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

/// A failover: the request, and its progress.
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
    /// Whether the target was active before the failover. Then nothing is promoted, and there is no way back but the
    /// source's own role.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_was_active: bool,
    /// The authenticated identity of the operator.
    pub actor: String,
    /// The operator's reason, for the audit trail.
    pub reason: String,
    /// When it was requested, in milliseconds since 1970, by the clock of the node that took the request.
    pub requested_ms: u64,
    /// The steps, in their order.
    pub steps: Vec<StepRecord>,
    /// The steps that wait for a `resume`.
    #[serde(default)]
    pub pause_before: Vec<FailoverStep>,
    /// Whether an operator has paused it, or it has held itself. No step begins meanwhile.
    #[serde(default)]
    pub paused: bool,
    /// Why it has held itself, for people: the choice is to resume or to abort it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The most transactions that the target may lack when it is promoted. None: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_loss: Option<u64>,
    /// The results of the step `verify`, per node of the target.
    #[schema(value_type = BTreeMap<String, VerifiedAt>)]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verified: BTreeMap<NodeId, VerifiedAt>,
    /// The slots of the source that the node of the target which was behind most had still to apply when `settle`
    /// ended. None before, and from earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// The transactions that the target lacked when `catch_up` ended, or when the failover went on after a pause
    /// behind it. None before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacked: Option<AtRisk>,
    /// The last result of the step `probe`, per node of the target.
    #[schema(value_type = BTreeMap<String, ProbedAt>)]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probed: BTreeMap<NodeId, ProbedAt>,
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

/// The result of a verification at one node of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifiedAt {
    /// Projects that were compared.
    pub projects: u64,
    /// Refs that were compared.
    pub refs: u64,
    /// The number of refs that differ.
    pub mismatches: u64,
    /// Projects that could not be compared.
    pub failures: u64,
    /// The first differences and failures, for people. At most three.
    #[serde(default)]
    pub examples: Vec<String>,
}

impl VerifiedAt {
    /// Whether every ref was compared and is equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.mismatches == 0 && self.failures == 0
    }
}

/// The probe of a node's own commit path. All others are of `[probes]`.
pub const COMMIT_PROBE: &str = "commit";
/// The remark about a node without `[probes]`, for people.
pub const COMMIT_PATH_ONLY: &str = "the commit path only; set [probes] to probe push, fetch, REST and SSH";

/// The result of the probes of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProbedAt {
    /// When each probe was green for the first time, in milliseconds since 1970. None while one is red.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green_ms: Option<u64>,
    /// The probes, each with its last result.
    pub probes: Vec<ProbeResult>,
}

/// The last result of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProbeResult {
    /// The probe: [`COMMIT_PROBE`], `push`, `fetch`, `rest`, `session` or `ssh`.
    pub probe: String,
    /// Why it is red, for people. None if it is green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub red: Option<String>,
}

/// The end of a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailoverEnd {
    /// Whether it was done or aborted.
    pub outcome: FailoverOutcome,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// From [`Failover::counted_from_ms`] until the target's nodes took writes, in milliseconds. None if it was
    /// aborted, or if no node of the target took writes in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_ms: Option<u64>,
    /// From the same moment until every probe of the target was green, in milliseconds. None if one stayed red, or if
    /// nothing was probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green_ms: Option<u64>,
    /// Acknowledged transactions that are lost. A failover loses none, because they are in the refdb.
    #[serde(default)]
    pub lost: u64,
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
    /// The operator's reason, for the audit trail.
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

    /// The step before which it waits for an approval that its execution asked for. None if it is not paused, if it
    /// holds itself, or if an operator has paused it: such a pause is ended by an operator.
    #[must_use]
    pub fn waits_for_approval(&self) -> Option<FailoverStep> {
        let step = self.current().filter(|step| step.began_ms.is_none())?.step;
        let mut acts = self.audit.iter().rev().map(|entry| entry.act.as_str());
        let is_paused_by_operator = acts.find(|act| ["pause", "resume"].contains(act)) == Some("pause");
        let waits = self.is_in_progress() && self.paused && self.held.is_none() && !self.aborting;
        (waits && !is_paused_by_operator && self.pause_before.contains(&step)).then_some(step)
    }

    /// The moment from which the recovery time counts, in milliseconds since 1970: the begin of `stop` if the failover
    /// has the step `verify`, because the source takes writes until then, and an operator may decide. Otherwise the
    /// request.
    #[must_use]
    pub fn counted_from_ms(&self) -> u64 {
        let stop = self.steps.iter().find(|step| step.step == FailoverStep::Stop);
        let stop = stop.filter(|_| self.has(FailoverStep::Verify));
        stop.and_then(|step| step.began_ms).unwrap_or(self.requested_ms)
    }

    /// Whether a step is one of this failover.
    #[must_use]
    pub fn has(&self, step: FailoverStep) -> bool {
        self.steps.iter().any(|one| one.step == step)
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
    /// Whether Lockstep is switched off at the site. Earlier releases see a fenced site.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
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
    /// Whether the node was removed, or expelled after a long absence: nothing waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expelled: bool,
    /// Whether the node has an open incarnation, so that it takes writes.
    pub takes_writes: bool,
    /// The settled slots of other sites that this node has not durably applied.
    pub behind: u64,
    /// How far the node is with taking everything from the refdb and from peers. None if it has that behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
}

/// All sites, and the failover that is in progress or was the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SitesStatus {
    /// The sites of the list that a node has started for, or that were added, by name.
    pub sites: Vec<SiteStatus>,
    /// The sites that were removed from the list, by name.
    #[schema(value_type = Vec<String>)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<SiteId>,
    /// The failover that is in progress, or else the last one. None if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
    /// Why the failover that is in progress does not move on at the moment, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The work that goes on beside the last failover. None unless it is done and its target is still active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_up: Option<FollowUp>,
}

/// The work at the target that is no step of a failover and goes on beside it, by the digests of its living nodes: the
/// refreshes of its Gerrits, and the notices to receivers outside of Lockstep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FollowUp {
    /// The subjects that the Gerrits of these nodes must still look at. None if no Gerrit is refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshes: Option<u64>,
    /// The receivers of these nodes.
    #[serde(default)]
    pub receivers: u64,
    /// The receivers that have taken the newest notice.
    #[serde(default)]
    pub told: u64,
    /// The living nodes that have left no digest since they took writes: nothing is counted at them.
    #[schema(value_type = Vec<String>)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<NodeId>,
}

impl FollowUp {
    /// Whether it is known that no Gerrit of the target has to look at anything.
    #[must_use]
    pub fn is_refreshed(&self) -> bool {
        self.unknown.is_empty() && self.refreshes.unwrap_or(0) == 0
    }
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
    /// The act: pause, resume or abort.
    pub act: FailoverAct,
    /// The number of the failover, so that a late call does not meet another one.
    pub number: u64,
    /// With `resume`: the step before which the caller has seen it paused, so that a late or repeated call does not
    /// meet another pause. A failover that holds itself is resumed only with it. None resumes any pause of an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<FailoverStep>,
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

/// Switches Lockstep off at a site, or on again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModeRequest {
    /// The mode that the site gets.
    pub mode: SiteMode,
    /// The role of the site that is switched on: active or standby. It may be left out while no other site is active,
    /// and is active then. A site that is switched off is fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The epoch that the operator has seen. With another one, nothing is changed.
    pub expect_epoch: u64,
    /// The operator's reason, for the audit trail.
    pub reason: String,
}
