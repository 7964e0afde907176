//! Writes a pack entry by entry, also one that no program would write.

use std::cell::RefCell;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use git2::{ObjectType, Oid};
use sha1::{Digest, Sha1};

use super::Forge;

/// The length of a pack's header.
const HEADER: usize = 12;
/// The type of an entry that names its base by the distance to it.
const OFS_DELTA: u8 = 6;
/// The type of an entry that names its base by the id.
const REF_DELTA: u8 = 7;

/// A pack that is being written.
#[derive(Debug)]
pub struct Packing {
    name: &'static str,
    entries: RefCell<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    bytes: Vec<u8>,
    count: u32,
}

impl Packing {
    /// An empty pack. Its name is in the content of its objects, so that no two packs have an object in common.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, entries: RefCell::default() }
    }

    /// The content of a file that only this pack has.
    pub(super) fn text(&self) -> Vec<u8> {
        (0..40).flat_map(|line| format!("{} {line}\n", self.name).into_bytes()).collect()
    }

    /// Adds an object as it is. Returns its id.
    pub(super) fn object(&self, kind: ObjectType, content: &[u8]) -> String {
        self.entry(code(kind), content.len(), &[], &deflated(content));
        id(kind, content)
    }

    /// Adds what a forge writes.
    pub(super) fn forge<T>(&self, make: impl FnOnce(&Forge<'_>) -> T) -> T {
        let write = |kind: ObjectType, content: &[u8]| self.object(kind, content);
        make(&Forge::new(&write))
    }

    /// Adds a commit with one file, whose blob is `blob`. Returns its id.
    pub(super) fn commit(&self, blob: &str) -> String {
        self.forge(|forge| forge.commit(&forge.tree(&[("100644", b"a", blob)])))
    }

    /// Adds an ordinary commit with its file. Returns its id.
    pub(super) fn ordinary(&self) -> String {
        self.commit(&self.object(ObjectType::Blob, &self.text()))
    }

    /// The place of the next entry, from the start of the pack.
    pub(super) fn offset(&self) -> usize {
        HEADER + self.entries.borrow().bytes.len()
    }

    /// Adds a delta that appends `more` to the content of the entry at `offset`. Returns the result.
    pub(super) fn ofs_delta(&self, offset: usize, base: &[u8], more: &[u8]) -> Vec<u8> {
        let delta = appends(base.len(), more);
        self.entry(OFS_DELTA, delta.len(), &distance(self.offset() - offset), &deflated(&delta));
        [base, more].concat()
    }

    /// Adds a delta that appends `more` to the content of the object `id`. Returns the result.
    pub(super) fn ref_delta(&self, id: &str, base: &[u8], more: &[u8]) -> Vec<u8> {
        let delta = appends(base.len(), more);
        let id = Oid::from_str(id).expect("an object id");
        self.entry(REF_DELTA, delta.len(), id.as_bytes(), &deflated(&delta));
        [base, more].concat()
    }

    /// Adds an entry of a type that claims this size: the base, if it has one, then the data as they are.
    pub(super) fn entry(&self, code: u8, size: usize, base: &[u8], data: &[u8]) {
        let mut entries = self.entries.borrow_mut();
        // Four bits of the size, then seven per byte, lowest first.
        let mut byte = (code << 4) | (size & 15) as u8;
        let mut rest = size >> 4;
        while rest > 0 {
            entries.bytes.push(byte | 128);
            byte = (rest & 127) as u8;
            rest >>= 7;
        }
        entries.bytes.push(byte);
        entries.bytes.extend_from_slice(base);
        entries.bytes.extend_from_slice(data);
        entries.count += 1;
    }

    /// The number of entries.
    pub(super) fn count(&self) -> u32 {
        self.entries.borrow().count
    }

    /// The pack.
    pub(super) fn pack(&self) -> Vec<u8> {
        self.pack_that_claims(2, self.count())
    }

    /// The pack, with this version and this count in its header.
    pub(super) fn pack_that_claims(&self, version: u32, count: u32) -> Vec<u8> {
        let mut pack = b"PACK".to_vec();
        pack.extend_from_slice(&version.to_be_bytes());
        pack.extend_from_slice(&count.to_be_bytes());
        pack.extend_from_slice(&self.entries.borrow().bytes);
        let sum = Sha1::digest(&pack);
        pack.extend_from_slice(&sum);
        pack
    }
}

/// The id of an object.
pub(super) fn id(kind: ObjectType, content: &[u8]) -> String {
    Oid::hash_object(kind, content).expect("an object").to_string()
}

/// The code of a type in a pack.
pub(super) fn code(kind: ObjectType) -> u8 {
    match kind {
        ObjectType::Commit => 1,
        ObjectType::Tree => 2,
        ObjectType::Blob => 3,
        ObjectType::Tag => 4,
        other => panic!("{other} is no type of an object"),
    }
}

/// The content, compressed.
pub(super) fn deflated(content: &[u8]) -> Vec<u8> {
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
    deflate.write_all(content).expect("memory takes it");
    deflate.finish().expect("memory takes it")
}

/// A delta upon a base of this length: the whole of it, then `more`.
fn appends(base: usize, more: &[u8]) -> Vec<u8> {
    let [low, high] = u16::try_from(base).expect("a short base").to_le_bytes();
    let insert = u8::try_from(more.len()).expect("a short insertion");
    let mut delta = [size(base), size(base + more.len())].concat();
    delta.extend([0xb0, low, high, insert]);
    delta.extend_from_slice(more);
    delta
}

/// A size in a delta: seven bits per byte, lowest first.
fn size(mut size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while size > 127 {
        bytes.push(128 | (size & 127) as u8);
        size >>= 7;
    }
    bytes.push(size as u8);
    bytes
}

/// The distance to a base: seven bits per byte, highest first, and each further byte counts one more.
fn distance(mut distance: usize) -> Vec<u8> {
    let mut bytes = vec![(distance & 127) as u8];
    while distance > 127 {
        distance = (distance >> 7) - 1;
        bytes.push(128 | (distance & 127) as u8);
    }
    bytes.reverse();
    bytes
}
