//! A process that ends with this one, and its signals.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use tokio::time::{Instant, sleep};

use crate::Fallible;

/// How long a process may take until it is ready.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// The nice value of the measured processes. Operations begin on time only if the generator comes first.
pub(in crate::load) const NICE: i32 = 10;

/// A running process. It is killed when this is dropped.
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts a process whose output goes to a log.
    pub(super) fn start(mut command: Command, log: &Path) -> Fallible<Self> {
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let started = Self { child };
        setpriority_process(Some(started.id()?), NICE)?;
        Ok(started)
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) -> Fallible<()> {
        Ok(kill_process(self.id()?, signal)?)
    }

    fn id(&self) -> Fallible<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?).ok_or("process id 0")?)
    }

    /// Kills the process with SIGKILL, and waits for its end.
    pub(super) fn kill(&mut self) -> Fallible<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a process has printed this many URLs into its log.
pub(super) async fn printed(process: &mut Process, log: &Path, count: usize) -> Fallible<Vec<String>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(log)?;
        // A line that is not whole yet has no end.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let urls: Vec<String> = whole.lines().filter(|line| line.starts_with("http://")).map(str::to_owned).collect();
        if urls.len() >= count {
            return Ok(urls);
        }
        if process.has_ended() || Instant::now() >= end {
            return Err(format!("a process did not start: {}", tail(log)).into());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
