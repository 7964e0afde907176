//! The folder in which git looks for the hooks of a repository.
//!
//! `core.hooksPath` may lead git to a folder that many repositories share, set for a host or for a user. Lockstep's
//! hooks never go there, because they would stand in the way of repositories that are not Lockstep's. The installation
//! writes `core.hooksPath` into the repository's own configuration, with the repository's own folder `hooks`. So a
//! wider setting, of today or of tomorrow, changes nothing here. The hooks of a shared folder go on: for each hook that
//! a server runs, the repository's folder gets a script that calls the shared one, as long as that exists.

use std::path::{Path, PathBuf};

use super::config_changes;
use super::git::{GitDir, GitError};
use super::hook_files::{HOOKS, InstallError, MARK, is_ours, remove_hook, shell_quoted, write_hook};

/// The setting of git that names the folder.
pub(super) const KEY: &str = "core.hooksPath";

/// The hooks of an administrator that git runs in a bare repository, apart from the two that Lockstep installs.
const PASSED_ON: [&str; 5] = ["pre-receive", "update", "post-receive", "post-update", "pre-auto-gc"];

/// The folders that an installation deals with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folders {
    /// The repository's own folder as it is now.
    pub own: PathBuf,
    /// The repository's own folder as it will be when the repository is in its place.
    pub pinned: PathBuf,
    /// The folder in which git looked before the installation, if that is another one.
    pub shared: Option<PathBuf>,
}

impl Folders {
    /// The folders of a repository that is at `git`, and will be at `place`.
    pub(super) fn of(git: &GitDir, place: &Path) -> Result<Self, GitError> {
        let (own, pinned) = (git.path().join("hooks"), place.join("hooks"));
        let replaced = config_changes::replaced(git, KEY)?.map(|path| expanded(&path));
        let set = git.hooks_paths()?;
        let shared = shared(&set, replaced.as_deref(), &[&own, &pinned]);
        Ok(Self { shared: shared.map(|path| git.path().join(path)), own, pinned })
    }
}

/// A path of a setting, with the user's folder in place of `~`.
fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(below), Some(home)) => PathBuf::from(home).join(below),
        _ => PathBuf::from(path),
    }
}

/// The shared folder: the one that git uses without this repository's pin, unless that is the repository's own. `set`
/// has the values of `core.hooksPath`, the decisive one last, each with whether it is the repository's own.
fn shared(set: &[(bool, PathBuf)], replaced: Option<&Path>, own: &[&Path]) -> Option<PathBuf> {
    let is_pin = |(local, path): &&(bool, PathBuf)| *local && own.contains(&path.as_path());
    let before = set.iter().rev().find(|one| !is_pin(one)).filter(|(local, _)| *local).map(|(_, path)| path.clone());
    let wider = || set.iter().rev().find(|(local, _)| !local).map(|(_, path)| path.clone());
    let found = before.or_else(|| replaced.map(Path::to_owned)).or_else(wider)?;
    (!own.contains(&found.as_path()) && found.as_path() != Path::new("hooks")).then_some(found)
}

/// Makes the repository's own folder the one in which git looks, with the hooks of the shared folder passed on.
///
/// # Errors
/// A hook is in the way that Lockstep did not write.
pub(super) fn pin(git: &GitDir, folders: &Folders) -> Result<(), InstallError> {
    if let Some(shared) = &folders.shared {
        for name in HOOKS {
            let hook = shared.join(name);
            if is_executable(&hook) && !is_ours(&hook)? {
                return Err(InstallError::ForeignHook(hook));
            }
        }
    }
    for name in PASSED_ON {
        pass_on(folders, name)?;
    }
    let path = folders.pinned.display().to_string();
    Ok(config_changes::set(git, KEY, &path)?)
}

fn pass_on(folders: &Folders, name: &str) -> Result<(), InstallError> {
    let hook = folders.own.join(name);
    let exists = hook.symlink_metadata().is_ok();
    let ours = exists && is_ours(&hook)?;
    match &folders.shared {
        None if ours => std::fs::remove_file(&hook).map_err(|source| InstallError::Io { path: hook, source }),
        None => Ok(()),
        Some(shared) if exists && !ours => {
            if is_executable(&hook) {
                return Err(InstallError::Dormant { hook, shared: shared.clone() });
            }
            Ok(())
        }
        Some(shared) => write_hook(&hook, &script(&shared.join(name))?),
    }
}

fn script(hook: &Path) -> Result<String, InstallError> {
    let path = shell_quoted(hook)?;
    Ok(format!("#!/bin/sh\n{}\n[ -x {path} ] || exit 0\nexec {path} \"$@\"\n", MARK))
}

/// Removes the scripts that pass the hooks of a shared folder on.
pub(super) fn remove_passed_on(own: &Path) -> Result<(), InstallError> {
    PASSED_ON.iter().try_for_each(|name| remove_hook(&own.join(name)))
}

/// Whether git runs this file as a hook.
pub(super) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_folder_is_the_one_that_git_used_before_the_pin() {
        let own = Path::new("/srv/git/a.git/hooks");
        let (wide, narrow) = ((false, PathBuf::from("/etc/hooks")), (true, PathBuf::from("/srv/hooks")));
        let pin = (true, own.to_owned());
        let find = |set: &[(bool, PathBuf)], replaced: Option<&str>| {
            shared(set, replaced.map(Path::new), &[own]).map(|path| path.display().to_string())
        };
        assert_eq!(find(&[], None), None);
        assert_eq!(find(std::slice::from_ref(&wide), None).as_deref(), Some("/etc/hooks"));
        assert_eq!(find(&[wide.clone(), narrow.clone()], None).as_deref(), Some("/srv/hooks"));
        assert_eq!(find(&[wide.clone(), pin.clone()], None).as_deref(), Some("/etc/hooks"), "installed again");
        assert_eq!(find(&[wide, pin.clone()], Some("/srv/hooks")).as_deref(), Some("/srv/hooks"));
        assert_eq!(find(&[pin], None), None);
    }
}
