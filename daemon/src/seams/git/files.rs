//! Files of object stores: their names, their order, their checksums; and how a damaged one is put away.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Returns the paths in a folder, sorted; empty when the folder does not exist.
pub(super) fn children(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Returns the indexes of the packs in a folder of objects, sorted; empty when the folder does not exist.
pub(super) fn indexes(objects: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = children(&objects.join("pack"))?;
    paths.retain(|path| has_extension(path, "idx"));
    Ok(paths)
}

/// Whether a file's name ends so, behind its last dot.
pub(super) fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

/// Returns whether the path is one of the 256 folders of loose objects.
pub(super) fn is_fan_out(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit)
}

/// Returns whether a pack or an index ends with the SHA-1 of the bytes before it.
pub(super) fn is_sealed(path: &Path) -> std::io::Result<bool> {
    use sha1::Digest;
    let file = File::open(path)?;
    let Some(length) = file.metadata()?.len().checked_sub(20) else { return Ok(false) };
    let mut content = std::io::BufReader::with_capacity(1 << 16, file);
    let mut digest = sha1::Sha1::new();
    std::io::copy(&mut (&mut content).take(length), &mut digest)?;
    let mut seal = [0; 20];
    content.read_exact(&mut seal)?;
    Ok(digest.finalize()[..] == seal)
}

/// Whether an index and its pack are there, each with the right checksum.
pub(super) fn is_pack_sealed(index: &Path) -> std::io::Result<bool> {
    let pack = index.with_extension("pack");
    Ok(is_sealed(index)? && pack.exists() && is_sealed(&pack)?)
}

/// Renames a file so that git no longer reads it, and an operator still can. Returns the number of files that were
/// there.
pub(super) fn put_away(path: &Path) -> std::io::Result<u64> {
    match std::fs::rename(path, path.with_added_extension("garbled")) {
        Ok(()) => Ok(1),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
