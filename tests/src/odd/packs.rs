//! Packs everything that is in a repository, whether or not git can walk it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A pack of every object of a repository.
///
/// # Panics
/// If git cannot pack them.
#[must_use]
pub fn everything(repository: &Path) -> Vec<u8> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(repository).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let list = git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]).output().expect("git runs");
    let mut child = git(&["pack-objects", "--stdout", "-q"]).spawn().expect("git runs");
    child.stdin.take().expect("a pipe").write_all(&list.stdout).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "git cannot pack the objects of {}", repository.display());
    output.stdout
}
