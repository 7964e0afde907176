//! Bodies of the API of silent drills (JSON), and their trend as the refdb keeps it.
//!
//! A silent drill brings a whole standby up on a copy of its volume, with a refdb of its own in memory, and promotes it
//! there. Nobody outside of the node's machine sees anything of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, SiteId};

/// The most silent drills of the trend. Older ones are dropped.
pub const MOST_SILENT: usize = 100;
/// The most bytes of the trend as JSON. The oldest drills are dropped beyond it.
pub const MOST_SILENT_BYTES: usize = 64 * 1024;
/// The most reasons and notes of one report. Further ones are counted.
pub const MOST_LINES: usize = 12;
/// The most characters of one reason or note.
pub const MOST_LINE: usize = 400;

/// Begins a silent drill of the node that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SilentRequest {
    /// The operator's reason, for the audit trail.
    pub reason: String,
}

/// A silent drill that is in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilentBegun {
    /// The id of the drill, unique in this installation.
    pub id: String,
    /// The node whose volume is copied.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// When it began, in milliseconds since 1970.
    pub at_ms: u64,
    /// The present step, for people.
    #[serde(default)]
    pub doing: String,
}

/// A silent drill that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilentReport {
    /// The id of the drill.
    pub id: String,
    /// The site of the node.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The node whose volume was copied.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// When it was requested, in milliseconds since 1970.
    pub at_ms: u64,
    /// The authenticated identity of the operator, or `schedule of` a node.
    pub actor: String,
    /// The operator's reason, for the audit trail.
    pub reason: String,
    /// Why it is red. Empty if it is green.
    #[serde(default)]
    pub red: Vec<String>,
    /// Facts that are no faults, such as a project that was deleted while it was copied.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The measured times, and the numbers of compared refs.
    #[serde(default)]
    pub figures: SilentFigures,
}

/// The figures of a silent drill, as far as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilentFigures {
    /// How the copy was made: `reflink`, `full` or `command`.
    #[serde(default)]
    pub copy: String,
    /// The time that the copy took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_ms: Option<u64>,
    /// The bytes of the files in the copy. None if a command made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// From the copy being made until the promoted copy took writes, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_writes_ms: Option<u64>,
    /// From the copy being made until every probe was green, in milliseconds: the recovery time (RTO).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub green_ms: Option<u64>,
    /// Settled transactions of other sites that the copy lacked when it was made: the recovery point (RPO).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacked: Option<u64>,
    /// The projects whose refs were compared with the version map as of the copy.
    #[serde(default)]
    pub projects: u64,
    /// The refs that were compared.
    #[serde(default)]
    pub refs: u64,
    /// The steps that were completed, each with its duration.
    #[serde(default)]
    pub steps: Vec<SilentStep>,
}

/// A step of a silent drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilentStep {
    /// The name of the step.
    pub step: String,
    /// Its duration in milliseconds.
    pub took_ms: u64,
}

impl SilentReport {
    /// Whether every step succeeded and every ref was as of the copy.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.red.is_empty()
    }

    /// The report with bounded lines, as it is stored.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for lines in [&mut self.red, &mut self.notes] {
            let more = lines.len().saturating_sub(MOST_LINES);
            lines.truncate(MOST_LINES);
            for line in lines.iter_mut() {
                *line = line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MOST_LINE).collect();
            }
            if more > 0 {
                lines.push(format!("{more} more"));
            }
        }
        self
    }
}

/// The trend of silent drills, and the one that is in progress at the node that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilentDrills {
    /// The drill that is in progress at this node. Never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<SilentBegun>,
    /// Past drills of all nodes, newest first, at most [`MOST_SILENT`].
    #[serde(default)]
    pub past: Vec<SilentReport>,
}

impl SilentDrills {
    /// Puts a report in front, and drops the oldest ones beyond the limits. It replaces the report of the same drill.
    pub fn put(&mut self, report: SilentReport) {
        self.past.retain(|one| one.id != report.id);
        self.past.insert(0, report);
        self.past.truncate(MOST_SILENT);
        while self.past.len() > 1 && serde_json::to_string(self).map_or(0, |text| text.len()) > MOST_SILENT_BYTES {
            self.past.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &str, red: &[String]) -> SilentReport {
        SilentReport {
            id: id.to_owned(),
            site: "b".parse().expect("a site"),
            node: "b-0".parse().expect("a node"),
            at_ms: 1,
            actor: "uid 0".to_owned(),
            reason: "r".to_owned(),
            red: red.to_vec(),
            notes: Vec::new(),
            figures: SilentFigures::default(),
        }
    }

    #[test]
    fn the_trend_and_each_report_are_bounded() {
        let mut drills = SilentDrills::default();
        (0..MOST_SILENT + 7).for_each(|id| drills.put(report(&id.to_string(), &[])));
        assert_eq!(drills.past.len(), MOST_SILENT);
        drills.put(report("106", &["again".to_owned()]));
        assert_eq!((drills.past.len(), drills.past[0].red.len()), (MOST_SILENT, 1), "it replaces its own report");
        let long = vec![format!("a\n{}", "x".repeat(2_000)); 40];
        (0..40).for_each(|id| drills.put(report(&format!("long {id}"), &long).bounded()));
        let first = &drills.past[0];
        assert_eq!((first.red.len(), first.red[0].len()), (MOST_LINES + 1, MOST_LINE));
        assert!(!first.red[0].contains('\n'));
        assert!(serde_json::to_string(&drills).expect("JSON").len() <= MOST_SILENT_BYTES);
    }

    #[test]
    fn a_report_of_a_later_release_can_be_read() {
        let text = r#"{"id": "x", "site": "b", "node": "b-0", "at_ms": 1, "actor": "uid 0", "reason": "r", "new": 1,
            "figures": {"copy": "clone", "other": {}}}"#;
        let read: SilentReport = serde_json::from_str(text).expect("a report");
        assert!(read.is_green() && read.figures.copy == "clone");
    }
}
