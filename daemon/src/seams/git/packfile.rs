//! Writes a small git pack of version 2 in memory, without deltas.
//!
//! The layout is `PACK`, version, count; then for each object its type and size (a varint) and its deflated content; at
//! the end the SHA-1 of all bytes before.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use git2::ObjectType;
use sha1::{Digest, Sha1};

/// A pack that is being written.
pub(super) struct PackWriter {
    bytes: Vec<u8>,
    count: u32,
    /// Shared by all objects: creating one clears about 300 KiB, more than most objects take.
    deflate: Compress,
}

impl PackWriter {
    pub(super) fn new() -> Self {
        let deflate = Compress::new(Compression::default(), true);
        Self { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), count: 0, deflate }
    }

    /// Appends one object, compressed and without a delta.
    pub(super) fn add(&mut self, kind: ObjectType, content: &[u8]) -> std::io::Result<()> {
        self.header(type_code(kind), content.len());
        self.deflate.reset();
        loop {
            let taken = usize::try_from(self.deflate.total_in()).map_err(std::io::Error::other)?;
            // Reserves room for the rest in case it does not compress at all.
            self.bytes.reserve(content.len() - taken + 64);
            let status = self.deflate.compress_vec(&content[taken..], &mut self.bytes, FlushCompress::Finish);
            if status.map_err(std::io::Error::other)? == Status::StreamEnd {
                self.count += 1;
                return Ok(());
            }
        }
    }

    /// Completes the pack and returns its bytes.
    pub(super) fn finish(mut self) -> Bytes {
        self.bytes[8..12].copy_from_slice(&self.count.to_be_bytes());
        let sum = Sha1::digest(&self.bytes);
        self.bytes.extend_from_slice(&sum);
        self.bytes.into()
    }

    /// Writes type and size: four bits of the size, then seven per byte, lowest first. The top bit says that more bytes
    /// follow.
    fn header(&mut self, code: u8, size: usize) {
        let mut byte = (code << 4) | (size & 0x0f) as u8;
        let mut rest = size >> 4;
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(byte);
    }
}

/// Returns the number of an object's type in a pack.
fn type_code(kind: ObjectType) -> u8 {
    match kind {
        ObjectType::Commit => 1,
        ObjectType::Tree => 2,
        ObjectType::Blob => 3,
        ObjectType::Tag | ObjectType::Any => 4,
    }
}
