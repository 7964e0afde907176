//! The files of the hooks that Lockstep writes, and the errors of their installation.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::git::GitError;
use crate::seams::git::fitness::Unfit;

/// The line that identifies a hook as written by Lockstep.
pub(super) const MARK: &str = "# Written by `lockstep hook install`; written again by it.";

/// The hooks that the installation writes.
pub(super) const HOOKS: [&str; 2] = ["proc-receive", "reference-transaction"];

/// An error of the installation, or of its undoing.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A git command failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// Lockstep does not support repositories of this kind.
    #[error("{}", unfit(path, reasons))]
    Unfit {
        /// The repository's git folder.
        path: PathBuf,
        /// Its properties that Lockstep does not support, with the remedy of each.
        reasons: Vec<Unfit>,
    },
    /// A hook of the same name exists that Lockstep did not write.
    #[error(
        "{} is a hook that Lockstep did not write; move its checks into `pre-receive` or `update`, remove it, and \
         install again",
        .0.display()
    )]
    ForeignHook(PathBuf),
    /// A hook would come into force that was not in force before.
    #[error(
        "{} is not in force now, because core.hooksPath is {}; the installation would bring it into force: remove it, \
         or move its checks into {}, and install again",
        hook.display(), shared.display(), shared.display()
    )]
    Dormant {
        /// The path of the dormant hook.
        hook: PathBuf,
        /// The folder in which git looks now.
        shared: PathBuf,
    },
    /// The folder `hooks` of the repository is a link.
    #[error(
        "{} is a link, and other repositories may share the folder behind it; put a folder in its place: `cp -rL {} \
         {}.own && rm {} && mv {}.own {}`, then install again",
        .0.display(), .0.display(), .0.display(), .0.display(), .0.display(), .0.display()
    )]
    LinkedFolder(PathBuf),
    /// A path cannot be written into a shell script.
    #[error("the path {} contains a quote or is not UTF-8, so no hook can call it; rename it", .0.display())]
    BadPath(PathBuf),
    /// Lockstep is not installed in the repository.
    #[error("{} has no hooks of Lockstep; nothing was changed", .0.display())]
    NotInstalled(PathBuf),
    /// The operating system reported an error.
    #[error("{} cannot be read or written: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The sentence for a repository that is not fit: its path, and the reasons.
#[must_use]
pub fn unfit(path: &Path, reasons: &[Unfit]) -> String {
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    format!("{}: {}", path.display(), reasons.join("; also, "))
}

/// A path as one word of a shell script.
pub(super) fn shell_quoted(path: &Path) -> Result<String, InstallError> {
    let bad = || InstallError::BadPath(path.to_owned());
    let text = path.to_str().filter(|path| !path.contains(['\'', '\n'])).ok_or_else(bad)?;
    Ok(format!("'{text}'"))
}

/// Whether Lockstep wrote this hook. `false` if there is none.
pub(super) fn is_ours(path: &Path) -> Result<bool, InstallError> {
    match std::fs::read(path) {
        Ok(found) => Ok(found.windows(MARK.len()).any(|part| part == MARK.as_bytes())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(InstallError::Io { path: path.to_owned(), source }),
    }
}

/// Writes a hook to a temporary file and renames it, so that a push runs either the old hook or the new one.
pub(super) fn write_hook(path: &Path, text: &str) -> Result<(), InstallError> {
    let draft = path.with_extension("lockstep-new");
    let written = std::fs::write(&draft, text)
        .and_then(|()| std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)))
        .and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|source| InstallError::Io { path: path.to_owned(), source })
}

/// Removes a hook that Lockstep wrote. Another hook stays.
pub(super) fn remove_hook(path: &Path) -> Result<(), InstallError> {
    if is_ours(path)? {
        std::fs::remove_file(path).map_err(|source| InstallError::Io { path: path.to_owned(), source })?;
    }
    Ok(())
}
