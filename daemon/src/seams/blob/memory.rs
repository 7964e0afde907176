//! A blob store in memory, for tests and the simulator. A handle is cheap to clone and shares its blobs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::receive::{Expected, receive};
use super::{BlobError, BlobStore, Payload};

/// Blobs in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryBlobs(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl MemoryBlobs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.0.lock()
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn put(&self, key: &str, payload: &Payload) -> Result<(), BlobError> {
        let bytes = match payload {
            Payload::Memory(bytes) => bytes.clone(),
            Payload::File(path, _) => match tokio::fs::read(&**path).await {
                Ok(bytes) => bytes.into(),
                Err(error) => return Err(BlobError::Bad { key: key.to_owned(), why: error.to_string() }),
            },
        };
        self.lock().insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, key: &str, bytes: u64, sha256: &[u8; 32], spill: &Path) -> Result<Payload, BlobError> {
        let found = self.lock().get(key).cloned().ok_or_else(|| BlobError::Absent(key.to_owned()))?;
        let expected = Expected { key, bytes, sha256 };
        expected.check_length(found.len() as u64)?;
        receive(&expected, spill, futures::stream::iter([Ok(found)])).await
    }

    async fn delete(&self, key: &str) -> Result<(), BlobError> {
        self.lock().remove(key);
        Ok(())
    }
}
