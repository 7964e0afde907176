//! Bodies of the verification API (JSON): the refs of a node's disk and version map are compared with the refdb, or
//! with those of peers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::ProjectName;

/// The share of a partition's read units that a verification takes, in percent, if a node's configuration has none.
pub const DEFAULT_SHARE: u32 = 20;
/// The most mismatches, and the most projects that could not be compared, that are listed. All are counted.
pub const MOST_FOUND: usize = 100;
/// The value of [`VerifyRequest::against`] that stands for every peer.
pub const ALL_PEERS: &str = "all";
/// The most comparisons with different peers whose last result is kept.
pub const MOST_KEPT: usize = 32;

/// The request that begins a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The project. None: all projects.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub project: Option<ProjectName>,
    /// The share of the read units of a partition of the refdb that it takes at most, in percent: 1 to 100. None: as
    /// the node is configured (`refdb.verify_share`). The request in an answer has the share that is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u32>,
    /// The site, or the peer of `[peers]`, to compare with; [`ALL_PEERS`] for every peer. None: the refdb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// Whether only the version maps of the two nodes are compared, and not their disks. Only for a comparison with
    /// peers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maps_only: bool,
}

impl VerifyRequest {
    /// A comparison with the refdb. `project` is none for all projects, and `share` is in percent.
    #[must_use]
    pub fn of_refdb(project: Option<ProjectName>, share: u32) -> Self {
        Self { project, share: Some(share), against: None, maps_only: false }
    }
}

/// The state of the verification that is in progress, or was the last one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// The number of verifications of the node. Each has its own number.
    pub number: u64,
    /// The request that began it.
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
    /// The peers that were compared to their end. Empty for a comparison with the refdb.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerCompared>,
}

/// A peer whose projects were compared with those of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerCompared {
    /// The name of the peer in `[peers]`.
    pub peer: String,
    /// The site of its node.
    pub site: String,
    /// The name of its node.
    pub node: String,
    /// Projects that exist at one of the two nodes.
    pub projects: u64,
    /// Projects whose digests were equal, so that no ref of them was read.
    pub by_digest: u64,
    /// The number of refs that differ.
    pub mismatches: u64,
    /// Projects that could not be compared.
    pub failures: u64,
}

/// The last verification of one kind that has ended. It outlives a restart of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastVerified {
    /// The other side: `refdb`, or the name of a peer.
    pub against: String,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// The number of projects that were compared.
    pub projects: u64,
    /// Whether it was about all projects, and every one of them could be compared.
    pub whole: bool,
    /// The number of refs that differed.
    pub mismatches: u64,
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
    /// The time that it takes to read them at the share that is taken, in seconds.
    pub seconds: f64,
}

/// A project that could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotCompared {
    /// The name of the project.
    pub project: String,
    /// The reason, as text for people.
    pub why: String,
}

/// A ref that differs, even after this node, and the peer that it was compared with, have caught up.
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
    /// The peer that this node was compared with. None for a comparison with the refdb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The version and value in the version map of that peer. None if it knows no such ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<Side>,
    /// The value on the disk of that peer. None if the ref is not there, or the disks were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_there: Option<String>,
    /// The side that is right.
    pub right: Right,
    /// The reason of this judgement, for people.
    pub why: String,
}

/// A version and value of a ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Side {
    /// The version of the ref.
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
    /// The refdb. This node is behind, or its disk is wrong. In a comparison with a peer: neither node is right.
    Refdb,
    /// This node: it knows a later version than the refdb, which went back. In a comparison with a peer: this node has
    /// what the refdb has, or a later version.
    ThisNode,
    /// The peer: it has what the refdb has, or a later version.
    Peer,
}

impl Verification {
    /// Whether it has ended, and every requested ref is equal.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.ended_ms.is_some() && self.mismatches == 0 && self.failures == 0
    }
}

/// One of the two things that the verification in the background goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All refs: refdb, version map and disk, and then the version maps of peers.
    Refs,
    /// All objects in the repositories.
    Objects,
}

impl Part {
    /// Both parts, as the values of a label.
    pub const ALL: [Self; 2] = [Self::Refs, Self::Objects];

    /// The name of the part, as JSON has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refs => "refs",
            Self::Objects => "objects",
        }
    }
}

/// The verification in the background: how far it is, and what it has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackgroundVerification {
    /// The share of one core that it takes at most, in thousandths.
    pub share_of_core: u32,
    /// The passes over all refs of the node.
    pub refs: PassStatus,
    /// The passes over all objects in its repositories.
    pub objects: PassStatus,
}

/// The passes of the verification in the background over all projects, for one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PassStatus {
    /// The age that it may have: each ref, or object, is verified again within this time. In milliseconds.
    pub within_ms: u64,
    /// The time since the last complete pass began, or since the volume was new. Everything was verified within it. In
    /// milliseconds.
    pub age_ms: u64,
    /// When the last complete pass ended, in milliseconds since 1970. None if none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// The refs, or objects, of the last complete pass.
    pub counted: u64,
    /// The last project that the pass in progress is done with. None between two passes, and at the first project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether a pass is in progress.
    pub in_progress: bool,
    /// Differences that were found since the volume was new. One that a catch-up ends does not count.
    pub found: u64,
    /// Those of them that were repaired.
    pub repaired: u64,
    /// The number of projects with differences that are not repaired, or that cannot be verified. They are tried again.
    pub unrepaired_projects: u64,
    /// The first of these projects, at most [`MOST_FOUND`], with the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unrepaired: Vec<NotCompared>,
}
