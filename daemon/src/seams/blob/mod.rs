//! The blob store: packs that are too large to travel inside a transaction.
//!
//! The contract that every implementation keeps (`tests/contract`): a put that was answered can be read by every
//! site from then on; a second put of the same key and content is harmless; a key that is not there is
//! [`BlobError::Absent`], never an empty blob.

pub mod memory;
pub mod object;
mod receive;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempPath;

/// Bytes that may be too many for memory.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Few enough for memory.
    Memory(Bytes),
    /// In a temporary file, which goes with its last user: path and length in bytes.
    File(Arc<TempPath>, u64),
}

impl Payload {
    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a call gave no blob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// There is no blob of this key.
    #[error("the blob store has no {0}")]
    Absent(String),
    /// The blob is longer than announced, or damaged.
    #[error("blob {key} is bad: {why}")]
    Bad {
        /// The blob's key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store cannot be reached. Try again later.
    #[error("the blob store does not answer ({0}); try again")]
    NotNow(String),
}

/// The blob store. The module's own documentation is the contract.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores a blob.
    async fn put(&self, key: &str, payload: &Payload) -> Result<(), BlobError>;

    /// Fetches a blob of exactly `bytes` bytes with this SHA-256; a large one goes to a temporary file in
    /// `spill`. Its length is checked before it is stored, its hash before it is answered.
    async fn get(&self, key: &str, bytes: u64, sha256: &[u8; 32], spill: &Path) -> Result<Payload, BlobError>;

    /// Removes a blob; one that is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), BlobError>;
}
