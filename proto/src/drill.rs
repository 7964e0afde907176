//! Bodies of the drill API (JSON), and the trend of drills as the refdb keeps it.
//!
//! A drill takes the steps of a failover on a canary: two sites, their incarnations and their slots that exist in one
//! document of the refdb alone. No role of a real site changes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::failover::{FailoverKind, FailoverStep};
use crate::name::{NodeId, SiteId};

/// The most drills of the trend. Older ones are dropped.
pub const MOST_DRILLS: usize = 100;
/// The most bytes of the trend as JSON. The oldest drills are dropped beyond it.
pub const MOST_DRILL_BYTES: usize = 48 * 1024;

/// The request that begins a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrillRequest {
    /// Planned: the canary of the source ends its commits. Forced: it goes on and must be fenced.
    pub kind: FailoverKind,
    /// The site whose canary takes writes first.
    #[schema(value_type = String)]
    pub from: SiteId,
    /// The site whose canary takes writes afterwards.
    #[schema(value_type = String)]
    pub to: SiteId,
    /// The step that is made to fail, so that the drill must turn red. None: no failure is injected. Earlier builds
    /// called the field `plant`.
    #[serde(default, alias = "plant", skip_serializing_if = "Option::is_none")]
    pub fail_in: Option<FailoverStep>,
    /// The operator's reason, for the audit trail.
    pub reason: String,
}

/// A drill that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrillReport {
    /// The number of the drill in this installation, from 1. Zero: it was due, and was not begun.
    pub number: u64,
    /// When it was requested, in milliseconds since 1970.
    pub at_ms: u64,
    /// The node that drove it.
    #[schema(value_type = String)]
    pub by: NodeId,
    /// The authenticated identity of the operator, or `schedule of` a node.
    pub actor: String,
    /// The request that began the drill.
    pub request: DrillRequest,
    /// Why it is red. Empty if it is green.
    #[serde(default)]
    pub red: Vec<String>,
    /// From the begin of `stop`, or in a forced drill from the request, until the target's canary took writes, in
    /// milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_writes_ms: Option<u64>,
    /// From the same moment until every probe was green, in milliseconds: the recovery time (RTO).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green_ms: Option<u64>,
    /// Commits of the source's canary that were acknowledged and that the target's canary lacks: the loss (RPO).
    #[serde(default)]
    pub lost: u64,
    /// Commits of the source's canary that were acknowledged.
    #[serde(default)]
    pub commits: u64,
    /// The steps that were completed, each with its duration in milliseconds.
    #[serde(default)]
    pub steps: Vec<DrillStep>,
}

impl DrillReport {
    /// Whether every step succeeded and nothing was lost.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.red.is_empty()
    }
}

/// A step of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrillStep {
    /// The step of a failover that was drilled.
    pub step: FailoverStep,
    /// Its duration in milliseconds.
    pub took_ms: u64,
}

/// A drill that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrillBegun {
    /// The number of the drill.
    pub number: u64,
    /// The node that drives it.
    #[schema(value_type = String)]
    pub by: NodeId,
    /// When the node has last written its state, in milliseconds since 1970. A drill whose node was killed stands
    /// still, and the next one replaces it.
    pub at_ms: u64,
}

/// The trend of drills, and the one that is in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drills {
    /// The drill that is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<DrillBegun>,
    /// Past drills, newest first, at most [`MOST_DRILLS`].
    #[serde(default)]
    pub past: Vec<DrillReport>,
}

impl Drills {
    /// Puts a report in front, and drops the oldest ones beyond the limits. It replaces the report of the same drill.
    pub fn put(&mut self, report: DrillReport) {
        self.past.retain(|one| one.number != report.number || report.number == 0);
        self.past.insert(0, report);
        self.past.truncate(MOST_DRILLS);
        while self.past.len() > 1 && serde_json::to_string(self).map_or(0, |text| text.len()) > MOST_DRILL_BYTES {
            self.past.pop();
        }
    }
}

/// The result of a preflight: whether a failover or a drill could go well now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preflight {
    /// The node that looked.
    #[schema(value_type = String)]
    pub by: NodeId,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The checks, each with its verdict.
    pub checks: Vec<Check>,
}

impl Preflight {
    /// Whether every check is green.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.checks.iter().all(|check| check.red.is_empty())
    }
}

/// One check of a preflight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// The check: `refdb`, `clocks`, `streams`, `target`, `hooks`, `disk`, `tls` or `probes`.
    pub check: String,
    /// The faults, each with its remedy. Empty if it is green.
    #[serde(default)]
    pub red: Vec<String>,
    /// The thing that was looked at.
    pub note: String,
}

/// Asks for a preflight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreflightRequest {
    /// The site that would take the writes over.
    #[schema(value_type = String)]
    pub to: SiteId,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: u64, reason: &str) -> DrillReport {
        let (from, to) = ("a".parse().expect("a site"), "b".parse().expect("a site"));
        DrillReport {
            number,
            at_ms: number,
            by: "b-0".parse().expect("a node"),
            actor: "uid 0".to_owned(),
            request: DrillRequest { kind: FailoverKind::Planned, from, to, fail_in: None, reason: reason.to_owned() },
            red: Vec::new(),
            took_writes_ms: Some(1),
            green_ms: Some(2),
            lost: 0,
            commits: 1,
            steps: Vec::new(),
        }
    }

    #[test]
    fn a_drill_of_an_earlier_build_keeps_the_step_that_was_made_to_fail() {
        let earlier = r#"{"kind": "forced", "from": "a", "to": "b", "plant": "settle", "reason": "r"}"#;
        let read: DrillRequest = serde_json::from_str(earlier).expect("JSON");
        assert_eq!(read.fail_in, Some(FailoverStep::Settle));
        assert!(serde_json::to_string(&read).expect("JSON").contains(r#""fail_in":"settle""#));
    }

    #[test]
    fn the_trend_is_bounded_in_number_and_bytes() {
        let mut drills = Drills::default();
        (1..=MOST_DRILLS as u64 + 7).for_each(|number| drills.put(report(number, "short")));
        assert_eq!((drills.past.len(), drills.past[0].number), (MOST_DRILLS, MOST_DRILLS as u64 + 7));
        (0..50).for_each(|number| drills.put(report(1_000 + number, &"x".repeat(10_000))));
        assert_eq!(drills.past[0].number, 1_049);
        assert!(serde_json::to_string(&drills).expect("JSON").len() <= MOST_DRILL_BYTES);
    }
}
