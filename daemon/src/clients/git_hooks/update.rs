//! Runs the repository's own `update` hook. receive-pack does not run it for refs that go through `proc-receive`, so
//! the bridge does. The hook can only decline a ref.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::git::{GitDir, GitError};
use super::hooks_folder::is_executable;
use super::push::Refused;
use super::pushed::Pushed;

/// Runs the hook for each command, and returns the refs that it declines with the reason of each. The user sees its
/// output. In an atomic push, the first refusal ends it, as in git.
pub(super) fn declined<'a>(
    git: &GitDir,
    pushed: impl Iterator<Item = &'a Pushed>,
    atomic: bool,
) -> Result<Refused, GitError> {
    let mut refused = Refused::new();
    let hook = PathBuf::from(git.run(&["rev-parse", "--git-path", "hooks/update"])?.trim_end());
    let hook = git.path().join(hook);
    if !is_executable(&hook) {
        return Ok(refused);
    }
    for one in pushed {
        if let Some(why) = refusal(&hook, git, one) {
            refused.insert(one.name.clone(), why);
            if atomic {
                break;
            }
        }
    }
    Ok(refused)
}

fn refusal(hook: &Path, git: &GitDir, one: &Pushed) -> Option<String> {
    let mut command = Command::new(hook);
    command.arg(OsStr::from_bytes(&one.name)).args([&one.old, &one.new]);
    command.current_dir(git.path()).env("GIT_DIR", ".");
    // Standard output of this process carries pkt-lines to receive-pack, so the hook writes to standard error.
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    match command.status() {
        Ok(status) if status.success() => None,
        Ok(_) => Some("hook declined (the repository's update hook)".to_owned()),
        Err(error) => Some(format!("the repository's update hook {} cannot run ({error}); repair it", hook.display())),
    }
}
