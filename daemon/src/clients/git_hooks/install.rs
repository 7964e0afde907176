//! Puts the bridge into a bare repository: two hooks, and the settings that make git use them.
//!
//! The hooks name the binary by its absolute path: git runs them with whatever `PATH` it has. Installing again
//! replaces them; a hook that somebody else wrote is not touched, and is an error.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::git::{GitDir, GitError};

/// By this line an own hook is known.
const MARK: &str = "# Written by `lockstep hook install`; written again by it.";

/// What to install.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The bare repository.
    pub repository: PathBuf,
    /// Its project.
    pub project: ProjectName,
    /// The sidecar's socket.
    pub socket: PathBuf,
    /// The `lockstep` binary.
    pub binary: PathBuf,
}

/// Why it cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// git cannot be asked.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The repository is of a kind that Lockstep does not serve.
    #[error("{}: {why}", repository.display())]
    Unsupported {
        /// The repository.
        repository: PathBuf,
        /// What it is, and what to do.
        why: &'static str,
    },
    /// There is a hook of somebody else.
    #[error("{} is a hook that Lockstep did not write; move its checks into `pre-receive` or `update` and remove it", .0.display())]
    ForeignHook(PathBuf),
    /// A path cannot go into a shell script.
    #[error("the path of the lockstep binary, {}, has a quote or is no UTF-8; move the binary", .0.display())]
    BadPath(PathBuf),
    /// The operating system refuses.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// Installs hooks and settings.
///
/// # Errors
/// See [`InstallError`]. It may be repeated after any of them.
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
    // Last, because from here on every push needs the hook.
    ensure_value(&git, "transfer.hideRefs", "refs/lockstep")?;
    ensure_value(&git, "receive.procReceiveRefs", "refs")
}

/// Whether Lockstep serves repositories of this kind.
///
/// # Errors
/// It does not: why, and what to do.
pub fn check_kind(git: &GitDir) -> Result<(), InstallError> {
    let refuse = |why| Err(InstallError::Unsupported { repository: git.path().to_owned(), why });
    if git.run(&["rev-parse", "--is-bare-repository"])?.trim_end() != "true" {
        return refuse("it has a work tree; Lockstep serves bare repositories: `git clone --bare` it");
    }
    if git.config("extensions.objectFormat", "--no-type")?.is_some_and(|format| format != "sha1") {
        return refuse(
            "its objects have SHA-256 names (extensions.objectFormat); Lockstep serves SHA-1 repositories only",
        );
    }
    if git.config("extensions.refStorage", "--no-type")?.is_some_and(|format| format != "files") {
        return refuse(
            "its refs are not stored in files (extensions.refStorage); `git refs migrate --ref-format=files` it",
        );
    }
    Ok(())
}

/// Adds a value to a setting that may have several.
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

/// Writes a hook beside its place and renames it there, so that a push meets the old one or the new one.
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
