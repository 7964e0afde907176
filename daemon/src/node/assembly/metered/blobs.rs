//! A decorator of the blob store that counts blobs and bytes.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::seams::blob::{BlobError, BlobStore, Payload};
use crate::telemetry::metrics::{BlobCall, BlobMetrics};

/// A blob store whose successful calls are counted.
pub struct MeteredBlobs {
    inner: Arc<dyn BlobStore>,
    metrics: BlobMetrics,
}

impl MeteredBlobs {
    /// A blob store that passes each call to `inner` and counts it.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>, metrics: BlobMetrics) -> Self {
        Self { inner, metrics }
    }
}

#[async_trait]
impl BlobStore for MeteredBlobs {
    async fn put(&self, key: &str, payload: &Payload) -> Result<(), BlobError> {
        self.inner.put(key, payload).await?;
        self.metrics.called(BlobCall::Put, payload.len());
        Ok(())
    }

    async fn get(&self, key: &str, bytes: u64, sha256: &[u8; 32], spill: &Path) -> Result<Payload, BlobError> {
        let payload = self.inner.get(key, bytes, sha256, spill).await?;
        self.metrics.called(BlobCall::Get, payload.len());
        Ok(payload)
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        self.inner.delete(key).await?;
        self.metrics.called(BlobCall::Delete, 0);
        Ok(())
    }
}
