//! Installs the bridge in a bare repository: two hooks, and the settings that make git use them.
//!
//! The hooks name the binary by its absolute path, because git's `PATH` may not contain it. A second installation
//! replaces Lockstep's own hooks. If there is another hook of the same name, the installation leaves it as it is and
//! fails.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::git::{GitDir, GitError};

/// The line that identifies a hook as written by Lockstep.
const MARK: &str = "# Written by `lockstep hook install`; written again by it.";

/// The values that an installation writes into hooks and settings.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The path of the bare repository.
    pub repository: PathBuf,
    /// The project that the repository belongs to.
    pub project: ProjectName,
    /// The path of the sidecar's socket. It is stored as an absolute path.
    pub socket: PathBuf,
    /// The absolute path of the `lockstep` binary.
    pub binary: PathBuf,
}

/// An error of [`install`].
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A git command failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// Lockstep does not support repositories of this kind.
    #[error("{}: {why}", repository.display())]
    Unsupported {
        /// The repository's git folder.
        repository: PathBuf,
        /// The property of the repository that Lockstep does not support, and the remedy.
        why: &'static str,
    },
    /// A hook of the same name exists that Lockstep did not write.
    #[error(
        "{} is a hook that Lockstep did not write; move its checks into `pre-receive` or `update`, remove it, and \
         install again",
        .0.display()
    )]
    ForeignHook(PathBuf),
    /// The binary's path cannot be written into a shell script.
    #[error("the path of the lockstep binary, {}, contains a quote or is not UTF-8; move the binary", .0.display())]
    BadPath(PathBuf),
    /// The operating system reported an error.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Installs hooks and settings.
///
/// # Errors
/// See [`InstallError`]. The installation can be repeated after each of them.
pub fn install(what: &Installation) -> Result<(), InstallError> {
    let git = GitDir::at(&what.repository)?;
    check_kind(&git)?;
    let socket = std::path::absolute(&what.socket)
        .map_err(|source| InstallError::Io { path: what.socket.clone(), source })?
        .display()
        .to_string();
    for (key, value) in [
        ("lockstep.project", what.project.as_str()),
        ("lockstep.socket", socket.as_str()),
        ("receive.advertiseAtomic", "true"),
    ] {
        git.run(&["config", key, value])?;
    }
    let hooks = git.path().join(git.run(&["rev-parse", "--git-path", "hooks"])?.trim_end());
    std::fs::create_dir_all(&hooks).map_err(|source| InstallError::Io { path: hooks.clone(), source })?;
    write_hook(&hooks.join("proc-receive"), &script(&what.binary, "proc-receive")?)?;
    write_hook(&hooks.join("reference-transaction"), &script(&what.binary, "reference-transaction \"$@\"")?)?;
    // These come last: from here on, git needs the hook for every push.
    ensure_value(&git, "transfer.hideRefs", "refs/lockstep")?;
    ensure_value(&git, "receive.procReceiveRefs", "refs")
}

/// Checks that Lockstep supports repositories of this kind: bare, with SHA-1 object names, and with refs in files.
///
/// # Errors
/// [`InstallError::Unsupported`] with the remedy, or git failed.
pub fn check_kind(git: &GitDir) -> Result<(), InstallError> {
    let refuse = |why| Err(InstallError::Unsupported { repository: git.path().to_owned(), why });
    if git.run(&["rev-parse", "--is-bare-repository"])?.trim_end() != "true" {
        return refuse("it has a work tree, and Lockstep supports bare repositories only; use `git clone --bare`");
    }
    if git.config("extensions.objectFormat", "--no-type")?.is_some_and(|format| format != "sha1") {
        return refuse(
            "its objects have SHA-256 names (extensions.objectFormat), and Lockstep supports SHA-1 repositories only",
        );
    }
    if git.config("extensions.refStorage", "--no-type")?.is_some_and(|format| format != "files") {
        return refuse(
            "its refs are not stored in files (extensions.refStorage); run `git refs migrate --ref-format=files` in it",
        );
    }
    Ok(())
}

/// Adds a value to a setting that may have several values, unless the setting has it already.
fn ensure_value(git: &GitDir, key: &str, value: &str) -> Result<(), InstallError> {
    let exactly = format!("^{}$", value.replace('.', "\\."));
    git.run(&["config", "--replace-all", key, value, &exactly])?;
    Ok(())
}

fn script(binary: &Path, subcommand: &str) -> Result<String, InstallError> {
    let bad = || InstallError::BadPath(binary.to_owned());
    let path = binary.to_str().filter(|path| !path.contains(['\'', '\n'])).ok_or_else(bad)?;
    Ok(format!("#!/bin/sh\n{MARK}\nexec '{path}' hook {subcommand}\n"))
}

/// Writes a hook to a temporary file and renames it, so that a push runs either the old hook or the new one.
fn write_hook(path: &Path, text: &str) -> Result<(), InstallError> {
    match std::fs::read_to_string(path) {
        Ok(found) if !found.contains(MARK) => return Err(InstallError::ForeignHook(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(InstallError::Io { path: path.to_owned(), source }),
    }
    let draft = path.with_extension("lockstep-new");
    let written = std::fs::write(&draft, text)
        .and_then(|()| std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)))
        .and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|source| InstallError::Io { path: path.to_owned(), source })
}
