//! Bodies of calls between peers, and of the status API about them (JSON).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, SiteId};

/// A node, as it introduces itself to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerAnswer {
    /// The site that the node belongs to.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The name of the node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The version of its sidecar.
    pub version: String,
    /// The role of its site, as the node knows it.
    pub role: String,
    /// The epoch of that role.
    pub epoch: u64,
    /// Whether every latch of its `/readyz` is open.
    pub ready: bool,
    /// The closed latches. Empty if the node is ready, or of an earlier release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}

/// A peer of `[peers]`, as it answered just now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerStatus {
    /// The name of the peer in the configuration.
    pub name: String,
    /// The address of the peer: a socket, or `host:port`.
    pub address: String,
    /// The way to it: `tls`, `tunnel` (unencrypted, with a token), or `socket`.
    pub way: String,
    /// The answer, if there is one.
    #[serde(default)]
    pub answer: Option<PeerAnswer>,
    /// Why there is none, and a remedy.
    #[serde(default)]
    pub problem: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// The state of mutual TLS at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TlsStatus {
    /// The names in the node's certificate.
    pub names: Vec<String>,
    /// When the node's certificate expires, in seconds since 1970.
    pub expires: i64,
    /// When the first of the authorities that the node trusts expires, in seconds since 1970.
    pub trust_expires: i64,
    /// The address of the listener for peers, if there is one.
    #[serde(default)]
    pub listen: Option<String>,
    /// Why newer files cannot be used. Those before them stay in use.
    #[serde(default)]
    pub problem: Option<String>,
}
