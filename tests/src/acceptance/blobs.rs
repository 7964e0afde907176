//! The blobs of a run: in a bucket below the prefix. Every key that is stored is remembered, and deleted at the end.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::seams::blob::object::ObjectBlobs;
use lockstep::seams::blob::{BlobError, BlobStore, Payload};
use parking_lot::Mutex;

use super::settings::Settings;
use crate::aws::record::Record;
use crate::aws::s3::FakeS3;

/// A blob store that remembers its keys.
pub struct Blobs {
    inner: ObjectBlobs,
    keys: Mutex<BTreeSet<String>>,
    /// The S3 in this process, if the run has no bucket.
    _server: Option<FakeS3>,
}

impl Blobs {
    /// The bucket of the settings, or an S3 in this process if the rest is emulated too. None if the suite is not run.
    ///
    /// # Errors
    /// The bucket cannot be opened.
    pub async fn of(settings: &Settings) -> Result<Option<Self>, String> {
        let (bucket, server) = match &settings.bucket {
            Some(bucket) => (bucket.as_str(), None),
            None if settings.is_emulated() => ("bucket", Some(FakeS3::start(&Arc::new(Record::default()), true).await)),
            None => return Ok(None),
        };
        let options = server.as_ref().map(FakeS3::options).unwrap_or_default();
        let url = format!("s3://{bucket}/{}blobs", settings.prefix);
        let inner = ObjectBlobs::from_url(&url, &options).map_err(|error| error.to_string())?;
        Ok(Some(Self { inner, keys: Mutex::default(), _server: server }))
    }

    /// Deletes every blob that was stored.
    ///
    /// # Errors
    /// A blob is left. Its key is in the text.
    pub async fn remove_all(&self) -> Result<(), String> {
        let keys = self.keys.lock().clone();
        for key in keys {
            self.inner.delete(&key).await.map_err(|error| format!("blob {key} is left, delete it: {error}"))?;
        }
        Ok(())
    }
}

#[async_trait]
impl BlobStore for Blobs {
    async fn put(&self, key: &str, payload: &Payload) -> Result<(), BlobError> {
        self.keys.lock().insert(key.to_owned());
        self.inner.put(key, payload).await
    }

    async fn get(&self, key: &str, bytes: u64, sha256: &[u8; 32], spill: &Path) -> Result<Payload, BlobError> {
        self.inner.get(key, bytes, sha256, spill).await
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        self.inner.delete(key).await
    }
}
