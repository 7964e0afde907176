//! Ends a one-shot child from another thread, which has found out that its work is of no use.
//!
//! A child that has ended keeps its number until it is reaped. So it is reaped only when nobody can end it any more:
//! otherwise another process could have its number by then.

use std::io;
use std::process::{Child, ExitStatus};

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// The way to end a child.
#[derive(Debug, Default)]
pub(super) struct EarlyEnd(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether the child, and each one after it, shall end at once.
    is_wanted: bool,
    /// The child, while it is not reaped.
    running: Option<Pid>,
}

impl EarlyEnd {
    /// Ends the child, if it runs, and each one that is waited for later.
    pub(super) fn now(&self) {
        let mut state = self.0.lock();
        state.is_wanted = true;
        end(&state);
    }

    /// Waits for the end of a child, early or not.
    pub(super) fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let Some(number) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return child.wait() };
        {
            let mut state = self.0.lock();
            state.running = Some(number);
            if state.is_wanted {
                end(&state);
            }
        }
        let seen = loop {
            match waitid(WaitId::Pid(number), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(Errno::INTR) => {}
                seen => break seen,
            }
        };
        self.0.lock().running = None;
        seen?;
        child.wait()
    }
}

fn end(state: &State) {
    if let Some(number) = state.running {
        // It fails only if the child has ended.
        let _ = kill_process(number, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_ends_early_or_by_itself() {
        let early = EarlyEnd::default();
        let mut short = Command::new("true").spawn().unwrap();
        assert!(early.wait(&mut short).unwrap().success());
        let mut long = Command::new("sleep").arg("600").spawn().unwrap();
        let status = std::thread::scope(|scope| {
            scope.spawn(|| early.now());
            early.wait(&mut long).unwrap()
        });
        assert_eq!(status.code(), None, "it was killed, before or after the wait began");
        let mut late = Command::new("sleep").arg("600").spawn().unwrap();
        assert_eq!(early.wait(&mut late).unwrap().code(), None);
    }
}
