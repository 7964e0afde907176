//! A process that ends with this one, and its signals.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, setpriority_process};

use crate::Fallible;

/// The nice value of what is measured. Operations begin on time only if the generator comes first.
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
