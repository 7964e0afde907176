//! Reads loose objects, without libgit2: it reads a file that is cut off for ever, because its loop waits for more
//! content while zlib makes no progress. A power cut leaves such files.
//!
//! An object is read whole or not at all: its zlib stream is complete, nothing follows it, and the content has the hash
//! of the id. Each file is read from the disk, block by block.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use flate2::{Decompress, FlushDecompress, Status};
use git2::{ObjectType, Oid};
use sha1::{Digest, Sha1};

use super::files::put_away;

/// The bytes that are inflated at a time.
const BLOCK: usize = 1 << 14;
/// Longest header, in bytes: a type and a size, with room to spare.
const HEADER: usize = 64;

/// An object from a file of its own.
pub(super) struct Loose {
    pub(super) kind: ObjectType,
    /// The header and the content.
    bytes: Vec<u8>,
    /// The position of the content.
    begin: usize,
}

impl Loose {
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

/// Why a loose object's file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// Its bytes are not those of the object.
    #[error("{0}")]
    Damaged(&'static str),
    /// The disk does not give its bytes now, which says nothing about them.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Returns the path of the object's loose file, whether or not it exists.
pub(super) fn loose_path(git_dir: &Path, oid: Oid) -> PathBuf {
    loose_in(&git_dir.join("objects"), oid)
}

/// Returns the path of the object's loose file in a folder of objects.
pub(super) fn loose_in(objects: &Path, oid: Oid) -> PathBuf {
    let digits = oid.to_string();
    objects.join(&digits[..2]).join(&digits[2..])
}

/// Whether a file is there and is empty, as a power cut leaves it.
pub(super) fn is_empty(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.len() == 0)
}

/// Reads an object from its file. `None` if the file is absent or empty.
pub(super) fn read(path: &Path, oid: Oid) -> Result<Option<Loose>, Unreadable> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut input = BufReader::with_capacity(BLOCK, file);
    if input.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let (mut bytes, mut head) = (Vec::new(), None);
    inflate(&mut input, |block| {
        bytes.extend_from_slice(block);
        head = head.or_else(|| header(&bytes));
        match head {
            Some((_, begin, size)) if bytes.len() - begin > size => {
                Err(Unreadable::Damaged("its content is longer than its header says"))
            }
            None if bytes.len() >= HEADER => Err(Unreadable::Damaged("its header is garbled")),
            _ => Ok(()),
        }
    })?;
    if Sha1::digest(&bytes)[..] != *oid.as_bytes() {
        return Err(Unreadable::Damaged("its content is not the one of its id"));
    }
    let (kind, begin, _) = head.ok_or(Unreadable::Damaged("its header is garbled"))?;
    Ok(Some(Loose { kind, bytes, begin }))
}

/// The type of an object, the position of its content, and the size of the content.
fn header(bytes: &[u8]) -> Option<(ObjectType, usize, usize)> {
    let end = bytes.iter().take(HEADER).position(|byte| *byte == 0)?;
    let (kind, size) = std::str::from_utf8(&bytes[..end]).ok()?.split_once(' ')?;
    let kind = match kind {
        "commit" => ObjectType::Commit,
        "tree" => ObjectType::Tree,
        "blob" => ObjectType::Blob,
        "tag" => ObjectType::Tag,
        _ => return None,
    };
    Some((kind, end + 1, size.parse().ok()?))
}

/// Inflates a whole file, and hands over its content block by block.
fn inflate(input: &mut impl BufRead, mut take: impl FnMut(&[u8]) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
    let (mut zlib, mut block) = (Decompress::new(true), [0; BLOCK]);
    loop {
        let (taken, given) = (zlib.total_in(), zlib.total_out());
        let status = zlib.decompress(input.fill_buf()?, &mut block, FlushDecompress::None);
        let status = status.map_err(|_| Unreadable::Damaged("its zlib stream is garbled"))?;
        let (taken, given) = ((zlib.total_in() - taken) as usize, (zlib.total_out() - given) as usize);
        input.consume(taken);
        take(&block[..given])?;
        match status {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError if taken == 0 && given == 0 => {
                return Err(Unreadable::Damaged("its file is cut off"));
            }
            Status::Ok | Status::BufError => {}
        }
    }
    match input.fill_buf()? {
        [] => Ok(()),
        _ => Err(Unreadable::Damaged("its file goes on behind its end")),
    }
}

/// Returns whether a loose object's content has the hash that its file name states. Needs no memory for the content.
pub(super) fn is_intact(path: &Path) -> std::io::Result<bool> {
    let mut digest = Sha1::new();
    let mut input = BufReader::with_capacity(BLOCK, File::open(path)?);
    let read = inflate(&mut input, |block| {
        digest.update(block);
        Ok(())
    });
    match read {
        Ok(()) => {}
        Err(Unreadable::Damaged(_)) => return Ok(false),
        Err(Unreadable::Io(error)) => return Err(error),
    }
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(hex::encode(digest.finalize()) == folder + &file)
}

/// Makes room for a new copy of an object. Git and libgit2 never replace an object that is there, so an empty file is
/// removed, and a damaged one is put away. Returns whether there was one.
pub(super) fn make_room(path: &Path) -> bool {
    if !matches!(is_intact(path), Ok(false)) {
        return false;
    }
    if is_empty(path) { std::fs::remove_file(path).is_ok() } else { put_away(path).is_ok_and(|files| files > 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with one loose blob. Returns its folder, the id, and the path of its file.
    fn with_blob(content: &[u8]) -> (tempfile::TempDir, Oid, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let oid = git2::Repository::init_bare(folder.path()).unwrap().blob(content).unwrap();
        let path = loose_path(folder.path(), oid);
        (folder, oid, path)
    }

    fn replace(path: &Path, bytes: &[u8]) {
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Some that fit into a block, and one of several blocks that does not compress well.
    fn contents() -> [Vec<u8>; 3] {
        let long = (0..40_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        [Vec::new(), b"some content".to_vec(), long]
    }

    #[test]
    fn an_intact_object_is_read_whole() {
        for content in contents() {
            let (_folder, oid, path) = with_blob(&content);
            let loose = read(&path, oid).unwrap().unwrap();
            assert_eq!((loose.kind, loose.data()), (ObjectType::Blob, &content[..]));
            assert!(is_intact(&path).unwrap() && !make_room(&path) && path.exists());
        }
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_damaged_and_an_empty_one_is_absent() {
        for content in contents() {
            let (_folder, oid, path) = with_blob(&content);
            let whole = std::fs::read(&path).unwrap();
            for length in [1, 2, 3, whole.len() / 2, whole.len() - 5, whole.len() - 1] {
                replace(&path, &whole[..length]);
                assert!(matches!(read(&path, oid), Err(Unreadable::Damaged(_))), "{length} of {}", whole.len());
                assert!(!is_intact(&path).unwrap());
            }
            replace(&path, b"");
            assert!(read(&path, oid).unwrap().is_none());
            assert!(make_room(&path) && !path.exists() && !path.with_added_extension("garbled").exists());
        }
    }

    #[test]
    fn any_other_content_is_damage() {
        let (folder, oid, path) = with_blob(b"some content");
        let whole = std::fs::read(&path).unwrap();
        let other = git2::Repository::open_bare(folder.path()).unwrap().blob(b"another content").unwrap();
        let other = std::fs::read(loose_path(folder.path(), other)).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 0xff;
        for bytes in [changed, [&whole[..], b"more"].concat(), other, b"\0\0\0\0".to_vec()] {
            replace(&path, &bytes);
            assert!(matches!(read(&path, oid), Err(Unreadable::Damaged(_))), "{bytes:?}");
            assert!(!is_intact(&path).unwrap());
        }
        assert!(make_room(&path) && !path.exists() && path.with_added_extension("garbled").exists());
    }
}
