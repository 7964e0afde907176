//! Port: the bridge API waits until a site shows a transaction.

use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::arrival::AwaitResponse;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::{SiteId, TxnId};

/// Tells when a site shows a transaction.
#[async_trait]
pub trait Arrivals: Send + Sync {
    /// Waits until a site shows a transaction, this node's own site if none is named. It looks at least once, and waits
    /// for `most` at most, and for the refdb a few seconds longer.
    ///
    /// # Errors
    /// There is no such site, the node's store failed, or the sidecar is shutting down.
    async fn arrival(&self, txn: TxnId, site: Option<SiteId>, most: Duration) -> Result<AwaitResponse, ApiError>;
}
