//! Writes a small git pack, version 2, of whole objects, in memory.
//!
//! Layout: `PACK`, version, count; per object its type and size (a varint), then its content deflated; at the
//! end the SHA-1 of everything before.

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use git2::ObjectType;
use sha1::{Digest, Sha1};

/// A pack in the making.
pub(super) struct PackWriter {
    bytes: Vec<u8>,
    count: u32,
    /// One for all objects: making it clears some 300 KiB, more than most objects take.
    deflate: Compress,
}

impl PackWriter {
    pub(super) fn new() -> Self {
        let deflate = Compress::new(Compression::default(), true);
        Self { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), count: 0, deflate }
    }

    /// Appends an object.
    pub(super) fn add(&mut self, kind: ObjectType, content: &[u8]) -> std::io::Result<()> {
        self.header(type_code(kind), content.len());
        self.deflate.reset();
        loop {
            let taken = usize::try_from(self.deflate.total_in()).map_err(std::io::Error::other)?;
            // Room for the rest, should it not compress at all.
            self.bytes.reserve(content.len() - taken + 64);
            let status = self.deflate.compress_vec(&content[taken..], &mut self.bytes, FlushCompress::Finish);
            if status.map_err(std::io::Error::other)? == Status::StreamEnd {
                self.count += 1;
                return Ok(());
            }
        }
    }

    /// The finished pack.
    pub(super) fn finish(mut self) -> Bytes {
        self.bytes[8..12].copy_from_slice(&self.count.to_be_bytes());
        let sum = Sha1::digest(&self.bytes);
        self.bytes.extend_from_slice(&sum);
        self.bytes.into()
    }

    /// Four bits of the size, then seven a byte, lowest first; the top bit says that more follow.
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

/// The number of an object's type in a pack.
fn type_code(kind: ObjectType) -> u8 {
    match kind {
        ObjectType::Commit => 1,
        ObjectType::Tree => 2,
        ObjectType::Blob => 3,
        ObjectType::Tag | ObjectType::Any => 4,
    }
}
