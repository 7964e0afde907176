//! How git is started: a clean environment, no hooks, no configuration but the repository's own, and limits.
//!
//! A one-shot child talks through files, never through pipes: there is nothing to deadlock on, and nothing to
//! hold in memory.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::Settings;

/// How a one-shot child ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// The beginning of what it said on its error stream.
    pub(super) stderr: String,
}

/// Options that every git of ours gets, behind `git`.
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

/// Variables that every git of ours gets; all others are removed.
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

/// A git for a repository, without limits: for what only moves refs.
pub(super) fn git(settings: &Settings, git_dir: &Path) -> Command {
    let mut command = Command::new(&settings.git);
    command.args(options(git_dir));
    prepare(&mut command);
    command
}

/// A git for a repository whose address space (in bytes) and processor time are limited: for what reads content
/// that came from outside.
pub(super) fn limited_git(settings: &Settings, git_dir: &Path, address_space: u64) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {} && ulimit -t {} && exec \"$@\"", address_space / 1024, settings.child_seconds);
    command.arg("-c").arg(script).arg("sh").arg(&settings.git).args(options(git_dir));
    prepare(&mut command);
    command
}

/// Runs a one-shot child to its end. Blocks. What it writes goes to `output`; `scratch` is a folder for its
/// error stream.
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
