//! Bodies of the verification API (JSON): the refs of a node's disk and version map are compared with the refdb.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::ProjectName;

/// The share of a partition's read units that a verification takes by default, in percent.
pub const DEFAULT_SHARE: u32 = 20;
/// The most mismatches, and the most projects that could not be compared, that are listed. All are counted.
pub const MOST_FOUND: usize = 100;

/// Begins a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The project. None: all projects.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub project: Option<ProjectName>,
    /// The share of the read units of a partition of the refdb that it takes at most, in percent: 1 to 100.
    pub share: u32,
}

/// The state of the verification that is in progress, or was the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// The number of verifications since the start of the process.
    pub number: u64,
    /// The request.
    pub request: VerifyRequest,
    /// The cost that it was estimated to have.
    pub estimate: Estimate,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// When it ended. None while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// Projects that were compared.
    pub projects: u64,
    /// Refs that were compared.
    pub refs: u64,
    /// Refs that differed at first, and then not any more, or not in the same way. They were on their way.
    pub on_their_way: u64,
    /// Refs that were equal only after this verification had brought them up to date. Under load, some of them were on
    /// their way.
    #[serde(default)]
    pub repaired: u64,
    /// Refs that differ. It is the length of the complete list.
    pub mismatches: u64,
    /// The first of them, at most [`MOST_FOUND`].
    pub found: Vec<Mismatch>,
    /// Projects that could not be compared. Nothing is known about them.
    pub failures: u64,
    /// The first of them, at most [`MOST_FOUND`].
    pub failed: Vec<NotCompared>,
}

/// The cost of a verification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// The number of projects that this node knows. Those that only the refdb has come on top.
    pub projects: u64,
    /// The number of refs that this node knows in them, deleted ones included.
    pub refs: u64,
    /// Read units of the refdb.
    pub read_units: u64,
    /// The time that it takes to read them at the requested share, in seconds.
    pub seconds: f64,
}

/// A project that could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotCompared {
    /// The project.
    pub project: String,
    /// The reason.
    pub why: String,
}

/// A ref that differs, even after this node has caught up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mismatch {
    /// The project, with its incarnation.
    pub project: String,
    /// The ref, `@HEAD`, or `@state` if this node does not have the project at all.
    pub name: String,
    /// The refdb's version and value. None if the refdb has no such ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refdb: Option<Side>,
    /// The version and value in the version map of this node. None if it knows no such ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<Side>,
    /// The value on the disk of this node. None if the ref is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The side that is right.
    pub right: Right,
    /// Why, for people.
    pub why: String,
}

/// A version and value of a ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Side {
    /// The version.
    pub version: u64,
    /// The value as text; empty if the ref is deleted.
    pub value: String,
    /// The transaction that wrote it.
    pub txn: String,
}

/// The side that is right about a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// The refdb. This node is behind, or its disk is wrong.
    Refdb,
    /// This node: it knows a later version than the refdb, which went back.
    ThisNode,
}

impl Verification {
    /// Whether it has ended, and every ref of what was asked for is equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.ended_ms.is_some() && self.mismatches == 0 && self.failures == 0
    }
}
