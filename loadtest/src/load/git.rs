//! Git as a client runs it: without the machine's configuration, and without the settings of the caller.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Fallible;

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

/// Makes a client's bare repository that borrows the objects of another one, as if the client had just fetched all of
/// them. Does nothing if it is there.
pub fn borrow_objects(path: &Path, from: &Path) -> Fallible<()> {
    let alternates = path.join("objects/info/alternates");
    if alternates.exists() {
        return Ok(());
    }
    git2::Repository::init_bare(path)?;
    std::fs::create_dir_all(path.join("objects/info"))?;
    Ok(std::fs::write(alternates, format!("{}\n", from.join("objects").display()))?)
}
