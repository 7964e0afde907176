//! Bodies of the bridge API for a Gerrit that starts, and for what its `init` wrote behind the bridge's back (JSON).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{ProjectName, RefName};
use crate::oid::Oid;

/// A Gerrit that starts says who it is. It must not serve before it is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HelloRequest {
    /// Chosen at random by each Gerrit process, 1 to 128 bytes.
    pub session: String,
    /// `gerrit.serverId`: the same at every site. At most 128 bytes.
    pub server_id: String,
    /// `gerrit.instanceId`: another one at each node. At most 128 bytes; empty when it is not set, which is refused.
    pub instance_id: String,
    /// Gerrit's version, for people. At most 128 bytes.
    pub gerrit_version: String,
    /// The bridge's version, for people. At most 128 bytes.
    pub bridge_version: String,
    /// The project from which all others inherit (`gerrit.allProjects`).
    #[schema(value_type = String, example = "All-Projects")]
    pub all_projects: ProjectName,
    /// The project of accounts and groups (`gerrit.allUsers`).
    #[schema(value_type = String, example = "All-Users")]
    pub all_users: ProjectName,
    /// `gerrit.basePath`, absolute. A bridge that does not tell it is not held against the sidecar's folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_path: Option<String>,
    /// Every section `repository.*` of `gerrit.config`, at most 1,000: of those that fit a project, the longest counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_paths: Vec<BasePath>,
}

/// Below which folder the repositories of some projects lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BasePath {
    /// The name of a project, or the beginning of names with a `*` behind it.
    #[schema(example = "big/*")]
    pub projects: String,
    /// The folder, absolute; none when they lie where all others do.
    pub path: Option<String>,
}

/// Whether a Gerrit may start here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HelloResponse {
    /// Whether it may.
    pub accepted: bool,
    /// For the administrator, when it may not: what is wrong, and the way out.
    pub reason: Option<String>,
}

/// A value that a ref had on the disk, that nobody had committed, and that had to give way to what was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stray {
    /// The ref.
    #[serde(rename = "ref")]
    #[schema(value_type = String, example = "refs/meta/config")]
    pub name: RefName,
    /// The value.
    #[schema(value_type = String)]
    pub value: Oid,
}

/// What becomes of a stray.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StrayEnd {
    /// The ref gets its value, by a commit.
    Adopt,
    /// It is forgotten.
    Discard,
}

/// Ends a stray.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StrayRequest {
    /// As in a ref transaction.
    pub request_id: String,
    /// Which one.
    pub stray: Stray,
    /// What becomes of it.
    pub end: StrayEnd,
}
