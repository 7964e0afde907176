//! Bodies of the calls by which two sites compare their refs (JSON): a digest per project, and the refs that differ.
//!
//! The digest of a project is the sum of the hashes of its records. Two nodes whose digests of a project are equal have
//! the same records.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, ProjectKey, ProjectName, SiteId};
use crate::rebuild::VersionsEntry;
use crate::value::{RefKey, RefValue};

/// The form of the digests of this release. Digests of different forms are never compared.
pub const SET_DIGEST_FORMAT: u32 = 1;
/// The most projects of a page of digests.
pub const MOST_DIGESTS: usize = 1_000;
/// The most refs of one [`RefsRequest`].
pub const MOST_KEYS: usize = 100;
/// The most refs that a [`ProjectDigest`] names because the disk shows other values. All are counted.
pub const MOST_OFF_DISK: usize = 1_000;

/// Asks a node for the digests of its projects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DigestsRequest {
    /// The last project of the page before. None for the first page.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub after: Option<ProjectName>,
    /// The only project to tell about. None: all projects.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub only: Option<ProjectName>,
    /// Whether the node also compares its disk with its version map.
    #[serde(default)]
    pub disk: bool,
}

/// The facts about a node beside its digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DigestsHead {
    /// The site of the node.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The form of its digests: [`SET_DIGEST_FORMAT`] or a later one.
    pub format: u32,
    /// The id of the refdb that its volume belongs to. None if it never met one with an identity.
    #[serde(default)]
    pub refdb: Option<String>,
    /// Whether it is reconciling, or has not taken anything from a refdb yet, so that its version map may lack refs.
    pub reconciles: bool,
}

/// One project at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectDigest {
    /// The record of its `@state`. Deleted projects have one, too.
    pub state: VersionsEntry,
    /// The digest of its other records, 64 hexadecimal digits. None while it is being built: then nothing is known.
    #[serde(default)]
    pub digest: Option<String>,
    /// The number of these records, deleted refs included.
    #[serde(default)]
    pub refs: u64,
    /// The number of refs for which the disk shows another value than the version map, if the request asked for it.
    /// Some may be moving at this moment.
    #[serde(default)]
    pub off_disk: u64,
    /// The first of them, at most [`MOST_OFF_DISK`].
    #[schema(value_type = Vec<String>)]
    #[serde(default)]
    pub off_disk_refs: Vec<RefKey>,
    /// Why the project cannot be compared, if it cannot.
    #[serde(default)]
    pub problem: Option<String>,
}

/// A page of the digests of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DigestsPage {
    /// The node, at the moment of this page.
    pub head: DigestsHead,
    /// The projects, in the order of their names.
    pub projects: Vec<ProjectDigest>,
    /// The project after which the next page begins. None if this is the last one.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub next: Option<ProjectName>,
}

/// Asks a node for some refs of a project, as its version map and its disk have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefsRequest {
    /// The project with its incarnation.
    #[schema(value_type = String)]
    pub project: ProjectKey,
    /// The refs and pseudo-refs, at most [`MOST_KEYS`].
    #[schema(value_type = Vec<String>)]
    pub keys: Vec<RefKey>,
    /// Whether the node first brings them up to the refdb's state.
    #[serde(default)]
    pub catch_up: bool,
}

/// One ref of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefLook {
    /// The ref or pseudo-ref.
    #[schema(value_type = String)]
    pub key: RefKey,
    /// The record of the version map. None if the node knows no such ref.
    #[serde(default)]
    pub record: Option<VersionsEntry>,
    /// The value on the disk. None if the ref is not there, and for `@state`.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub disk: Option<RefValue>,
}

/// The refs of a node that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefsAnswer {
    /// The refs, in the order of the request.
    pub refs: Vec<RefLook>,
    /// Why the node could not catch up with some of them, if it was to catch up.
    #[serde(default)]
    pub behind: Option<String>,
}
