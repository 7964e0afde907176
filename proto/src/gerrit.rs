//! Bodies of the bridge API (JSON) for the handshake of a Gerrit that starts, and for the strays that its `init` left.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{ProjectName, RefName};
use crate::oid::Oid;

/// The handshake of a Gerrit that starts: its identity and its folders. It must not serve before it is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandshakeRequest {
    /// A random id of the Gerrit process, 1 to 128 bytes.
    pub session: String,
    /// `gerrit.serverId`, the same at every site. At most 128 bytes.
    pub server_id: String,
    /// `gerrit.instanceId`, different at each node. At most 128 bytes. Empty if it is not set; the handshake then
    /// fails.
    pub instance_id: String,
    /// Gerrit's version, for people to read. At most 128 bytes.
    pub gerrit_version: String,
    /// The bridge's version, for people to read. At most 128 bytes.
    pub bridge_version: String,
    /// The project from which all others inherit (`gerrit.allProjects`).
    #[schema(value_type = String, example = "All-Projects")]
    pub all_projects: ProjectName,
    /// The project of accounts and groups (`gerrit.allUsers`).
    #[schema(value_type = String, example = "All-Users")]
    pub all_users: ProjectName,
    /// `gerrit.basePath`, absolute. If it is missing, the sidecar does not compare Gerrit's folders with its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_path: Option<String>,
    /// All sections `repository.*` of `gerrit.config`, at most 1,000. If several match a project, the longest one
    /// counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base_paths: Vec<BasePath>,
}

/// The folder below which the repositories of some projects lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BasePath {
    /// A pattern: the name of a project, or the beginning of names, followed by `*`.
    #[schema(example = "big/*")]
    pub projects: String,
    /// The folder, absolute. None if the repositories lie in the default folder.
    pub path: Option<String>,
}

/// The answer to a handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandshakeResponse {
    /// Whether the Gerrit may serve.
    pub accepted: bool,
    /// The reason for a denial, for the administrator, with the next step.
    pub reason: Option<String>,
}

/// A value that a ref had on disk, that was never committed, and that gave way to the committed value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stray {
    /// The full name of the ref.
    #[serde(rename = "ref")]
    #[schema(value_type = String, example = "refs/meta/config")]
    pub name: RefName,
    /// The value that gave way.
    #[schema(value_type = String)]
    pub value: Oid,
}

/// How a stray ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StrayEnd {
    /// Commits the value to its ref.
    Adopt,
    /// Forgets the value. The ref keeps the committed one.
    Discard,
}

/// Ends a stray: adopts it or discards it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StrayRequest {
    /// A unique id that the caller chooses, as in a ref transaction.
    pub request_id: String,
    /// The stray to end.
    pub stray: Stray,
    /// Whether to adopt or discard it.
    pub end: StrayEnd,
}
