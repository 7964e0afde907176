//! Looks through a pack that came from outside, before git sees it.
//!
//! A pack of 16 KiB can cost git 2 GiB of memory (measured), so everything that a pack declares is held against
//! [`PackLimits`] first: the number of objects, their sizes, the results and depth of deltas. Content is inflated
//! in blocks and dropped, so the scan itself needs little memory: 16 bytes an object. Deltas against objects
//! that are named by id are refused: their cost cannot be told from the pack.

use std::io::BufRead;

use flate2::{Decompress, FlushDecompress, Status};
use git2::ObjectType;
use sha1::{Digest, Sha1};

/// What a pack may declare. Sizes are in bytes, inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackLimits {
    /// Objects in the pack.
    pub objects: u32,
    /// One blob that is stored whole.
    pub blob_bytes: u64,
    /// One commit, tree, tag or delta, or the result of a delta: what git holds in memory.
    pub memory_bytes: u64,
    /// All objects together, deltas counted by their results.
    pub total_bytes: u64,
    /// Deltas in the pack.
    pub deltas: u32,
    /// Deltas upon deltas.
    pub delta_depth: u16,
    /// The pack itself, as it travels.
    pub pack_bytes: u64,
}

impl PackLimits {
    /// For packs that are checked in memory. What exceeds them goes through git, if [`PackLimits::SPILLED`] allows.
    pub const INLINE: Self = Self {
        objects: 10_000,
        blob_bytes: 64 << 20,
        memory_bytes: 32 << 20,
        total_bytes: 64 << 20,
        deltas: 10_000,
        delta_depth: 50,
        pack_bytes: 64 << 20,
    };

    /// For every pack.
    pub const SPILLED: Self = Self {
        objects: 5_000_000,
        blob_bytes: 16 << 30,
        memory_bytes: 64 << 20,
        total_bytes: 1 << 40,
        deltas: 5_000_000,
        delta_depth: 50,
        pack_bytes: 256 << 30,
    };

    /// The same for a pack of `length` bytes: a short one may not declare as much in all as a long one. Deltas
    /// multiply honestly (fifty versions of a large file), so the factor is generous.
    #[must_use]
    pub fn for_length(self, length: u64) -> Self {
        let fair = length.saturating_mul(1000).saturating_add(1 << 30);
        Self { total_bytes: self.total_bytes.min(fair), ..self }
    }
}

/// Why a pack was not scanned to its end.
#[derive(Debug)]
pub(super) enum ScanError {
    /// The pack is bad.
    Bad(String),
    /// It could not be read.
    Io(std::io::Error),
}

/// What a pack holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) objects: u32,
    pub(super) deltas: u32,
    /// The content of its whole objects, if it was asked for and the pack has no delta.
    pub(super) whole: Vec<(ObjectType, Vec<u8>)>,
}

/// Scans a pack. With `keep`, the content of a pack of at most that many objects, none a delta, is kept.
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

/// The pack's bytes, counted and hashed as they pass.
struct Source<R> {
    reader: R,
    digest: Sha1,
    position: u64,
}

struct Scan<R> {
    source: Source<R>,
    limits: PackLimits,
    inflate: Decompress,
    /// Where each object begins and how deep its chain of deltas is, in ascending order.
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

    /// Type and size: four bits of the size in the first byte, seven in each that follows.
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

    /// How far before a delta its base begins.
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

    /// Inflates what must be exactly `size` bytes, block by block.
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

    /// Passes `count` bytes of the reader's buffer.
    fn consume(&mut self, count: usize) {
        if let Ok(buffer) = self.reader.fill_buf() {
            self.digest.update(&buffer[..count]);
        }
        self.reader.consume(count);
        self.position += count as u64;
    }
}

/// A size in a delta: seven bits a byte, lowest first. Gives the value and the bytes that it took.
fn varint(bytes: &[u8]) -> Result<(u64, usize), ScanError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    bad("a delta has no proper header")
}

fn cap(what: &str, value: u64, limit: u64) -> Result<(), ScanError> {
    if value <= limit {
        return Ok(());
    }
    bad(format!("{what} is {value}, above the limit of {limit}"))
}

#[cfg(test)]
mod tests;
