//! Port: the preflight asks for the state of this node's own machine.

use lockstep_proto::drill::Check;

/// Checks of this node's disks and certificates.
pub trait LocalHealth: Send + Sync {
    /// The checks, as they are now.
    fn checks(&self) -> Vec<Check>;
}
