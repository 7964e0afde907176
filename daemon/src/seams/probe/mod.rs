//! Probes act as users of a site do: they push and fetch, ask a page, and run a command over SSH. A failover has
//! recovered when they are green.
//!
//! Every implementation keeps this contract: each of its commands ends within the timeout (a run of git has up to
//! eight), and a probe without an answer is red. It leaves nothing behind but the branch that it pushes. Its child
//! processes end with the timeout even if the sidecar is killed meanwhile, because they hold the volume's lock.
//!
//! | file | content |
//! |---|---|
//! | `git` | pushes to a branch of a probe project and fetches it |
//! | `page` | asks for a page by HTTP |
//! | `ssh` | runs `gerrit version` over SSH |
//! | `server_time` | the time that a server tells in its answers |
//! | `git_version` | the version of the git program |
//! | `child` | runs a program with a bound |

mod child;
pub mod git;
pub mod git_version;
pub mod page;
pub mod server_time;
pub mod ssh;

pub use child::Group;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::ProbeResult;
use reqwest::StatusCode;

/// The most bytes of the reason of a red probe.
const MOST_WHY: usize = 300;

/// Why a probe is red, or cannot be made from its settings.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProbeError {
    /// A setting of `[probes]` cannot be used: its name, and the reason.
    #[error("probes.{0}: {1}")]
    Setting(&'static str, String),
    /// The file that a setting names cannot be used.
    #[error("probes.{setting} {}: {why}", path.display())]
    File {
        /// The name of the setting.
        setting: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The reason, for people.
        why: String,
    },
    /// No temporary folder can be made.
    #[error("a temporary folder: {0}")]
    Folder(Arc<std::io::Error>),
    /// The program that bounds the others cannot be run.
    #[error("`timeout` of the coreutils: {0}")]
    NotRun(Arc<std::io::Error>),
    /// A program did not end within this time. Its error output.
    #[error("no answer within {0:?}: {1}")]
    Late(Duration, String),
    /// A program has failed: its name, its status, and its error output.
    #[error("{0} ended with {1}: {2}")]
    Ended(String, ExitStatus, String),
    /// git has asked for a user name, as it does when the site refuses the one that it was sent.
    #[error("the site refuses probes.user with the password in probes.password_file, or needs both: {0}")]
    User(Box<ProbeError>),
    /// A push needs a fetch before it, which is red.
    #[error("not tried, because nothing can be fetched")]
    NotTried,
    /// The site has taken the first commit, and serves the second.
    #[error("the site has taken {0} and serves {1}")]
    Stale(String, String),
    /// The page gave no answer, for this reason.
    #[error("{0}")]
    NoAnswer(String),
    /// The page has answered with this status.
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl ProbeError {
    fn file(setting: &'static str, path: &Path, why: &dyn std::fmt::Display) -> Self {
        Self::File { setting, path: path.to_owned(), why: why.to_string() }
    }
}

/// Acts as a user does. The contract is in the module's documentation.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Runs once. Answers one result per thing that was tried.
    async fn run(&self) -> Vec<ProbeResult>;

    /// Runs the part that writes nothing, as a site that takes no writes serves it.
    async fn look(&self) -> Vec<ProbeResult> {
        self.run().await
    }
}

/// A user with a password in a file, which is read on each use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name of the user.
    pub user: String,
    /// The file with the password or token.
    pub password_file: PathBuf,
}

impl Login {
    async fn password(&self) -> Result<String, ProbeError> {
        let text = tokio::fs::read_to_string(&self.password_file).await;
        let text = text.map_err(|error| ProbeError::file("password_file", &self.password_file, &error))?;
        Ok(text.trim().to_owned())
    }
}

/// The result of a probe as the record of a failover has it.
fn result(probe: &str, ended: Result<(), ProbeError>) -> ProbeResult {
    let bounded = |why: ProbeError| {
        let line = why.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(MOST_WHY).collect()
    };
    ProbeResult { probe: probe.to_owned(), red: ended.err().map(bounded) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_red_probe_is_one_bounded_line() {
        let red = result("push", Err(ProbeError::NoAnswer(format!("fatal:\n  {}", "x".repeat(1_000))))).red.unwrap();
        assert!(red.starts_with("fatal: xxx") && red.len() == MOST_WHY && !red.contains('\n'), "{red}");
        assert_eq!(result("push", Ok(())).red, None);
    }
}
