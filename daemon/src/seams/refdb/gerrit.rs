//! The installation's Gerrit: its identity, and the node that has each instance id.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lockstep_proto::{NodeId, ProjectName};

use super::error::RefDbError;

/// The identity of this installation's Gerrit: the values that its servers have in common at every site. The first
/// Gerrit that is accepted sets them, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GerritRecord {
    /// `gerrit.serverId`, 1 to 128 bytes.
    pub server_id: String,
    /// The project from which all others inherit.
    pub all_projects: ProjectName,
    /// The project of accounts and groups.
    pub all_users: ProjectName,
}

/// Reads and sets the identity of the installation's Gerrit, and gives instance ids to nodes.
#[async_trait]
pub trait GerritIdentity: Send + Sync {
    /// The identity of the installation's Gerrit. None if no Gerrit was accepted yet.
    async fn gerrit(&self) -> Result<Option<GerritRecord>, RefDbError>;

    /// Writes the identity if there is none, and returns the stored one.
    async fn enroll_gerrit(&self, record: &GerritRecord) -> Result<GerritRecord, RefDbError>;

    /// Every claimed `gerrit.instanceId`, with the node that has it.
    async fn instances(&self) -> Result<BTreeMap<String, NodeId>, RefDbError>;

    /// Gives an instance id (1 to 128 bytes) to a node, if no node has it, or if the node itself or `from` has it.
    /// Returns the node that has it then.
    async fn claim_instance(&self, instance: &str, node: &NodeId, from: Option<&NodeId>) -> Result<NodeId, RefDbError>;

    /// Takes an instance id from a node, if the node has it.
    async fn release_instance(&self, instance: &str, node: &NodeId) -> Result<(), RefDbError>;
}
