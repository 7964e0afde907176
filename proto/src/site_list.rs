//! The list of sites (JSON): sites that join and leave, and the progress of a node that takes everything from the refdb
//! and from peers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The place of a site's stream, for nodes whose configuration does not name the site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamPlace {
    /// The Region of the stream. Without one, each node looks in its usual Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The endpoint, if it is not the one of the Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Whether a text can be the name of a Region of AWS. It becomes a part of a host name.
#[must_use]
pub fn is_region(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
}

/// Adds a site to the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddSiteRequest {
    /// The place of its stream.
    #[serde(default)]
    pub stream: StreamPlace,
    /// The operator's reason, for the audit trail.
    pub reason: String,
}

/// Removes a site from the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveSiteRequest {
    /// The epoch that the operator has seen, 0 for a site that no node has started for. With another one, nothing is
    /// changed.
    pub expect_epoch: u64,
    /// The operator's reason, for the audit trail.
    pub reason: String,
}

/// Whether the Gerrits of a site work through Lockstep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SiteMode {
    /// They commit each write in the refdb first.
    Active,
    /// They write to their repositories themselves, and the refdb does not know what they write.
    Off,
}

impl SiteMode {
    /// The name of the mode, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Off => "off",
        }
    }
}

/// The state of a node that comes back from a time in which its site was off. It takes no commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComingBack {
    /// The epoch at which the site was switched off.
    pub left: u64,
    /// The number of projects that were compared so far.
    pub compared: u64,
    /// The number of projects of this node. None until the first comparison has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The projects whose refs on the disk differ from the committed ones: at most [`MOST_DIFFERENT`], by name.
    #[serde(default)]
    pub differ: Vec<DifferentProject>,
    /// The number of further projects that differ.
    #[serde(default)]
    pub more: u64,
}

/// The most projects in [`ComingBack::differ`].
pub const MOST_DIFFERENT: usize = 100;

/// A project whose refs on the disk differ from the committed ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DifferentProject {
    /// The name of the project.
    pub project: String,
    /// The number of its refs that differ. None if they cannot be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refs: Option<u64>,
    /// The name of one of them, or why they cannot be compared.
    pub first: String,
}

impl ComingBack {
    /// Whether every project was compared once.
    #[must_use]
    pub fn has_compared_all(&self) -> bool {
        self.total.is_some_and(|total| self.compared >= total)
    }
}

/// Removes a node that will not come back, such as the last replica of a site that was made smaller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveNodeRequest {
    /// The operator's reason, for the log.
    pub reason: String,
}

/// A change of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListChange {
    /// The site was added, as a standby.
    Added,
    /// The site was removed.
    Removed,
}

/// The parts of the work of a node that takes everything from the refdb and from peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapStage {
    /// Each project comes into being here, with its refs, and with objects from peers.
    Projects,
    /// The refs of each project are compared with the refdb, and those that moved meanwhile follow.
    Refs,
}

/// The progress of such a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bootstrap {
    /// The present part of the work.
    pub stage: BootstrapStage,
    /// The projects that are done in this part.
    pub done: u64,
    /// The number of all projects.
    pub total: u64,
    /// The time that the rest of this part takes at the rate so far, in milliseconds. None if nothing is done yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

impl std::fmt::Display for Bootstrap {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = match self.stage {
            BootstrapStage::Projects => "projects are here",
            BootstrapStage::Refs => "projects are compared",
        };
        write!(out, "{} of {} {of}", self.done, self.total)?;
        match self.left_ms {
            Some(left) if left >= 120_000 => write!(out, ", about {} min left", left / 60_000),
            Some(left) => write!(out, ", about {} s left", left.div_ceil(1_000)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_told_in_seconds_or_minutes() {
        let at = |left_ms| Bootstrap { stage: BootstrapStage::Projects, done: 3, total: 9, left_ms }.to_string();
        assert_eq!(at(None), "3 of 9 projects are here");
        assert_eq!(at(Some(1_200)), "3 of 9 projects are here, about 2 s left");
        assert_eq!(at(Some(600_000)), "3 of 9 projects are here, about 10 min left");
    }
}
