//! The keys by which sites sign their records (JSON): the document in the refdb, and the bodies of the API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::SiteId;
use crate::slot::IncarnationId;
use crate::transaction::KeyId;

/// The most keys that the document has. Keys that were dropped longest ago give way to new ones.
pub const MOST_KEYS: usize = 100;

/// The document: every key that a site signs with, or has signed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteKeys {
    /// The keys, in the order in which they were registered.
    pub keys: Vec<SiteKey>,
}

/// A public key of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SiteKey {
    /// The name of the key.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// The site whose records it verifies.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// The public key (Ed25519, 32 bytes), in hexadecimal digits.
    pub public: String,
    /// When it was registered, in milliseconds since 1970.
    pub added_ms: u64,
    /// Whether new incarnations may sign with it, and whether it verifies.
    pub state: KeyState,
    /// The incarnations that sign, or have signed, with it, and whose records may be in the journal or in a stream.
    #[schema(value_type = Vec<String>)]
    pub used_by: Vec<IncarnationId>,
    /// The operator that changed its state last, with the reason. Empty if nobody did.
    #[serde(default)]
    pub changed: String,
}

/// The state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It signs and verifies.
    Valid,
    /// It verifies. No incarnation opens with it.
    Retired,
    /// It neither signs nor verifies.
    Dropped,
}

impl KeyState {
    /// The name of the state, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Retired => "retired",
            Self::Dropped => "dropped",
        }
    }
}

/// Whether a site's records must be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedSite {
    /// The name of the site.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Whether its incarnations of this epoch, and of those after it, sign every record.
    pub required: bool,
    /// The epoch of the site.
    pub epoch: u64,
}

/// The sites, and the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SigningStatus {
    /// Whether records must be signed, per site.
    pub sites: Vec<SignedSite>,
    /// Nodes of these sites that do not sign, by their latest digests.
    pub unsigned_nodes: Vec<String>,
    /// The registered keys of all sites.
    pub keys: Vec<SiteKey>,
}

/// Requires signatures at every site, or no longer requires them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequireSigningRequest {
    /// Whether records must be signed from now on.
    pub required: bool,
    /// The operator's reason, for the audit trail.
    pub reason: String,
}

/// Retires or drops a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeKeyRequest {
    /// The name of the key.
    #[schema(value_type = String)]
    pub key: KeyId,
    /// The state that the key gets: retired or dropped.
    pub state: KeyState,
    /// The operator's reason, for the audit trail.
    pub reason: String,
}

/// The signing of one node, as its status shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeSigning {
    /// The key with which the node signs. None if it does not sign.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// Whether the records of streams must be signed.
    pub required: bool,
    /// The records without a good signature since the start of the process, by their outcome.
    pub unsigned: BTreeMap<String, u64>,
}
