//! The blob store: packs that are too large to travel inside a transaction, and transactions that are too large for a
//! journal slot.
//!
//! Every implementation keeps this contract (`tests/src/contract`):
//! - Once a put is answered, every site can read the blob.
//! - A second put of the same key and content is harmless.
//! - A key without a blob is [`BlobError::Absent`], never an empty blob.
//!
//! | file | content |
//! |---|---|
//! | `object` | any store that `object_store` supports: S3, a folder |
//! | `connected` | whether the endpoint of S3 could be reached, and which one that is |
//! | `long_form` | the long forms of transactions that do not fit into a journal slot |
//! | `digest` | the hash of a payload, off the threads that run the tasks when it is large |
//! | `bucket` | the bucket of S3: its properties, for `lockstep aws` |
//! | `receive` | checks length and hash while a blob arrives |
//! | `memory` | a store in memory, for tests and the simulator |

pub mod bucket;
mod connected;
mod digest;
pub mod long_form;
pub mod memory;
pub mod object;
mod receive;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempPath;

pub use connected::endpoint_options;

/// The content of a blob, which may be too large for memory.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Content that is small enough for memory.
    Memory(Bytes),
    /// A temporary file, which is deleted with its last user: its path, and its length in bytes.
    File(Arc<TempPath>, u64),
}

impl Payload {
    /// The length of the content, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }

    /// Whether the content is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a call on the blob store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// There is no blob with this key.
    #[error("the blob store has no blob {0}")]
    Absent(String),
    /// The blob is not the expected one (its length or hash differs), or its key or its file cannot be used.
    #[error("blob {key} is bad: {why}")]
    Bad {
        /// The key of the blob.
        key: String,
        /// A description of the defect, for people.
        why: String,
    },
    /// The store cannot be reached. Try again later.
    #[error("the blob store does not answer ({0}); try again")]
    NotNow(String),
}

/// The blob store. The documentation of this module is its contract.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Stores a blob under a key that the caller chooses. It is readable at every site once this returns.
    async fn put(&self, key: &str, payload: &Payload) -> Result<(), BlobError>;

    /// Fetches a blob of exactly `bytes` bytes with this SHA-256. A large one goes to a temporary file in the folder
    /// `spill`. The length is checked before the content is stored, and the hash before it is returned.
    async fn get(&self, key: &str, bytes: u64, sha256: &[u8; 32], spill: &Path) -> Result<Payload, BlobError>;

    /// Removes a blob. A blob that does not exist is no error.
    async fn delete(&self, key: &str) -> Result<(), BlobError>;
}
