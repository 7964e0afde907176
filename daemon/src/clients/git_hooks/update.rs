//! Runs the repository's own `update` hook. receive-pack does not run it for refs that go through `proc-receive`, so
//! the bridge does. The hook can only decline a ref.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::git::{GitDir, GitError};
use super::push::Pushed;

/// Runs the hook for each command, and returns the refs that it declines with the reason of each. The user sees its
/// output.
pub(super) fn declined(git: &GitDir, pushed: &[Pushed]) -> Result<BTreeMap<String, String>, GitError> {
    let hook = PathBuf::from(git.run(&["rev-parse", "--git-path", "hooks/update"])?.trim_end());
    let hook = git.path().join(hook);
    let executable = std::fs::metadata(&hook).is_ok_and(|found| found.permissions().mode() & 0o111 != 0);
    if !executable {
        return Ok(BTreeMap::new());
    }
    let refused = pushed.iter().filter_map(|one| refusal(&hook, git, one).map(|why| (one.name.clone(), why)));
    Ok(refused.collect())
}

fn refusal(hook: &std::path::Path, git: &GitDir, one: &Pushed) -> Option<String> {
    let mut command = Command::new(hook);
    command.args([&one.name, &one.old, &one.new]).current_dir(git.path()).env("GIT_DIR", git.path());
    // Standard output of this process carries pkt-lines to receive-pack, so the hook writes to standard error.
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    match command.status() {
        Ok(status) if status.success() => None,
        Ok(_) => Some("the repository's update hook declined the ref".to_owned()),
        Err(error) => Some(format!("the repository's update hook {} cannot run ({error}); repair it", hook.display())),
    }
}
