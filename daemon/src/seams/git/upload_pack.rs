//! Answers a fetch by git's own `upload-pack`: one process per request, as a web server runs it for git's protocol over
//! HTTP. Each process takes version 2 of the protocol, and handles one command.
//!
//! The process only reads the repository. It sees no refs but replicated ones, and within them none that the
//! repository's own configuration hides. Its memory and processor time are bounded as those of a git that checks a
//! pack. It leads a process group of its own: git makes the pack in a child, and both are killed together.

use std::fs::File;
use std::io;
use std::process::{Command, Stdio};

use lockstep_proto::ProjectName;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::child::{self, Limits};
use super::index_pack::child_limits;
use super::layout::{Layout, failed};
use super::{GitError, Settings};

pub(super) const OP: &str = "serve a fetch";

/// Refs that no fetch sees: the sidecar's own, and those that each site computes for itself.
const HIDDEN: [&str; 2] = ["refs/lockstep", "refs/cache-automerge"];

/// The two kinds of requests of which a fetch consists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchStep {
    /// The first one: git's release and what it can do. It has no input, and its answer is short.
    Capabilities,
    /// A command: to list refs, or to send objects. Its input is the request.
    Command,
}

/// A git that is ready to be started.
pub(super) struct Prepared {
    command: Command,
    limits: Limits,
    errors: File,
}

/// Prepares git for a step of a fetch. Blocks.
pub(super) fn prepare(
    settings: &Settings,
    layout: &Layout,
    project: &ProjectName,
    step: FetchStep,
) -> Result<Prepared, GitError> {
    let (git_dir, _) = layout.locate(project)?;
    let limits = child_limits(settings, &git_dir).map_err(|error| failed(project, OP, error))?;
    let mut command = child::git(settings, &git_dir);
    for hidden in HIDDEN {
        command.arg("-c").arg(format!("transfer.hideRefs={hidden}"));
    }
    command.args(["upload-pack", "--strict"]);
    command.arg(match step {
        FetchStep::Capabilities => "--advertise-refs",
        FetchStep::Command => "--stateless-rpc",
    });
    command.arg(&git_dir).env("GIT_PROTOCOL", "version=2").env("GIT_NO_LAZY_FETCH", "1");
    let errors = tempfile::tempfile_in(layout.own(project).tmp()).map_err(|error| failed(project, OP, error))?;
    Ok(Prepared { command, limits, errors })
}

impl Prepared {
    /// Starts git. It gets its limits before its input, and begins to work with that.
    pub(super) fn start(self, project: &ProjectName) -> Result<UploadPack, GitError> {
        self.run().map_err(|error| failed(project, OP, error))
    }

    fn run(self) -> io::Result<UploadPack> {
        let errors = self.errors.try_clone()?;
        let mut command = tokio::process::Command::from(self.command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| io::Error::other("a pipe to git is missing"))?;
        let git = UploadPack { child, input: Some(input), output, errors: self.errors };
        // Dropping the value ends a git without limits.
        git.child.id().map_or(Ok(()), |id| self.limits.impose(id))?;
        Ok(git)
    }
}

/// A git that answers one step of a fetch. It and its children are killed when this is dropped.
#[derive(Debug)]
pub struct UploadPack {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    errors: File,
}

impl UploadPack {
    /// The pipe for the request; `None` if it was taken before. Git answers once the pipe is closed, or has a whole
    /// command.
    pub fn input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// Reads a part of the answer, of at most `most` bytes. It is empty at the end.
    ///
    /// # Errors
    /// The pipe cannot be read.
    pub async fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut part = vec![0; most];
        let length = self.output.read(&mut part).await?;
        part.truncate(length);
        Ok(part)
    }

    /// Waits for the end of git, after the end of its answer.
    ///
    /// # Errors
    /// Git failed: the error has its message.
    pub async fn end(mut self) -> io::Result<()> {
        let status = self.child.wait().await?;
        if status.success() {
            return Ok(());
        }
        let said = child::beginning(self.errors.try_clone()?)?;
        Err(io::Error::other(format!("git upload-pack: {status}: {said}")))
    }
}

impl Drop for UploadPack {
    fn drop(&mut self) {
        // Git has no id any more when it has ended, and its number may be that of another process then.
        let group = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            // It fails only if the group has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
