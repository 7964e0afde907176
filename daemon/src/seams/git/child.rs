//! Starts git with a clean environment, without hooks, with no configuration but the repository's own, and with limits.
//!
//! A one-shot child communicates through files instead of pipes, so it cannot deadlock on a full pipe, and its input
//! and output need no memory here.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::Settings;

/// The end of a one-shot child.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// The beginning of its error output.
    pub(super) stderr: String,
}

/// The options between `git` and the subcommand that every git of the sidecar gets.
fn options(git_dir: &Path) -> Vec<String> {
    let mut options = Vec::new();
    for setting in [
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.logAllRefUpdates=false",
        "gc.auto=0",
        "maintenance.auto=false",
        "protocol.allow=never",
        "core.packedGitWindowSize=32m",
        "core.packedGitLimit=128m",
        "core.bigFileThreshold=8m",
        "pack.threads=1",
        "pack.windowMemory=32m",
    ] {
        options.extend(["-c".to_owned(), setting.to_owned()]);
    }
    options.extend(["-c".to_owned(), format!("safe.directory={}", git_dir.display())]);
    options.extend(["--git-dir".to_owned(), git_dir.display().to_string()]);
    options
}

/// The environment variables that every git of the sidecar gets. All others are removed.
fn variables() -> [(&'static str, &'static str); 8] {
    [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_COMMITTER_NAME", "Lockstep"),
        ("GIT_COMMITTER_EMAIL", "lockstep@localhost"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C"),
    ]
}

fn prepare(command: &mut Command) {
    command.env_clear().envs(variables());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
}

/// A git command for a repository, without limits: for commands that only move refs.
pub(super) fn git(settings: &Settings, git_dir: &Path) -> Command {
    let mut command = Command::new(&settings.git);
    command.args(options(git_dir));
    prepare(&mut command);
    command
}

/// A git command for a repository, with limited address space (in bytes) and processor time: for commands that read
/// content from outside.
pub(super) fn limited_git(settings: &Settings, git_dir: &Path, address_space: u64) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {} && ulimit -t {} && exec \"$@\"", address_space / 1024, settings.child_seconds);
    command.arg("-c").arg(script).arg("sh").arg(&settings.git).args(options(git_dir));
    prepare(&mut command);
    command
}

/// Runs a one-shot child to its end. Its output goes to `output`; `scratch` is a folder for its error output. Blocks.
pub(super) fn run(mut command: Command, input: File, output: File, scratch: &Path) -> std::io::Result<Ended> {
    let mut errors = tempfile::tempfile_in(scratch)?;
    let status = command
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(errors.try_clone()?))
        .spawn()?
        .wait()?;
    errors.rewind()?;
    let mut stderr = Vec::new();
    errors.take(16 * 1024).read_to_end(&mut stderr)?;
    Ok(Ended { status, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() })
}
