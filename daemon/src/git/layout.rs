//! Where things lie on the volume: `<root>/<project>.git`, and `<root>/.lockstep` for what is our own.
//!
//! Project names are validated newtypes without `..`, so a path can leave the root only through a symbolic link.
//! [`Layout::locate`] resolves links and refuses what ends outside; a folder is named by device and inode, so
//! that a handle of a deleted repository is never taken for its successor's.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::GitError;

/// A folder on disk, whatever its name is at the moment: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

/// The volume's folders.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes our own folders below `root`, which must exist.
    pub(super) fn open(root: &Path) -> std::io::Result<Self> {
        let layout = Self { root: root.canonicalize()? };
        for folder in [layout.tmp(), layout.spill(), layout.trash(), layout.intents()] {
            std::fs::create_dir_all(folder)?;
        }
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join(".lockstep/tmp")
    }

    pub(super) fn spill(&self) -> PathBuf {
        self.root.join(".lockstep/spill")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join(".lockstep/trash")
    }

    pub(super) fn intents(&self) -> PathBuf {
        self.root.join(".lockstep/intents")
    }

    /// Its time of modification tells when the sync that is under way began.
    pub(super) fn sync_begun(&self) -> PathBuf {
        self.root.join(".lockstep/syncing")
    }

    /// Its time of modification tells when the last sync began that made the volume durable.
    pub(super) fn sync_mark(&self) -> PathBuf {
        self.root.join(".lockstep/synced")
    }

    /// Where the project's repository is, or would be.
    pub(super) fn git_dir(&self, project: &ProjectName) -> PathBuf {
        self.root.join(format!("{project}.git"))
    }

    /// The project's repository: its path and identity. A link that leaves the root is refused.
    pub(super) fn locate(&self, project: &ProjectName) -> Result<(PathBuf, Identity), GitError> {
        let path = self.git_dir(project);
        let meta = match std::fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(GitError::NoRepository(project.clone()));
            }
            Err(error) => return Err(failed(project, "find the repository", error)),
        };
        self.confine(project, &path)?;
        Ok((path, Identity(meta.dev(), meta.ino())))
    }

    /// Refuses a path whose existing part, links resolved, is not below the root.
    pub(super) fn confine(&self, project: &ProjectName, path: &Path) -> Result<(), GitError> {
        let existing = path.ancestors().find(|part| part.symlink_metadata().is_ok()).unwrap_or(&self.root);
        let real = existing.canonicalize().map_err(|error| failed(project, "resolve the repository's path", error))?;
        if real.starts_with(&self.root) {
            return Ok(());
        }
        let why =
            format!("{} leads out of the volume, to {}; remove the symbolic link", path.display(), real.display());
        Err(failed(project, "resolve the repository's path", why))
    }
}

/// An error of the disk, of git or of the volume.
pub(super) fn failed(project: impl ToString, op: &'static str, why: impl ToString) -> GitError {
    GitError::Failed { project: project.to_string(), op, why: why.to_string() }
}
