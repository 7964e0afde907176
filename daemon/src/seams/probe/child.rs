//! Runs a program with a bound.
//!
//! The program runs under `timeout` of the coreutils. So it ends in time even if the sidecar is killed meanwhile, and
//! does not hold the volume's lock against the next one.

use std::ffi::OsStr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::ProbeError;

/// The exit code of `timeout` when the time is over.
const TIMED_OUT: i32 = 124;
/// The most bytes of each output that are kept.
const MOST_OUTPUT: u64 = 16 * 1024;
/// How long a program may take to end after it was asked to.
const KILL_AFTER: &str = "--kill-after=1";

/// The process group of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// One of its own. Everything that the program has started ends with it when its time is over.
    Own,
    /// That of this process, which somebody kills as a whole.
    OfThisProcess,
}

/// A program to run: its arguments and environment. Nothing else is inherited but `PATH`.
pub(super) struct Run<'a> {
    pub(super) program: &'a str,
    pub(super) args: Vec<&'a OsStr>,
    pub(super) envs: Vec<(&'a str, String)>,
    pub(super) limit: Duration,
    pub(super) group: Group,
}

impl Run<'_> {
    /// The standard output of the program.
    ///
    /// # Errors
    /// It cannot be run, did not end in time, or failed.
    pub(super) async fn output(&self) -> Result<String, ProbeError> {
        let mut command = Command::new("timeout");
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .args((self.group == Group::OfThisProcess).then_some("--foreground"))
            .arg(KILL_AFTER)
            .arg(format!("{:.3}", self.limit.as_secs_f64()))
            .arg(self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let failed = |error| ProbeError::NotRun(Arc::new(error));
        let mut child = command.spawn().map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr, status) = tokio::join!(kept(stdout), kept(stderr), child.wait());
        let (status, said) = (status.map_err(failed)?, String::from_utf8_lossy(&stderr).trim().to_owned());
        match status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&stdout).trim().to_owned()),
            Some(TIMED_OUT) => Err(ProbeError::Late(self.limit, said)),
            _ => Err(ProbeError::Ended(self.program.to_owned(), status, said)),
        }
    }
}

/// The first bytes of an output. The rest is read and dropped, so that the program does not wait for a reader.
async fn kept(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut output) = output {
        let first = (&mut output).take(MOST_OUTPUT).read_to_end(&mut kept).await;
        if first.is_ok() {
            let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(program: &str, args: &[&str]) -> Result<String, String> {
        run_in(Group::Own, program, args).await
    }

    async fn run_in(group: Group, program: &str, args: &[&str]) -> Result<String, String> {
        let args = args.iter().map(OsStr::new).collect();
        let run = Run { program, args, envs: Vec::new(), limit: Duration::from_millis(300), group };
        run.output().await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_program_is_in_the_process_group_that_was_chosen() {
        let own = rustix::process::getpgrp().as_raw_nonzero().to_string();
        let args = ["-d ", "-f5", "/proc/self/stat"];
        assert_eq!(run_in(Group::OfThisProcess, "cut", &args).await, Ok(own.clone()));
        assert_ne!(run_in(Group::Own, "cut", &args).await.unwrap(), own);
        let hangs = run_in(Group::OfThisProcess, "sleep", &["30"]).await.unwrap_err();
        assert!(hangs.starts_with("no answer within 300ms"), "{hangs}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_or_fails_is_red_with_its_words() {
        assert_eq!(run("echo", &["it", "works"]).await, Ok("it works".to_owned()));
        assert!(run("sleep", &["30"]).await.unwrap_err().starts_with("no answer within 300ms"));
        let failed = run("sh", &["-c", "echo denied >&2; exit 3"]).await.unwrap_err();
        assert!(failed.contains("exit status: 3: denied"), "{failed}");
        let long = run("head", &["-c", "1000000", "/dev/zero"]).await.unwrap();
        assert_eq!(long.len() as u64, MOST_OUTPUT, "the rest is dropped");
    }
}
