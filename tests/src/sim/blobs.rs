//! The blob store of a simulated node: every call passes through the fault plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::seams::blob::{BlobError, BlobStore, Payload};

use super::faults::{Kind, NetworkError};
use super::link::Link;
use super::watch::Watch;

impl NetworkError for BlobError {
    fn not_now() -> Self {
        Self::NotNow("simulated throttling".into())
    }

    fn unknown() -> Self {
        Self::NotNow("simulated silence".into())
    }
}

/// A blob store behind faults.
pub struct FaultyBlobs {
    inner: Arc<dyn BlobStore>,
    link: Link,
    watch: Arc<Watch>,
}

impl FaultyBlobs {
    /// Puts `link` in front of `inner`, and tells `watch` about deletions.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>, link: Link, watch: Arc<Watch>) -> Self {
        Self { inner, link, watch }
    }
}

#[async_trait]
impl BlobStore for FaultyBlobs {
    async fn put(&self, key: &str, payload: &Payload) -> Result<(), BlobError> {
        let what = format!("put {key} {} bytes", payload.len());
        let (inner, key, payload) = (self.inner.clone(), key.to_owned(), payload.clone());
        let call = move || {
            let (inner, key, payload) = (inner.clone(), key.clone(), payload.clone());
            async move { inner.put(&key, &payload).await }
        };
        self.link.remote(Kind::Write, what, None, call).await
    }

    async fn get(&self, key: &str, bytes: u64, sha256: &[u8; 32], spill: &Path) -> Result<Payload, BlobError> {
        let what = format!("get {key}");
        let (inner, key, sha256) = (self.inner.clone(), key.to_owned(), *sha256);
        let spill: PathBuf = spill.to_owned();
        let call = move || {
            let (inner, key, spill) = (inner.clone(), key.clone(), spill.clone());
            async move { inner.get(&key, bytes, &sha256, &spill).await.map(Shown) }
        };
        self.link.remote(Kind::Read, what, None, call).await.map(|Shown(payload)| payload)
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        let what = format!("delete {key}");
        let (inner, key, watch) = (self.inner.clone(), key.to_owned(), self.watch.clone());
        let call = move || {
            let (inner, key) = (inner.clone(), key.clone());
            watch.deletes_blob(&key);
            async move { inner.delete(&key).await }
        };
        self.link.remote(Kind::Write, what, None, call).await
    }
}

/// A payload whose debug text is its length, because the path of a temporary file would differ between runs.
struct Shown(Payload);

impl std::fmt::Debug for Shown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} bytes", self.0.len())
    }
}
