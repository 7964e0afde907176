//! XFS on a loop device over a file: a file system with reflinks.

use std::path::{Path, PathBuf};

use super::rig::run;

/// A file system. It is unmounted when this is dropped.
pub struct Xfs(PathBuf);

impl Xfs {
    /// Makes a file system of some bytes below a folder, and mounts it. Its file is sparse.
    ///
    /// # Errors
    /// Why this machine does not allow it.
    pub fn new(folder: &Path, bytes: u64) -> Result<Self, String> {
        let (image, mounted) = (folder.join("image"), folder.join("volume"));
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        std::fs::create_dir_all(&mounted).map_err(|error| error.to_string())?;
        run("mkfs.xfs", &[&image], &["-q", "-m", "reflink=1"])?;
        run("mount", &[&image, &mounted], &["-o", "loop"])?;
        Ok(Self(mounted))
    }

    /// The folder at which it is mounted.
    #[must_use]
    pub fn mounted(&self) -> &Path {
        &self.0
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        // The unmount is lazy, because a sidecar of a failing test may still use the volume.
        let _ = run("umount", &[&self.0], &["-l"]);
    }
}
