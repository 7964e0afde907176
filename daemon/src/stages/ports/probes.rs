//! Port: the failover stage has this node probed as a user would use it.

use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::ProbeResult;

/// Acts as a user of this node does.
#[async_trait]
pub trait Probes: Send + Sync {
    /// Runs every probe once. Each ends within its timeout, and a probe without an answer is red.
    async fn round(&self) -> Vec<ProbeResult>;

    /// Runs the probes that write nothing, at a node that takes no writes. At others, drills run all of them. There may
    /// be none.
    async fn look(&self) -> Vec<ProbeResult> {
        Vec::new()
    }

    /// The pause between two rounds.
    fn interval(&self) -> Duration;
}
