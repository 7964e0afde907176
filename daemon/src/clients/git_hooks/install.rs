//! Installs the bridge in a bare repository: two hooks, and the settings that make git use them. Undoes it, too.
//!
//! The hooks name the binary by its absolute path, because git's `PATH` may not contain it. They lie in the
//! repository's own folder, wherever `core.hooksPath` leads ([`super::hooks_folder`]). A second installation replaces
//! Lockstep's own hooks. If there is another hook of the same name, the installation leaves it as it is and fails.

use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::config_changes::{self, Undo};
use super::git::GitDir;
use super::hook_files::{HOOKS, MARK, is_ours, remove_hook, shell_quoted, write_hook};
pub use super::hook_files::{InstallError, unfit};
use super::hooks_folder::{self, Folders};
use crate::seams::git::fitness;

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

fn refuse_foreign(path: &Path) -> Result<(), InstallError> {
    if path.symlink_metadata().is_ok() && !is_ours(path)? {
        return Err(InstallError::ForeignHook(path.to_owned()));
    }
    Ok(())
}
