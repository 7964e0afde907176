//! Port: the commit stage waits until no incarnation can commit without knowing a transaction.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::{NodeId, SiteId, TxnId};

use crate::seams::refdb::RefDbError;

/// Why the barrier did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// These nodes can still commit without knowing the transaction, and the time is over.
    #[error("nodes that have not applied it yet: {}", list(.0))]
    Timeout(Vec<Unaware>),
    /// The time is over, and the last call on the refdb failed.
    #[error(transparent)]
    RefDb(RefDbError),
}

/// A node that can still commit without knowing a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unaware {
    /// The name of the node.
    pub node: NodeId,
    /// The site of the node.
    pub site: SiteId,
}

impl fmt::Display for Unaware {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of site {}", self.node, self.site)
    }
}

fn list(nodes: &[Unaware]) -> String {
    nodes.iter().map(Unaware::to_string).collect::<Vec<_>>().join(", ")
}

/// The barrier of a project that is being closed, or of a name that is being freed. It reads the registry of sites,
/// nodes and incarnations.
#[async_trait]
pub trait Barrier: Send + Sync {
    /// Waits until no open incarnation of any site can commit to the project without knowing this transaction, but no
    /// longer than `patience`.
    ///
    /// # Errors
    /// The barrier did not pass in time, or the refdb cannot be reached.
    async fn passed(&self, txn: &TxnId, patience: Duration) -> Result<(), BarrierError>;
}
