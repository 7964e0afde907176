//! The folder of the copies, `<root>/.lockstep/drill`. Everything in it may be removed at any time at which no drill
//! runs: by the next start of the node, and by its next drill.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder of the copies of a volume with this root.
#[must_use]
pub fn copies(root: &Path) -> PathBuf {
    root.join(crate::seams::volume::lock::FOLDER).join("drill")
}

/// Whether two existing paths are on the same file system.
///
/// # Errors
/// One of them cannot be looked at.
pub fn is_on_file_system_of(path: &Path, other: &Path) -> Result<bool> {
    Ok(fs::metadata(path)?.dev() == fs::metadata(other)?.dev())
}

/// Removes a folder with everything in it. It follows no link, and refuses to go into another file system: a clone that
/// is mounted there may be the only one of its data. An absent folder is no error.
///
/// # Errors
/// Another file system is mounted in it, or the operating system refuses. A part may be removed.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(meta) if meta.is_dir() => {
            let parent = folder.parent().map(fs::metadata).transpose()?;
            remove_on(folder, parent.map_or(meta.dev(), |parent| parent.dev()))
        }
        Ok(_) => fs::remove_file(folder),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_on(folder: &Path, device: u64) -> Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    if meta.dev() != device {
        let why = format!("{} is another file system: unmount it, or delete the subvolume", folder.display());
        return Err(Error::other(why));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => remove_on(&entry.path(), device)?,
            false => gone(fs::remove_file(entry.path()))?,
        }
    }
    gone(fs::remove_dir(folder))
}

/// Takes the absence of a thing that should be removed for success.
fn gone(removed: Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        end => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_removed_with_its_links_and_what_they_lead_to_stays() {
        let home = tempfile::tempdir().unwrap();
        let (folder, outside) = (home.path().join("drill"), home.path().join("outside"));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        fs::write(folder.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("a/link")).unwrap();
        remove(&folder).unwrap();
        assert!(!folder.exists() && outside.join("kept").exists());
        remove(&folder).unwrap();
    }

    #[test]
    fn another_file_system_is_not_gone_into() {
        // The device of /proc is another one than that of any folder on a disk.
        let error = remove_on(Path::new("/proc/self"), 0).unwrap_err();
        assert!(error.to_string().contains("another file system"), "{error}");
    }
}
