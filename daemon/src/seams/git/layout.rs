//! Where things lie on the volume: `<root>/<project>.git`, and `<root>/.lockstep` for what is our own. The root is another
//! one for some projects ([`crate::base::base_paths`]), and each has what is our own beside its repositories.
//!
//! Project names are validated newtypes without `..`, so a path can leave a root only through a symbolic link.
//! [`Layout::locate`] resolves links and refuses what ends outside; a folder is named by device and inode, so
//! that a handle of a deleted repository is never taken for its successor's.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::GitError;
use crate::base::base_paths::Roots;

/// A folder on disk, whatever its name is at the moment: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    fn of(folder: &Path) -> std::io::Result<Self> {
        folder.metadata().map(|meta| Self(meta.dev(), meta.ino()))
    }
}

/// The volume's folders.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    roots: Roots,
    /// What each of the roots was when the volume was opened, in their order.
    opened: Vec<Identity>,
}

/// What is our own beside the repositories of one folder, on their file system: from there a repository is renamed in, and
/// there to be removed.
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

    /// Which life of which node worked here last.
    pub(super) fn stamp(self) -> PathBuf {
        self.root.join(".lockstep/life")
    }

    /// Its time of modification tells when the sync that is under way began, and its content which sync that is.
    pub(super) fn sync_begun(self) -> PathBuf {
        self.root.join(".lockstep/syncing")
    }

    /// Its time of modification tells when the last sync began that made this folder durable, and its content which one.
    pub(super) fn sync_mark(self) -> PathBuf {
        self.root.join(".lockstep/synced")
    }
}

impl Layout {
    /// Makes our own folders below each root. The roots must exist.
    pub(super) fn open(roots: &Roots) -> std::io::Result<Self> {
        let roots = roots.resolve().map_err(std::io::Error::other)?;
        let opened = roots.all().into_iter().map(Identity::of).collect::<std::io::Result<_>>()?;
        let layout = Self { roots, opened };
        for own in layout.owns() {
            std::fs::create_dir_all(own.tmp())?;
            std::fs::create_dir_all(own.trash())?;
        }
        std::fs::create_dir_all(layout.spill())?;
        std::fs::create_dir_all(layout.intents())?;
        Ok(layout)
    }

    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Refuses a volume of which a file system was mounted or unmounted since it was opened: what was written before is not
    /// below these paths any more.
    pub(super) fn check_in_place(&self) -> std::io::Result<()> {
        for (root, opened) in self.roots.all().into_iter().zip(&self.opened) {
            if Identity::of(root)? != *opened {
                return Err(std::io::Error::other(format!(
                    "{} is another folder than at the start; was its file system mounted, or unmounted?",
                    root.display()
                )));
            }
        }
        Ok(())
    }

    /// What is our own on a project's file system.
    pub(super) fn own(&self, project: &ProjectName) -> Own<'_> {
        Own { root: self.roots.of(project) }
    }

    /// What is our own, of each folder.
    pub(super) fn owns(&self) -> Vec<Own<'_>> {
        self.roots.all().into_iter().map(|root| Own { root }).collect()
    }

    /// Packs that arrive or leave: they are read from there, and renamed nowhere.
    pub(super) fn spill(&self) -> PathBuf {
        self.roots.root().join(".lockstep/spill")
    }

    pub(super) fn intents(&self) -> PathBuf {
        self.roots.root().join(".lockstep/intents")
    }

    /// The base paths of the last start, a line each.
    pub(super) fn used(&self) -> PathBuf {
        self.roots.root().join(".lockstep/base-paths")
    }

    /// Where the project's repository is, or would be.
    pub(super) fn git_dir(&self, project: &ProjectName) -> PathBuf {
        self.roots.git_dir(project)
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

    /// Refuses a path of the project whose existing part, links resolved, is not below its folder.
    pub(super) fn confine(&self, project: &ProjectName, path: &Path) -> Result<(), GitError> {
        confine(project, path, &[self.roots.of(project)])
    }

    /// Refuses a path whose existing part, links resolved, is below none of the volume's folders.
    pub(super) fn confine_to_volume(&self, project: &ProjectName, path: &Path) -> Result<(), GitError> {
        confine(project, path, &self.roots.all())
    }
}

fn confine(project: &ProjectName, path: &Path, roots: &[&Path]) -> Result<(), GitError> {
    const OP: &str = "resolve the repository's path";
    let existing = path.ancestors().find(|part| part.symlink_metadata().is_ok()).unwrap_or(path);
    let real = existing.canonicalize().map_err(|error| failed(project, OP, error))?;
    if roots.iter().any(|root| real.starts_with(root)) {
        return Ok(());
    }
    let why = format!("{} leads out of the volume, to {}; remove the symbolic link", path.display(), real.display());
    Err(failed(project, OP, why))
}

/// An error of the disk, of git or of the volume.
pub(super) fn failed(project: impl ToString, op: &'static str, why: impl ToString) -> GitError {
    GitError::Failed { project: project.to_string(), op, why: why.to_string() }
}
