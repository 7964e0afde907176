//! Scans a pack from outside before git sees it; a large one while git indexes it within its limits.
//!
//! A pack of 16 KiB can cost git 2 GiB of memory (measured), so every declaration of a pack is first checked against
//! [`PackLimits`]: the number of objects, their sizes, and the results and depth of deltas. Content is inflated in
//! blocks and dropped, so the scan itself needs little memory: 16 bytes per object. Deltas against objects that are
//! named by id are refused, because their cost cannot be computed from the pack.

use std::io::BufRead;

use flate2::{Decompress, FlushDecompress, Status};
use git2::ObjectType;
use sha1::{Digest, Sha1};

/// Limits on the declarations of a pack. Sizes are of inflated content, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackLimits {
    /// Most objects in the pack.
    pub objects: u32,
    /// Largest blob that is stored whole.
    pub blob_bytes: u64,
    /// Largest commit, tree, tag, delta or result of a delta. Git holds these in memory.
    pub memory_bytes: u64,
    /// Largest sum of all objects. A delta counts by the size of its result.
    pub total_bytes: u64,
    /// Most deltas in the pack.
    pub deltas: u32,
    /// Longest chain of deltas upon deltas.
    pub delta_depth: u16,
    /// Largest pack as it is transferred, compressed.
    pub pack_bytes: u64,
}

impl PackLimits {
    /// The limits of packs that are checked in memory. A pack that exceeds them goes through git, if
    /// [`PackLimits::SPILLED`] allows it.
    pub const INLINE: Self = Self {
        objects: 10_000,
        blob_bytes: 64 << 20,
        memory_bytes: 32 << 20,
        total_bytes: 64 << 20,
        deltas: 10_000,
        delta_depth: 50,
        pack_bytes: 64 << 20,
    };

    /// The limits of every pack.
    pub const SPILLED: Self = Self {
        objects: 5_000_000,
        blob_bytes: 16 << 30,
        memory_bytes: 64 << 20,
        total_bytes: 1 << 40,
        deltas: 5_000_000,
        delta_depth: 50,
        pack_bytes: 256 << 30,
    };

    /// Returns the limits for a pack of `length` bytes: a short pack may declare less in total than a long one. An
    /// honest pack can have a high ratio too (fifty versions of a large file as deltas), so the factor is generous.
    #[must_use]
    pub fn for_length(self, length: u64) -> Self {
        let fair = length.saturating_mul(1000).saturating_add(1 << 30);
        Self { total_bytes: self.total_bytes.min(fair), ..self }
    }
}

/// Why a scan did not reach the end of a pack.
#[derive(Debug)]
pub(super) enum ScanError {
    /// The pack is bad.
    Bad(String),
    /// The pack could not be read.
    Io(std::io::Error),
}

/// The content of a pack.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) objects: u32,
    pub(super) deltas: u32,
    /// The content of the objects, when the caller asked for it and the pack has no deltas.
    pub(super) whole: Vec<(ObjectType, Vec<u8>)>,
}

/// Scans a pack. The content is kept when the pack has at most `keep` objects and no deltas.
pub(super) fn scan(reader: impl BufRead, limits: &PackLimits, keep: u32) -> Result<Summary, ScanError> {
    let mut scan = Scan {
        source: Source { reader, digest: Sha1::new(), position: 0 },
        limits: *limits,
        inflate: Decompress::new(true),
        depths: Vec::new(),
        total: 0,
        summary: Summary::default(),
        keep: false,
    };
    scan.run(keep)?;
    Ok(scan.summary)
}

/// The pack's bytes, counted and hashed while they are read.
struct Source<R> {
    reader: R,
    digest: Sha1,
    position: u64,
}

struct Scan<R> {
    source: Source<R>,
    limits: PackLimits,
    inflate: Decompress,
    /// The offset of each object and the depth of its delta chain, in ascending order.
    depths: Vec<(u64, u16)>,
    total: u64,
    summary: Summary,
    keep: bool,
}

fn bad<T>(why: impl Into<String>) -> Result<T, ScanError> {
    Err(ScanError::Bad(why.into()))
}

impl<R: BufRead> Scan<R> {
    fn run(&mut self, keep: u32) -> Result<(), ScanError> {
        let count = self.pack_header()?;
        self.keep = count <= keep;
        for _ in 0..count {
            self.object()?;
        }
        self.summary.objects = count;
        self.trailer()
    }

    fn pack_header(&mut self) -> Result<u32, ScanError> {
        if self.source.array::<4>()? != *b"PACK" {
            return bad("it does not begin with PACK");
        }
        let version = u32::from_be_bytes(self.source.array()?);
        if version != 2 {
            return bad(format!("its version is {version}, not 2"));
        }
        let count = u32::from_be_bytes(self.source.array()?);
        cap("its number of objects", u64::from(count), u64::from(self.limits.objects))?;
        Ok(count)
    }

    fn object(&mut self) -> Result<(), ScanError> {
        let start = self.source.position;
        let (code, size) = self.object_header()?;
        let kind = match code {
            1 => ObjectType::Commit,
            2 => ObjectType::Tree,
            3 => ObjectType::Blob,
            4 => ObjectType::Tag,
            6 => return self.delta(start, size),
            7 => return bad(format!("the object at byte {start} is a delta against an object named by its id")),
            _ => return bad(format!("the object at byte {start} has the unknown type {code}")),
        };
        let limit = if kind == ObjectType::Blob { self.limits.blob_bytes } else { self.limits.memory_bytes };
        cap("the size of an object", size, limit)?;
        self.count(size)?;
        self.depths.push((start, 0));
        let mut content = Vec::new();
        let keep = self.keep;
        self.inflate(size, |block| {
            if keep {
                content.extend_from_slice(block);
            }
        })?;
        if keep {
            self.summary.whole.push((kind, content));
        }
        Ok(())
    }

    /// Reads type and size: four bits of the size in the first byte, seven in each byte after it.
    fn object_header(&mut self) -> Result<(u8, u64), ScanError> {
        let mut byte = self.source.byte()?;
        let code = (byte >> 4) & 7;
        let mut size = u64::from(byte & 0x0f);
        let mut shift = 4;
        while byte & 0x80 != 0 {
            byte = self.source.byte()?;
            if shift > 56 {
                return bad("the size of an object has too many digits");
            }
            size |= u64::from(byte & 0x7f) << shift;
            shift += 7;
        }
        Ok((code, size))
    }

    fn delta(&mut self, start: u64, size: u64) -> Result<(), ScanError> {
        let distance = self.distance()?;
        let Some(base) = start.checked_sub(distance) else {
            return bad(format!("the delta at byte {start} has its base before the pack"));
        };
        let Ok(at) = self.depths.binary_search_by_key(&base, |(offset, _)| *offset) else {
            return bad(format!("the delta at byte {start} has its base where no object begins, at byte {base}"));
        };
        let depth = self.depths[at].1 + 1;
        cap("the depth of its deltas", u64::from(depth), u64::from(self.limits.delta_depth))?;
        cap("the size of a delta", size, self.limits.memory_bytes)?;
        self.summary.deltas += 1;
        cap("its number of deltas", u64::from(self.summary.deltas), u64::from(self.limits.deltas))?;
        self.depths.push((start, depth));
        self.keep = false;
        self.summary.whole.clear();
        let mut head = Vec::with_capacity(20);
        self.inflate(size, |block| head.extend_from_slice(&block[..block.len().min(20 - head.len())]))?;
        let (base, used) = varint(&head)?;
        let (result, _) = varint(&head[used..])?;
        cap("the size of a delta's base", base, self.limits.memory_bytes)?;
        cap("the size of a delta's result", result, self.limits.memory_bytes)?;
        self.count(result)
    }

    /// Reads the distance from the beginning of a delta back to its base.
    fn distance(&mut self) -> Result<u64, ScanError> {
        let mut byte = self.source.byte()?;
        let mut distance = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.source.byte()?;
            if distance >= 1 << 50 {
                return bad("the distance of a delta's base has too many digits");
            }
            distance = ((distance + 1) << 7) | u64::from(byte & 0x7f);
        }
        if distance == 0 {
            return bad("a delta is its own base");
        }
        Ok(distance)
    }

    fn count(&mut self, size: u64) -> Result<(), ScanError> {
        self.total = self.total.saturating_add(size);
        cap("the size of all objects together", self.total, self.limits.total_bytes)
    }

    /// Inflates content that must have exactly `size` bytes, block by block.
    fn inflate(&mut self, size: u64, mut take: impl FnMut(&[u8])) -> Result<(), ScanError> {
        let mut block = [0; 16 * 1024];
        self.inflate.reset(true);
        loop {
            let input = self.source.reader.fill_buf().map_err(ScanError::Io)?;
            let at_end = input.is_empty();
            let (consumed, produced) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(input, &mut block, FlushDecompress::None);
            let used = (self.inflate.total_in() - consumed) as usize;
            let got = (self.inflate.total_out() - produced) as usize;
            self.source.consume(used);
            take(&block[..got]);
            if self.inflate.total_out() > size {
                return bad("an object is longer than it declares");
            }
            match status {
                Ok(Status::StreamEnd) if self.inflate.total_out() == size => return Ok(()),
                Ok(Status::StreamEnd) => return bad("an object is shorter than it declares"),
                Ok(_) if used == 0 && got == 0 && at_end => return bad("it ends in the middle of an object"),
                Ok(_) if used == 0 && got == 0 => return bad("an object's content cannot be inflated"),
                Ok(_) => {}
                Err(error) => return bad(format!("an object's content cannot be inflated: {error}")),
            }
        }
    }

    fn trailer(&mut self) -> Result<(), ScanError> {
        let computed: [u8; 20] = std::mem::take(&mut self.source.digest).finalize().into();
        if self.source.array::<20>()? != computed {
            return bad("its checksum does not match");
        }
        if !self.source.reader.fill_buf().map_err(ScanError::Io)?.is_empty() {
            return bad("something follows its checksum");
        }
        Ok(())
    }
}

impl<R: BufRead> Source<R> {
    fn byte(&mut self) -> Result<u8, ScanError> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ScanError> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ScanError::Bad("it is cut short".to_owned()),
            _ => ScanError::Io(error),
        })?;
        self.digest.update(bytes);
        self.position += N as u64;
        Ok(bytes)
    }

    /// Consumes `count` bytes of the reader's buffer.
    fn consume(&mut self, count: usize) {
        if let Ok(buffer) = self.reader.fill_buf() {
            self.digest.update(&buffer[..count]);
        }
        self.reader.consume(count);
        self.position += count as u64;
    }
}

/// Reads a size in a delta: seven bits per byte, lowest first. Returns the value and its length in bytes.
fn varint(bytes: &[u8]) -> Result<(u64, usize), ScanError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    bad("a delta has a malformed header")
}

fn cap(what: &str, value: u64, limit: u64) -> Result<(), ScanError> {
    if value <= limit {
        return Ok(());
    }
    bad(format!("{what} is {value}, above the limit of {limit}"))
}

#[cfg(test)]
mod tests;
