//! Notices to receivers outside of Lockstep.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Role;
use crate::name::{NodeId, SiteId};

/// A notice to a receiver outside of Lockstep: the role of a site, as one of its nodes knows it, and whether that node
/// takes writes. Of two notices of one node, the one with the higher `start` is newer, and then the one with the higher
/// `number`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleNotice {
    /// The site of the node.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The node that sends the notice.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The role of the site.
    pub role: Role,
    /// The epoch of the site.
    pub epoch: u64,
    /// Whether the node takes writes now.
    pub takes_writes: bool,
    /// The number of starts of the node's sidecar on its volume.
    pub start: u64,
    /// The number of notices since that start.
    pub number: u64,
}

/// A receiver of notices, and the notice that it took last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandoverStatus {
    /// The receiver: a program, or a URL.
    pub receiver: String,
    /// The notice that it took last.
    #[serde(default)]
    pub told: Option<RoleNotice>,
    /// When it took it, in milliseconds since 1970.
    #[serde(default)]
    pub at_ms: Option<u64>,
    /// Why it has not taken the newest notice. It is tried again.
    #[serde(default)]
    pub problem: Option<String>,
}
