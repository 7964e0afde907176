//! Bodies of the doctor (JSON): the checks of a node, their findings, and the settings that all nodes should share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, SiteId};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something to know, such as a known trap of this release of Gerrit. Nothing is out of order.
    Note,
    /// Something works now, and will fail or mislead sooner or later.
    Warning,
    /// Something fails at present.
    Error,
}

impl Severity {
    /// All severities, the mildest first.
    pub const ALL: [Self; 3] = [Self::Note, Self::Warning, Self::Error];

    /// The name of the severity, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A finding of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The thing that it is about: a setting, a path, a host, a node.
    pub subject: String,
    /// The fact that was found.
    pub text: String,
    /// The next step of the operator.
    pub remedy: String,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckResult {
    /// The name of the check.
    pub check: String,
    /// The facts that it looks at.
    pub looks_at: String,
    /// The findings. Empty if everything is in order, or if nothing could be seen.
    pub findings: Vec<Finding>,
    /// Why it could not look, or not at everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_seen: Option<String>,
}

/// The Gerrit that made the last handshake with this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GerritSeen {
    /// The version of Gerrit.
    pub version: String,
    /// The version of the bridge in it.
    pub bridge: String,
    /// `gerrit.instanceId` of this Gerrit.
    pub instance_id: String,
    /// When it was accepted, in milliseconds since 1970.
    pub at_ms: u64,
}

/// All checks of a node, as they are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diagnosis {
    /// The site of the node.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The node that looked.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The version of the program that looked.
    pub program: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// A hash of the configuration that is in use. Only two programs of the same version can compare it.
    pub configuration: String,
    /// The Gerrit of this node. None if none has made its handshake since the sidecar's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gerrit: Option<GerritSeen>,
    /// The checks, in the order in which they are shown.
    pub checks: Vec<CheckResult>,
}

impl Diagnosis {
    /// Whether a finding is more than a note.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.checks.iter().flat_map(|check| &check.findings).any(|finding| finding.severity > Severity::Note)
    }
}

/// The settings that all nodes should share, as one node has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedSettings {
    /// The name of each setting with its value as text. Values have no credentials.
    pub settings: BTreeMap<String, String>,
}

impl SharedSettings {
    /// The settings in which another node differs: the name, the value here, and the value there. A setting that only
    /// one of both knows is left out: the other one runs another release.
    #[must_use]
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<(&'a str, &'a str, &'a str)> {
        let both = self.settings.iter().filter_map(|(name, here)| Some((name, here, other.settings.get(name)?)));
        both.filter(|(_, here, there)| here != there)
            .map(|(name, here, there)| (name.as_str(), here.as_str(), there.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(settings: &[(&str, &str)]) -> SharedSettings {
        SharedSettings {
            settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn only_settings_that_both_know_can_differ() {
        let (here, there) = (shared(&[("a", "1"), ("b", "2")]), shared(&[("a", "1"), ("b", "3"), ("c", "4")]));
        assert_eq!(here.differences(&there), [("b", "2", "3")]);
        assert_eq!(there.differences(&here), [("b", "3", "2")]);
        assert_eq!(here.differences(&SharedSettings::default()), []);
    }

    #[test]
    fn a_note_leaves_a_diagnosis_in_order() {
        let diagnosis = |severity: &str| -> Diagnosis {
            let finding = format!(r#"{{"severity": "{severity}", "subject": "s", "text": "t", "remedy": "r"}}"#);
            let check = format!(r#"{{"check": "c", "looks_at": "l", "findings": [{finding}]}}"#);
            let text = format!(
                r#"{{"site": "a", "node": "a-0", "program": "1", "at_ms": 1, "configuration": "x",
                    "checks": [{check}]}}"#
            );
            serde_json::from_str(&text).expect("a diagnosis")
        };
        let degraded = Severity::ALL.map(|severity| diagnosis(severity.name()).is_degraded());
        assert_eq!(degraded, [false, true, true]);
    }
}
