//! Port: the failover stage ends incarnations, which the membership stage knows how to do.

use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::{IncarnationId, SiteId};

use crate::seams::refdb::{FailoverDb, RefDbError};

/// Ends incarnations of any node.
#[async_trait]
pub trait Fencing: Send + Sync {
    /// Freezes and poisons an incarnation, so that nothing can be committed in it any more. One try.
    ///
    /// # Errors
    /// The refdb did not answer. The incarnation may be frozen, and some of its slots poisoned.
    async fn fence(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError>;
}

/// Makes the same for the incarnations of another refdb: of the canary of a drill.
pub type FencingOver = Arc<dyn Fn(FailoverDb) -> Arc<dyn Fencing> + Send + Sync>;
