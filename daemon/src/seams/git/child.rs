//! Starts git with a clean environment, without hooks, with no configuration but the repository's own, and with limits.
//!
//! A one-shot child communicates through files instead of pipes, so it cannot deadlock on a full pipe, and its input
//! and output need no memory here.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::Settings;
use super::early_end::EarlyEnd;

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
        // Otherwise git makes twelve calls per object id that it reads, to warn of a ref with that name.
        "core.warnAmbiguousRefs=false",
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

/// A git command for a repository.
pub(super) fn git(settings: &Settings, git_dir: &Path) -> Command {
    let mut command = Command::new(&settings.git);
    command.args(options(git_dir));
    prepare(&mut command);
    command
}

/// The limits of a child that reads content from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The size of its address space, in bytes.
    pub(super) address_space: u64,
    /// Its processor time, in seconds.
    pub(super) seconds: u64,
}

impl Limits {
    /// Limits a child that runs already. The little that it does before is done without limits: it starts. No shell is
    /// needed in between, so the sidecar runs in an image that has none.
    pub(super) fn impose(self, id: u32) -> std::io::Result<()> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
        for (resource, most) in [(Resource::As, self.address_space), (Resource::Cpu, self.seconds)] {
            prlimit(pid, resource, Rlimit { current: Some(most), maximum: Some(most) })?;
        }
        Ok(())
    }
}

/// Runs a one-shot child to its end, within limits if there are any. Another thread may end it through `early`. Its
/// output goes to `output`; `scratch` is a folder for its error output. Blocks.
pub(super) fn run(
    mut command: Command,
    limits: Option<Limits>,
    early: &EarlyEnd,
    input: File,
    output: File,
    scratch: &Path,
) -> std::io::Result<Ended> {
    let errors = tempfile::tempfile_in(scratch)?;
    let mut child = command
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(errors.try_clone()?))
        .spawn()?;
    if let Err(error) = limits.map_or(Ok(()), |limits| limits.impose(child.id())) {
        // Without its limits it may not read anything from outside.
        child.kill()?;
        child.wait()?;
        return Err(error);
    }
    let status = early.wait(&mut child)?;
    Ok(Ended { status, stderr: beginning(errors)? })
}

/// The beginning of the output that a child has written into a file.
pub(super) fn beginning(mut file: File) -> std::io::Result<String> {
    file.rewind()?;
    let mut text = Vec::new();
    file.take(16 * 1024).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The warning is the visible part of a search for such a ref in all folders, for each value of each move.
    #[test]
    fn git_does_not_look_for_refs_with_the_names_of_objects() {
        let folder = tempfile::tempdir().unwrap();
        let id = git2::Repository::init_bare(folder.path()).unwrap().blob(b"text").unwrap().to_string();
        std::fs::write(folder.path().join("refs/tags").join(&id), format!("{id}\n")).unwrap();
        let output = git(&Settings::default(), folder.path()).args(["rev-parse", &id]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), id);
    }

    #[test]
    fn a_child_runs_within_its_limits() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        let waits = "until grep -q '^Max cpu time  *17 ' /proc/$$/limits; do :; done; exec cat /proc/$$/limits";
        command.args(["-c", waits]);
        let mut output = tempfile::tempfile().unwrap();
        let input = File::open("/dev/null").unwrap();
        let limits = Limits { address_space: 1 << 30, seconds: 17 };
        let ended = run(command, Some(limits), &EarlyEnd::default(), input, output.try_clone().unwrap(), folder.path())
            .unwrap();
        assert!(ended.status.success(), "{}", ended.stderr);
        let mut text = String::new();
        output.rewind().unwrap();
        output.read_to_string(&mut text).unwrap();
        for (name, most) in [("Max cpu time", "17"), ("Max address space", "1073741824")] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let words: Vec<&str> = line[name.len()..].split_whitespace().collect();
            assert_eq!(words[..2], [most, most], "{line}");
        }
    }

    #[test]
    fn a_child_that_has_too_little_address_space_fails() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        // A text of 256 MiB.
        let grows = "x=a; i=0; while [ $i -lt 28 ]; do x=$x$x; i=$((i+1)); done";
        command.args(["-c", grows]);
        let (input, output) = (File::open("/dev/null").unwrap(), tempfile::tempfile().unwrap());
        let limits = Limits { address_space: 64 << 20, seconds: 17 };
        let ended = run(command, Some(limits), &EarlyEnd::default(), input, output, folder.path()).unwrap();
        assert!(!ended.status.success());
    }
}
