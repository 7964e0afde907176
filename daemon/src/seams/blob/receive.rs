//! Receives a blob from any store. The length is checked while the blob is read, and the hash before it is returned. A
//! large blob goes to a temporary file, so that memory holds a chunk and not the blob.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::{BlobError, Payload};

/// A blob of more bytes than this goes to a file.
const MEMORY_BYTES: u64 = 1024 * 1024;

/// The blob that the caller expects.
pub(super) struct Expected<'a> {
    pub(super) key: &'a str,
    pub(super) bytes: u64,
    pub(super) sha256: &'a [u8; 32],
}

/// The destination of the bytes.
enum Sink {
    Memory(Vec<u8>),
    File(File, TempPath),
}

impl Expected<'_> {
    fn bad(&self, why: String) -> BlobError {
        BlobError::Bad { key: self.key.to_owned(), why }
    }

    /// Refuses a length other than the expected one.
    pub(super) fn check_length(&self, length: u64) -> Result<(), BlobError> {
        if length == self.bytes {
            return Ok(());
        }
        Err(self.bad(format!("it is {length} bytes long instead of {}", self.bytes)))
    }
}

/// Reads the whole stream. Nothing is kept of a stream that breaks off, or whose content is not the expected one.
pub(super) async fn receive<S>(expected: &Expected<'_>, spill: &Path, chunks: S) -> Result<Payload, BlobError>
where
    S: Stream<Item = Result<Bytes, BlobError>>,
{
    let mut sink = Sink::open(expected.bytes, spill)?;
    let mut hash = Sha256::new();
    let mut length: u64 = 0;
    let mut chunks = pin!(chunks);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        length += chunk.len() as u64;
        if length > expected.bytes {
            return Err(expected.bad(format!("it is longer than the expected {} bytes", expected.bytes)));
        }
        hash.update(&chunk);
        sink.write(&chunk).await?;
    }
    expected.check_length(length)?;
    let found: [u8; 32] = hash.finalize().into();
    if found != *expected.sha256 {
        let (found, wanted) = (hex::encode(found), hex::encode(expected.sha256));
        return Err(expected.bad(format!("its SHA-256 is {found} instead of {wanted}")));
    }
    sink.finish(length).await
}

impl Sink {
    fn open(bytes: u64, spill: &Path) -> Result<Self, BlobError> {
        if bytes <= MEMORY_BYTES {
            return Ok(Self::Memory(Vec::new()));
        }
        let (file, path) = NamedTempFile::new_in(spill).map_err(spilled)?.into_parts();
        Ok(Self::File(File::from_std(file), path))
    }

    async fn write(&mut self, chunk: &[u8]) -> Result<(), BlobError> {
        match self {
            Self::Memory(bytes) => {
                bytes.extend_from_slice(chunk);
                Ok(())
            }
            Self::File(file, _) => file.write_all(chunk).await.map_err(spilled),
        }
    }

    async fn finish(self, length: u64) -> Result<Payload, BlobError> {
        match self {
            Self::Memory(bytes) => Ok(Payload::Memory(bytes.into())),
            Self::File(mut file, path) => {
                file.flush().await.map_err(spilled)?;
                Ok(Payload::File(Arc::new(path), length))
            }
        }
    }
}

fn spilled(error: std::io::Error) -> BlobError {
    BlobError::NotNow(format!("the folder for temporary files: {error}"))
}
