//! The plan of a failover.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FailoverKind, FailoverStep, SiteStatus};
use crate::name::SiteId;

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
    /// The most committed transactions of the source that the target may lack when it is promoted. With more, or if
    /// their number is not known, the failover holds before its promotion. None: it goes on, because nothing that it
    /// lacks is lost. See [`AtRisk`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_loss: Option<u64>,
    /// The steps that are left out, of [`FailoverStep::OPTIONAL`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<FailoverStep>,
}

impl PlanRequest {
    /// A failover with all steps and without a bound on what the target may lack.
    #[must_use]
    pub fn new(kind: FailoverKind, from: SiteId, to: SiteId) -> Self {
        Self { kind, from, to, max_loss: None, without: Vec::new() }
    }

    /// The steps of the failover, in their order.
    #[must_use]
    pub fn steps(&self) -> Vec<FailoverStep> {
        let is_taken = |step: &FailoverStep| match step {
            FailoverStep::Verify => self.kind == FailoverKind::Planned && !self.without.contains(step),
            FailoverStep::CheckLoss => self.max_loss.is_some(),
            FailoverStep::Probe => !self.without.contains(step),
            _ => true,
        };
        FailoverStep::ALL.into_iter().filter(is_taken).collect()
    }
}

/// The most refs that [`AtRisk`] names. All are counted.
pub const MOST_AT_RISK: usize = 20;

/// The committed transactions of the source that no living node of the target has durably applied, or that all of them
/// hold as quarantined. They are in the refdb: they are lost only if the refdb is lost for good too. Commits that the
/// source makes above its settled marks are not counted until the source has settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AtRisk {
    /// The number of these transactions. None if it is not known.
    #[serde(default)]
    pub transactions: Option<u64>,
    /// Why it is not known, for people: each node of the target reconciles, is expelled or owes a project, or the
    /// journal did not answer in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// Whether there may be fewer: not every slot was read, and a slot may be poisoned.
    #[serde(default)]
    pub at_most: bool,
    /// The number of refs that the transactions move which were read, without those of long forms.
    #[serde(default)]
    pub ref_count: u64,
    /// The first of these refs, at most [`MOST_AT_RISK`].
    #[serde(default)]
    pub refs: Vec<RefAtRisk>,
}

/// A ref that a transaction moves which the target lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct RefAtRisk {
    /// The project, with its incarnation.
    pub project: String,
    /// The ref, `@HEAD`, `@state`, or `(many refs)` for a transaction whose commands are in the blob store.
    pub name: String,
}

/// The plan of a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailoverPlan {
    /// Whether the source takes part.
    pub kind: FailoverKind,
    /// The site that loses the writes.
    #[schema(value_type = String)]
    pub from: SiteId,
    /// The site that gets the writes.
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
    /// The consequence of the loss of the refdb's own Region, for people.
    #[serde(default)]
    pub exposure: String,
    /// The settled slots of the source that the best node of the target has not durably applied. They are in the
    /// refdb, so none of them is lost.
    pub behind: u64,
    /// The transactions that the target lacks now, and the refs that they move.
    #[serde(default)]
    pub at_risk: AtRisk,
    /// The estimated time. None if nothing was measured yet. It does not belong to the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
    /// The data outside of refs, each with its fate.
    #[serde(default)]
    pub outside_refs: Vec<OutsideRefs>,
    /// Names source, target, kind, roles, epochs, steps and blockers, but no counts. `execute` demands it.
    pub hash: String,
}

/// The estimated time of a failover: of each step the median of those that were measured, and the time in which the
/// target applies the slots that it is behind by now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// From the begin of `stop` until the nodes of the target take writes, in milliseconds.
    pub writes_ms: u64,
    /// All steps, in milliseconds.
    pub all_ms: u64,
    /// The number of completed failovers of this kind that were measured.
    pub failovers: u64,
    /// The number of green drills of this kind that were measured. They count only if there is no such failover.
    #[serde(default)]
    pub drills: u64,
    /// The slots of the source that the node of the target which is behind most has not durably applied.
    #[serde(default)]
    pub behind: u64,
    /// The time for these slots at the measured rate of the target, in milliseconds. It is a part of both times. None
    /// if no rate is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_ms: Option<u64>,
    /// The steps of the plan that were never measured: they count as nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmeasured: Vec<FailoverStep>,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedStep {
    /// The step of the failover.
    pub step: FailoverStep,
    /// Its effect here, for people.
    pub text: String,
}

/// The request that executes a plan.
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

/// Data of a Gerrit site that is in no ref, and so is not moved by a failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutsideRefs {
    /// The name of the data, for people.
    pub name: String,
    /// Whether it is shared by the deployment, carried by Lockstep, or lost.
    pub fate: String,
    /// The consequence for users, or the remedy.
    pub note: String,
}

/// The data that is in no ref: name, fate, note. `docs/failover.md` has the same table; a test compares them.
pub const OUTSIDE_REFS: [[&str; 3]; 9] = [
    ["SSH host keys", "shared by deployment", "give every site the same keys, or clients refuse the target"],
    ["server id", "carried", "the handshake refuses a Gerrit with another one"],
    ["token and mail secrets, signed-push seed", "shared by deployment", "the same `secure.config` at every site"],
    ["web sessions", "lost", "users sign in again at the target"],
    ["reviewed flags", "lost", "files show as not reviewed, unless both sites share their database"],
    ["`description` files", "lost", "they are files beside the refs; a project's description in Gerrit is in a ref"],
    ["LFS objects", "shared by deployment", "both sites need one LFS store"],
    ["plugin data", "shared by deployment", "data that a plugin keeps in refs is carried; its files are not"],
    ["index and caches", "carried", "each site refreshes its own while it applies"],
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps and fields of the first release that had failovers. Its nodes refuse other steps, and requests with
    /// other fields.
    #[test]
    fn a_request_without_the_new_steps_and_guards_is_one_of_the_first_release() {
        let (from, to): (SiteId, SiteId) = ("a".parse().expect("a site"), "b".parse().expect("a site"));
        for kind in [FailoverKind::Planned, FailoverKind::Forced] {
            let plain = PlanRequest::new(kind, from.clone(), to.clone());
            let json = serde_json::to_value(&plain).expect("JSON");
            let fields: Vec<&String> = json.as_object().expect("an object").keys().collect();
            assert_eq!(fields, ["from", "kind", "to"]);
            let without = PlanRequest { without: FailoverStep::OPTIONAL.to_vec(), ..plain };
            let names: Vec<&str> = without.steps().into_iter().map(FailoverStep::name).collect();
            assert_eq!(names, ["stop", "settle", "catch_up", "promote", "serve", "stand_by"]);
        }
    }
}
