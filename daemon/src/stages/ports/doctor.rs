//! Port: from the API to the assembly: the checks of this node, and the settings that all nodes should share.

use async_trait::async_trait;
use lockstep_proto::doctor::{Diagnosis, SharedSettings};

/// Looks at the node and at its surroundings while everything is up.
#[async_trait]
pub trait Doctor: Send + Sync {
    /// Runs every check now. Parts that do not answer in time are named as not seen.
    async fn diagnose(&self) -> Diagnosis;

    /// The settings of this node that all nodes should share, without credentials.
    fn shared_settings(&self) -> SharedSettings;
}
