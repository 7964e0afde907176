//! A program on this machine. It gets the notice in its environment, and takes it by ending with exit code 0.
//!
//! The sidecar's child processes inherit the volume's lock, on purpose. A program that goes on after the sidecar has
//! ended would keep the next one from starting. So it is run by an *agent*: a process that the sidecar starts before it
//! takes the lock. Notices go to the agent's standard input, and the outcomes come from its standard output, one line
//! of JSON each. The agent ends with the sidecar, and kills a program that is running then.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::RoleNotice;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Receiver, ReceiverError};

/// Most bytes of the program's error output in a message.
const SAID: usize = 500;
/// How long the error output of a program that has ended is read. A process that it left behind may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How much longer than the program the agent may take to answer.
const SLACK: Duration = Duration::from_secs(5);
/// The environment that a program keeps. The rest may hold credentials.
const KEPT: [&str; 2] = ["PATH", "HOME"];

/// A program that is run once per notice.
pub struct Program {
    name: String,
    timeout: Duration,
    agent: Mutex<Agent>,
}

/// The process that runs the program.
struct Agent {
    _process: Child,
    notices: ChildStdin,
    outcomes: Lines<BufReader<ChildStdout>>,
}

/// Why the program did not take the notice.
#[derive(Debug, thiserror::Error)]
enum RunFailed {
    #[error("it cannot be run: {0}")]
    NotRun(std::io::Error),
    #[error("it did not end within {0:?} and was killed")]
    Late(Duration),
    #[error(transparent)]
    Unknown(#[from] std::io::Error),
    #[error("it ended with {0}: {1}")]
    Ended(ExitStatus, String),
}

/// The outcome of one run: none, or why the program did not take the notice.
#[derive(Serialize, Deserialize)]
struct Outcome {
    error: Option<String>,
}

impl Program {
    /// A receiver that runs the program at `path`, without arguments. It is killed after `timeout`. Call this before
    /// the volume's lock is taken. `lockstep` is this command: its subcommand `handover-agent` is the agent.
    ///
    /// # Errors
    /// The agent cannot be started.
    pub fn start(lockstep: &Path, path: &Path, timeout: Duration) -> Result<Self, ReceiverError> {
        let failed = |why: &dyn std::fmt::Display| ReceiverError::file("handover.program", path, why);
        let mut agent = Command::new(lockstep)
            .arg("handover-agent")
            .arg(path)
            .arg(timeout.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let pipes = agent.stdin.take().zip(agent.stdout.take());
        let (notices, outcomes) = pipes.ok_or_else(|| failed(&"its agent has no pipes"))?;
        let outcomes = BufReader::new(outcomes).lines();
        let agent = Mutex::new(Agent { _process: agent, notices, outcomes });
        Ok(Self { name: path.display().to_string(), timeout, agent })
    }
}

#[async_trait]
impl Receiver for Program {
    fn name(&self) -> &str {
        &self.name
    }

    async fn tell(&self, notice: &RoleNotice) -> Result<(), ReceiverError> {
        let mut line = serde_json::to_string(notice)?;
        line.push('\n');
        let mut agent = self.agent.lock().await;
        agent.notices.write_all(line.as_bytes()).await.map_err(|_| ReceiverError::AgentEnded)?;
        let answer = timeout(self.timeout + SLACK, agent.outcomes.next_line()).await;
        let answer = answer.map_err(|_| ReceiverError::AgentSilent)?;
        let answer = answer.ok().flatten().ok_or(ReceiverError::AgentEnded)?;
        match serde_json::from_str::<Outcome>(&answer) {
            Ok(Outcome { error: None }) => Ok(()),
            Ok(Outcome { error: Some(why) }) => Err(ReceiverError::Program(why)),
            Err(error) => Err(ReceiverError::AgentAnswer(answer, error)),
        }
    }
}

/// The agent: runs the program at `path` for each notice on standard input, until that is closed.
///
/// # Errors
/// Standard input or output failed, or a line is no notice.
pub async fn agent(path: PathBuf, timeout: Duration) -> std::io::Result<()> {
    let mut notices = BufReader::new(tokio::io::stdin()).lines();
    let mut out = tokio::io::stdout();
    while let Some(line) = notices.next_line().await? {
        let notice: RoleNotice = serde_json::from_str(&line).map_err(std::io::Error::other)?;
        let error = tokio::select! {
            biased;
            ended = run(&path, &notice, timeout) => ended.err().map(|why| why.to_string()),
            // The sidecar has ended: nobody waits for the outcome. The run is dropped, which kills the program.
            _ = notices.next_line() => return Ok(()),
        };
        let mut answer = serde_json::to_string(&Outcome { error }).map_err(std::io::Error::other)?;
        answer.push('\n');
        out.write_all(answer.as_bytes()).await?;
        out.flush().await?;
    }
    Ok(())
}

/// A process group, which is killed when this is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails only if the group has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs the program once.
async fn run(path: &Path, notice: &RoleNotice, limit: Duration) -> Result<(), RunFailed> {
    let kept = KEPT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(path);
    command
        .env_clear()
        .envs(kept)
        .env("LOCKSTEP_NOTICE_SITE", notice.site.as_str())
        .env("LOCKSTEP_NOTICE_NODE", notice.node.as_str())
        .env("LOCKSTEP_NOTICE_ROLE", notice.role.name())
        .env("LOCKSTEP_NOTICE_EPOCH", notice.epoch.to_string())
        .env("LOCKSTEP_NOTICE_START", notice.start.to_string())
        .env("LOCKSTEP_NOTICE_NUMBER", notice.number.to_string())
        .env("LOCKSTEP_NOTICE_TAKES_WRITES", notice.takes_writes.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(RunFailed::NotRun)?;
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut group = Group(id);
    let said = tokio::spawn(words(child.stderr.take()));
    let ended = timeout(limit, child.wait()).await;
    let status = ended.map_err(|_| RunFailed::Late(limit))??;
    if status.success() {
        // A process that the program has left behind on purpose goes on.
        group.0 = None;
        return Ok(());
    }
    let said = timeout(LAST_WORDS, said).await.ok().and_then(Result::ok).unwrap_or_default();
    Err(RunFailed::Ended(status, String::from_utf8_lossy(&said).trim().to_owned()))
}

/// The beginning of an error output. The rest is read and dropped, so that the program can go on.
async fn words(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut said, mut chunk) = (Vec::new(), [0; 1024]);
    let Some(mut output) = output else { return said };
    while let Ok(length @ 1..) = output.read(&mut chunk).await {
        let room = SAID.saturating_sub(said.len()).min(length);
        said.extend_from_slice(&chunk[..room]);
    }
    said
}
