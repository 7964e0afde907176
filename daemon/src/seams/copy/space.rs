//! Whether a copy fits: bytes and inodes of the file system that would hold it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::statvfs;

use super::{CopyError, Stop};

/// The share of a file system that must stay free beside a copy, in percent. Below it a preflight is red.
const FREE: u64 = 10;

/// The space that a copy needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes, as the files take them on the disk.
    pub bytes: u64,
    /// Inodes, one per file and per folder.
    pub inodes: u64,
}

/// Counts a file, or the files and folders below a folder, and their bytes on the disk. Absent files, and those that
/// vanish meanwhile, do not count.
///
/// # Errors
/// A folder cannot be read, or the owner has given up.
pub fn measure(path: &Path, stop: &Stop) -> Result<Need, CopyError> {
    let mut need = Need::default();
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => add(path, stop, &mut need)?,
        Ok(meta) => need = Need { bytes: meta.blocks() * 512, inodes: 1 },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(CopyError::io(path, error)),
    }
    Ok(need)
}

fn add(folder: &Path, stop: &Stop, need: &mut Need) -> Result<(), CopyError> {
    stop.check()?;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CopyError::io(folder, error)),
    };
    need.inodes += 1;
    for entry in entries {
        let entry = entry.map_err(|error| CopyError::io(folder, error))?;
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            add(&entry.path(), stop, need)?;
        } else {
            need.inodes += 1;
            need.bytes += meta.blocks() * 512;
        }
    }
    Ok(())
}

/// Why something does not fit on the file system of a folder. `None` if it does, and a tenth stays free.
#[must_use]
pub fn fits(folder: &Path, need: Need) -> Option<String> {
    let found = match statvfs(folder) {
        Ok(found) => found,
        Err(error) => return Some(format!("{} cannot be looked at: {error}", folder.display())),
    };
    let (free, all) = (found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize);
    let of_bytes = lacks(need.bytes, free, all).then(|| format!("{} MiB are free", free >> 20));
    let of_inodes =
        lacks(need.inodes, found.f_favail, found.f_files).then(|| format!("{} inodes are free", found.f_favail));
    let why = of_bytes.or(of_inodes)?;
    let Need { bytes, inodes } = need;
    Some(format!(
        "{}: the copy needs {} MiB and {inodes} inodes, {FREE} % of the file system must stay free, and {why}; make \
         room, or use a reflink or a snapshot (drill.silent.copy)",
        folder.display(),
        bytes.div_ceil(1 << 20)
    ))
}

/// Whether too little is left. A file system without a fixed number of inodes says that it has none.
fn lacks(need: u64, free: u64, all: u64) -> bool {
    all > 0 && free.saturating_sub(need) < all / 100 * FREE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_fits_while_a_tenth_stays_free() {
        assert!(!lacks(100, 300, 1_000));
        assert!(!lacks(200, 300, 1_000));
        assert!(lacks(201, 300, 1_000));
        assert!(lacks(400, 300, 1_000), "more than there is");
        assert!(!lacks(5, 0, 0), "no fixed number of inodes");
        let folder = tempfile::tempdir().unwrap();
        let why = fits(folder.path(), Need { bytes: u64::MAX >> 1, inodes: 1 }).unwrap();
        assert!(why.contains("MiB are free") && why.contains("drill.silent.copy"), "{why}");
    }

    #[test]
    fn files_and_folders_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), [1; 5_000]).unwrap();
        let need = measure(folder.path(), &Stop::default()).unwrap();
        assert_eq!(need.inodes, 3);
        assert!(need.bytes >= 4_096, "{need:?}");
        let file = measure(&folder.path().join("a/b"), &Stop::default()).unwrap();
        assert_eq!((file.inodes, file.bytes >= 4_096), (1, true), "{file:?}");
        assert_eq!(measure(&folder.path().join("none"), &Stop::default()).unwrap(), Need::default());
    }
}
