//! A long-lived `git update-ref --stdin`: a ref transaction costs a few lines on a pipe instead of a process.
//!
//! The sidecar sends `start`, the commands, `prepare` and `commit` in one go. Git answers `start`, `prepare` and
//! `commit` with a line each, and exits with a message when something is wrong. [`Session::run`] tells whether git
//! exited before it was prepared (no ref moved) or later (the refs must be read).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lockstep_proto::Oid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::{Settings, child};

/// One command of a ref transaction.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// Moves, creates or deletes a ref whose value is `old`.
    Move {
        /// The name of the ref.
        name: String,
        /// The current value; `None` for an absent ref.
        old: Option<Oid>,
        /// The new value; `None` to delete the ref.
        new: Option<Oid>,
        /// The message for the reflog; empty for [`REFLOG_MESSAGE`].
        message: String,
    },
    /// Sets one of the sidecar's own refs, whatever its value is.
    Set(String, Oid),
    /// Deletes one of the sidecar's own refs, whatever its value is.
    Delete(String),
}

impl Line {
    /// Returns the name of the ref in the command.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Move { name, .. } | Self::Set(name, _) | Self::Delete(name) => name,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Move { name, old: Some(old), new: Some(new), .. } => format!("update {name} {new} {old}\n"),
            Self::Move { name, old: None, new: Some(new), .. } => format!("create {name} {new}\n"),
            Self::Move { name, old: Some(old), new: None, .. } => format!("delete {name} {old}\n"),
            Self::Move { name, old: None, new: None, .. } => format!("verify {name}\n"),
            Self::Set(name, oid) => format!("update {name} {oid}\n"),
            Self::Delete(name) => format!("delete {name}\n"),
        }
    }
}

/// The failure of a transaction. The session cannot be used afterwards.
#[derive(Debug)]
pub(super) struct Broken {
    /// Whether git may have begun to commit, so that some refs may have moved.
    pub(super) committing: bool,
    /// Whether git was killed, so that it could not remove its locks.
    pub(super) killed: bool,
    /// Git's error output, or the error of the pipe.
    pub(super) why: String,
}

/// The child process and its pipes.
pub(super) struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    errors: JoinHandle<String>,
}

/// The message in a reflog of a move that has none of its own: the one that git's receive-pack gives to every ref of
/// every push.
pub const REFLOG_MESSAGE: &str = "push";

/// How long git may take to answer before it is ended: far longer than a transaction of a million refs needs.
const PATIENCE: Duration = Duration::from_secs(120);

impl Session {
    /// Starts git on a repository. A process takes one message for the reflogs of all refs that it moves.
    pub(super) fn start(settings: &Settings, git_dir: &Path, message: &str) -> std::io::Result<Self> {
        let mut command = Command::from(child::git(settings, git_dir));
        command.args(["update-ref", "--no-deref", "-m", message, "--stdin"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let pipe = || std::io::Error::other("a pipe to git is missing");
        let input = child.stdin.take().ok_or_else(pipe)?;
        let output = BufReader::new(child.stdout.take().ok_or_else(pipe)?);
        let errors = tokio::spawn(drain(child.stderr.take().ok_or_else(pipe)?));
        Ok(Self { child, input, output, errors })
    }

    /// Runs one transaction. On success all lines took effect. On failure with `committing` false, none did.
    pub(super) async fn run(mut self, lines: &[Line]) -> Result<Self, Broken> {
        let mut prepared = false;
        let step = tokio::time::timeout(PATIENCE, self.transact(lines, &mut prepared)).await;
        let why = match step {
            Ok(Ok(())) => return Ok(self),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("git gave no answer within {} s", PATIENCE.as_secs()),
        };
        let (killed, why) = self.last_words(why).await;
        Err(Broken { committing: prepared || killed, killed, why })
    }

    async fn transact(&mut self, lines: &[Line], prepared: &mut bool) -> std::io::Result<()> {
        let mut text = String::from("start\n");
        lines.iter().for_each(|line| text.push_str(&line.text()));
        text.push_str("prepare\ncommit\n");
        self.input.write_all(text.as_bytes()).await?;
        self.expect("start: ok").await?;
        self.expect("prepare: ok").await?;
        *prepared = true;
        crate::base::faults::failpoint::reach("git.prepared");
        self.expect("commit: ok").await
    }

    async fn expect(&mut self, wanted: &str) -> std::io::Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line).await?;
        if line.trim_end() == wanted {
            return Ok(());
        }
        Err(std::io::Error::other(format!("git answered {line:?} instead of {wanted:?}")))
    }

    /// Ends git and collects its error output. Returns whether it was killed, and the reason of the failure.
    async fn last_words(mut self, why: String) -> (bool, String) {
        drop(self.input);
        let ended = tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await;
        let killed = !matches!(ended, Ok(Ok(status)) if status.code().is_some());
        if ended.is_err() {
            let _ = self.child.kill().await;
        }
        match self.errors.await {
            Ok(said) if !said.is_empty() => (killed, said),
            _ => (killed, why),
        }
    }
}

/// Reads the error output to its end and keeps the beginning. A full pipe would block git.
async fn drain(mut errors: tokio::process::ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut block = [0; 4096];
    while let Ok(count @ 1..) = errors.read(&mut block).await {
        if kept.len() < 16 * 1024 {
            kept.extend_from_slice(&block[..count]);
        }
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}
