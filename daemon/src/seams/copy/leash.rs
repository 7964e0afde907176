//! Programs on a leash: a program that ends, with everything that it has started, when the process that started it
//! ends, however that happens.
//!
//! Between the two stands an agent, this command again, in a process group of its own. The program runs in the group of
//! the agent. The agent waits for the end of its standard input, which only the owner holds open, and kills the group
//! then. The owner kills the group when it drops the leash. If owner and agent are both killed at once, the kernel
//! kills the program, which was started by way of [`run`]. So a process lives on only if it has left the group, or if
//! the program has started it and owner and agent are both killed at once. It has inherited the lock of the volume
//! then, like every child of a sidecar, and the next start waits for it.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpgrp, getpid, getppid, getrlimit, kill_process_group,
    set_parent_process_death_signal, setrlimit,
};
use tokio::process::{Child, ChildStdin, Command};

/// The environment that a program keeps. The rest may hold credentials.
const KEPT: [&str; 2] = ["PATH", "HOME"];

/// A program with its agent. It is killed when this is dropped.
#[derive(Debug)]
pub struct Leashed {
    child: Child,
    /// Held open until the end.
    _input: Option<ChildStdin>,
    group: Option<Pid>,
}

impl Leashed {
    /// Starts a program, without arguments. `lockstep` is this command: its subcommand `leash` is the agent. The output
    /// of the program goes to the standard error output of this process.
    ///
    /// # Errors
    /// The agent cannot be started. A program that cannot be started ends the agent.
    pub fn start(lockstep: &Path, program: &Path, envs: &[(&str, &OsStr)]) -> std::io::Result<Self> {
        let kept = KEPT.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut command = Command::new(lockstep);
        command.arg("leash").arg(program).env_clear().envs(kept).envs(envs.iter().copied());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).kill_on_drop(true).spawn()?;
        let (input, group) = (child.stdin.take(), group_of(&child));
        Ok(Self { child, _input: input, group })
    }

    /// Waits for the end of the program. The exit status is that of the program.
    ///
    /// # Errors
    /// The operating system does not tell it.
    pub async fn end(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        kill(self.group);
    }
}

/// The group of a process that was started in a group of its own.
#[must_use]
pub fn group_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
}

/// Kills a process group. A group that has ended is no error.
pub fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Kills the process group of this process, itself included, when its standard input ends. The process must have been
/// started in a group of its own.
///
/// # Errors
/// No thread can be started.
pub fn end_with_input() -> std::io::Result<()> {
    let wait = || {
        let (mut input, mut rest) = (std::io::stdin(), [0_u8; 64]);
        // An interrupted read is no end.
        while input
            .read(&mut rest)
            .map_or_else(|error| error.kind() == std::io::ErrorKind::Interrupted, |read| read > 0)
        {}
        kill(Some(getpgrp()));
    };
    std::thread::Builder::new().name("leash".to_owned()).spawn(wait).map(|_| ())
}

/// Why a program on a leash did not end well.
#[derive(Debug, thiserror::Error)]
pub enum LeashError {
    /// The agent of this program cannot do its part.
    #[error("the leash of {0}: {1}")]
    Agent(PathBuf, std::io::Error),
    /// This program cannot be run.
    #[error("{0} cannot be run: {1}")]
    NotRun(PathBuf, std::io::Error),
    /// The agent of this program has ended before the program was run.
    #[error("{0} is not run: its agent has ended")]
    NoAgent(PathBuf),
    /// This program has ended with another exit code than 0.
    #[error("{0} ended with {1}")]
    Ended(PathBuf, ExitStatus),
}

/// Runs the program in place of this process. The kernel kills it when the thread that has started this process ends.
/// `agent` is the process that has started it: it may have ended before the kernel was asked.
///
/// # Errors
/// The program cannot be run, or the agent has ended.
pub fn run(program: &Path, agent: i32) -> Result<(), LeashError> {
    let failed = |error: std::io::Error| LeashError::NotRun(program.to_owned(), error);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| failed(error.into()))?;
    if getppid() != Pid::from_raw(agent) {
        return Err(LeashError::NoAgent(program.to_owned()));
    }
    Err(failed(std::process::Command::new(program).exec()))
}

/// The agent: runs the program until it ends, or until standard input ends. It must be called on a thread that lives as
/// long as the process: the program ends with that thread.
///
/// # Errors
/// The program cannot be run, or has not ended with exit code 0.
pub async fn agent(program: &Path) -> Result<(), LeashError> {
    let unable = |error: std::io::Error| LeashError::Agent(program.to_owned(), error);
    end_with_input().map_err(unable)?;
    // The owner may have bounded its own memory. A Gerrit has a bound of its own.
    let maximum = getrlimit(Resource::Data).maximum;
    let unbounded = setrlimit(Resource::Data, Rlimit { current: maximum, maximum });
    unbounded.map_err(|error| unable(error.into()))?;
    // This command again, also if its file was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg("leash").arg(program).arg("--agent").arg(getpid().as_raw_nonzero().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let failed = |error: std::io::Error| LeashError::NotRun(program.to_owned(), error);
    let status = command.spawn().map_err(failed)?.wait().await.map_err(failed)?;
    if status.success() { Ok(()) } else { Err(LeashError::Ended(program.to_owned(), status)) }
}
