//! The layout of the volume: `<root>/<project>.git` for repositories, and `<root>/.lockstep` for the sidecar's own
//! files. Some projects have another root ([`crate::base::base_paths`]). Each root has its own `.lockstep` beside its
//! repositories.
//!
//! Project names are validated newtypes without `..`, so a path can leave a root only through a symbolic link.
//! [`Layout::locate`] resolves links and refuses a path that ends outside. A folder is identified by device and inode,
//! so a handle of a deleted repository is never taken for a handle of its successor.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::GitError;
use crate::base::base_paths::BasePaths;

/// The identity of a folder on disk, independent of its current name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    fn of(folder: &Path) -> std::io::Result<Self> {
        folder.metadata().map(|meta| Self(meta.dev(), meta.ino()))
    }
}

/// The folders of a volume.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    base_paths: BasePaths,
    /// The identity of each root when the volume was opened, in the order of the folders.
    opened: Vec<Identity>,
}

/// The sidecar's own folder beside the repositories of one root, on the same file system. New repositories are renamed
/// out of it, and deleted ones into it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own<'a> {
    pub(super) root: &'a Path,
}

impl Own<'_> {
    pub(super) fn tmp(self) -> PathBuf {
        self.root.join(".lockstep/tmp")
    }

    pub(super) fn trash(self) -> PathBuf {
        self.root.join(".lockstep/trash")
    }

    /// The stamp of the sidecar's life that worked here last.
    pub(super) fn stamp(self) -> PathBuf {
        self.root.join(".lockstep/life")
    }

    /// A file of the sync in progress. Its modification time tells when that sync began, and its content which sync it
    /// is.
    pub(super) fn sync_begun(self) -> PathBuf {
        self.root.join(".lockstep/syncing")
    }

    /// A file of the last sync that made this folder durable. Its modification time tells when that sync began, and its
    /// content which sync it was.
    pub(super) fn sync_mark(self) -> PathBuf {
        self.root.join(".lockstep/synced")
    }
}

impl Layout {
    /// Creates the sidecar's own folders below each folder. The folders must exist.
    pub(super) fn open(base_paths: &BasePaths) -> std::io::Result<Self> {
        let base_paths = base_paths.resolve().map_err(std::io::Error::other)?;
        let opened = base_paths.all().into_iter().map(Identity::of).collect::<std::io::Result<_>>()?;
        let layout = Self { base_paths, opened };
        for own in layout.owns() {
            std::fs::create_dir_all(own.tmp())?;
            std::fs::create_dir_all(own.trash())?;
        }
        std::fs::create_dir_all(layout.spill())?;
        std::fs::create_dir_all(layout.intents())?;
        Ok(layout)
    }

    pub(super) fn base_paths(&self) -> &BasePaths {
        &self.base_paths
    }

    /// Fails when a file system of the volume was mounted or unmounted after the volume was opened: files that were
    /// written before are no longer below these paths.
    pub(super) fn check_in_place(&self) -> std::io::Result<()> {
        for (root, opened) in self.base_paths.all().into_iter().zip(&self.opened) {
            if Identity::of(root)? != *opened {
                return Err(std::io::Error::other(format!(
                    "{} is another folder than at the start: its file system was mounted or unmounted meanwhile; \
                     mount it as it was, or restart the sidecar",
                    root.display()
                )));
            }
        }
        Ok(())
    }

    /// Returns the sidecar's own folder on a project's file system.
    pub(super) fn own(&self, project: &ProjectName) -> Own<'_> {
        Own { root: self.base_paths.of(project) }
    }

    /// Returns the sidecar's own folder of each root.
    pub(super) fn owns(&self) -> Vec<Own<'_>> {
        self.base_paths.all().into_iter().map(|root| Own { root }).collect()
    }

    /// The folder for packs that arrive or leave. A pack that a repository of this file system keeps gets a second name
    /// there.
    pub(super) fn spill(&self) -> PathBuf {
        self.base_paths.root().join(".lockstep/spill")
    }

    pub(super) fn intents(&self) -> PathBuf {
        self.base_paths.root().join(".lockstep/intents")
    }

    /// The file with the base paths of the last start, one per line.
    pub(super) fn used(&self) -> PathBuf {
        self.base_paths.root().join(".lockstep/base-paths")
    }

    /// Returns the path of the project's repository, whether or not it exists.
    pub(super) fn git_dir(&self, project: &ProjectName) -> PathBuf {
        self.base_paths.git_dir(project)
    }

    /// Returns the path and identity of the project's repository. A link that leaves the root is refused.
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

    /// Refuses a path whose existing part, with links resolved, is not below the project's root.
    pub(super) fn confine(&self, project: &ProjectName, path: &Path) -> Result<(), GitError> {
        confine(project, path, &[self.base_paths.of(project)])
    }

    /// Refuses a path whose existing part, with links resolved, is below none of the volume's folders.
    pub(super) fn confine_to_volume(&self, project: &ProjectName, path: &Path) -> Result<(), GitError> {
        confine(project, path, &self.base_paths.all())
    }
}

fn confine(project: &ProjectName, path: &Path, folders: &[&Path]) -> Result<(), GitError> {
    const OP: &str = "resolve the repository's path";
    let existing = path.ancestors().find(|part| part.symlink_metadata().is_ok()).unwrap_or(path);
    let real = existing.canonicalize().map_err(|error| failed(project, OP, error))?;
    if folders.iter().any(|root| real.starts_with(root)) {
        return Ok(());
    }
    let why = format!("{} leads out of the volume, to {}; remove the symbolic link", path.display(), real.display());
    Err(failed(project, OP, why))
}

/// Builds the error for a failure of the disk, of git or of the volume.
pub(super) fn failed(project: impl ToString, op: &'static str, why: impl ToString) -> GitError {
    GitError::Failed { project: project.to_string(), op, why: why.to_string() }
}
