//! Git as a client runs it: without the machine's configuration, and without the settings of the caller.

use std::path::Path;
use std::process::{Command, Stdio};

/// `git -C folder`, shielded.
#[must_use]
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("GIT_") || name.starts_with("LOCKSTEP_") {
            command.env_remove(&name);
        }
    }
    command.env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Load").env(format!("GIT_{who}_EMAIL"), "load@lockstep.invalid");
    }
    command.args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"]).arg("-C").arg(folder).stdin(Stdio::null());
    command
}
