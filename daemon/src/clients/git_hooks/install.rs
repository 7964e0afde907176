//! Installs the bridge in a bare repository: two hooks, and the settings that make git use them. Undoes it, too.
//!
//! The hooks name the binary by its absolute path, because git's `PATH` may not contain it. They lie in the
//! repository's own folder, wherever `core.hooksPath` leads ([`super::hooks_folder`]). A second installation replaces
//! Lockstep's own hooks. If there is another hook of the same name, the installation leaves it as it is and fails.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::config_changes::{self, Undo};
use super::git::{GitDir, GitError};
use super::hooks_folder::{self, Folders};
use crate::seams::git::fitness::{self, Unfit};

/// The line that identifies a hook as written by Lockstep.
pub(super) const MARK: &str = "# Written by `lockstep hook install`; written again by it.";

/// The hooks that the installation writes.
pub(super) const HOOKS: [&str; 2] = ["proc-receive", "reference-transaction"];

/// The setting that hands the refs of a push to the hook, and its value for all refs.
pub(super) const HANDED_OVER: (&str, &str) = ("receive.procReceiveRefs", "refs");

/// The setting that hides the sidecar's own refs, and its value.
const HIDDEN: (&str, &str) = ("transfer.hideRefs", "refs/lockstep");

/// The values that an installation writes into hooks and settings.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The path of the bare repository.
    pub repository: PathBuf,
    /// The path that the repository will have, if it is not in its place yet.
    pub place: Option<PathBuf>,
    /// The project that the repository belongs to.
    pub project: ProjectName,
    /// The path of the sidecar's socket. It is stored as an absolute path.
    pub socket: PathBuf,
    /// The absolute path of the `lockstep` binary.
    pub binary: PathBuf,
}

/// An error of [`install`] or [`uninstall`].
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
        /// The hook.
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

/// Installs hooks and settings.
///
/// # Errors
/// See [`InstallError`]. The installation can be repeated after each of them.
pub fn install(what: &Installation) -> Result<(), InstallError> {
    let git = GitDir::at(&what.repository)?;
    refuse_unfit(&git)?;
    let place = what.place.as_deref().unwrap_or(git.path());
    let folders = Folders::of(&git, place)?;
    let socket = std::path::absolute(&what.socket)
        .map_err(|source| InstallError::Io { path: what.socket.clone(), source })?
        .display()
        .to_string();
    if folders.own.is_symlink() {
        return Err(InstallError::LinkedFolder(folders.own));
    }
    for name in HOOKS {
        refuse_foreign(&folders.own.join(name))?;
    }
    std::fs::create_dir_all(&folders.own).map_err(|source| InstallError::Io { path: folders.own.clone(), source })?;
    hooks_folder::pin(&git, &folders)?;
    config_changes::set(&git, "lockstep.project", what.project.as_str())?;
    config_changes::set(&git, "lockstep.socket", &socket)?;
    write_hook(&folders.own.join("proc-receive"), &script(&what.binary, "proc-receive")?)?;
    write_hook(&folders.own.join("reference-transaction"), &script(&what.binary, "reference-transaction \"$@\"")?)?;
    // These come last: from here on, git needs the hook for every push.
    config_changes::add(&git, HIDDEN.0, HIDDEN.1)?;
    Ok(config_changes::add(&git, HANDED_OVER.0, HANDED_OVER.1)?)
}

/// Removes hooks and settings of the installation, and restores those that it replaced. A setting that somebody else
/// wrote stays.
///
/// # Errors
/// Lockstep is not installed there, or see [`InstallError`]. It can be repeated after each of them.
pub fn uninstall(repository: &Path) -> Result<(), InstallError> {
    let git = GitDir::at(repository)?;
    let own = git.path().join("hooks");
    let notes = config_changes::notes(&git)?;
    if git.local("lockstep.project")?.is_empty() && notes.is_empty() && !is_ours(&own.join(HOOKS[0]))? {
        return Err(InstallError::NotInstalled(git.path().to_owned()));
    }
    // This comes first: from here on, git needs no hook for a push. Earlier releases wrote no note of it.
    config_changes::undo(&git, &Undo::Drop(HANDED_OVER.0.to_owned(), HANDED_OVER.1.to_owned()))?;
    for name in HOOKS {
        remove_hook(&own.join(name))?;
    }
    hooks_folder::remove_passed_on(&own)?;
    for note in notes.iter().rev() {
        config_changes::undo(&git, note)?;
    }
    config_changes::unset(&git, "lockstep.socket")?;
    config_changes::unset(&git, "lockstep.project")?;
    Ok(config_changes::forget(&git)?)
}

fn refuse_unfit(git: &GitDir) -> Result<(), InstallError> {
    let path = git.path().to_owned();
    let fitness = fitness::look(&path).map_err(|source| InstallError::Io { path: path.clone(), source })?;
    if fitness.unfit.is_empty() { Ok(()) } else { Err(InstallError::Unfit { path, reasons: fitness.unfit }) }
}

fn script(binary: &Path, subcommand: &str) -> Result<String, InstallError> {
    Ok(format!("#!/bin/sh\n{MARK}\nexec {} hook {subcommand}\n", shell_quoted(binary)?))
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

fn refuse_foreign(path: &Path) -> Result<(), InstallError> {
    if path.symlink_metadata().is_ok() && !is_ours(path)? {
        return Err(InstallError::ForeignHook(path.to_owned()));
    }
    Ok(())
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
