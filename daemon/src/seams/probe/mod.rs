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
//! | `child` | runs a program with a bound |

mod child;
pub mod git;
pub mod page;
pub mod ssh;

pub use child::Group;

use std::path::PathBuf;

use async_trait::async_trait;
use lockstep_proto::failover::ProbeResult;

/// The most bytes of the reason of a red probe.
const MOST_WHY: usize = 300;

/// Acts as a user does. The contract is in the module's documentation.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Runs once. Answers one result per thing that was tried.
    async fn run(&self) -> Vec<ProbeResult>;
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
    async fn password(&self) -> Result<String, String> {
        let text = tokio::fs::read_to_string(&self.password_file).await;
        let text = text.map_err(|error| format!("probes.password_file {}: {error}", self.password_file.display()))?;
        Ok(text.trim().to_owned())
    }
}

/// The result of a probe as the record of a failover has it.
fn result(probe: &str, ended: Result<(), String>) -> ProbeResult {
    let bounded = |why: String| {
        let line = why.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(MOST_WHY).collect()
    };
    ProbeResult { probe: probe.to_owned(), red: ended.err().map(bounded) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_red_probe_is_one_bounded_line() {
        let red = result("push", Err(format!("fatal:\n  {}", "x".repeat(1_000)))).red.unwrap();
        assert!(red.starts_with("fatal: xxx") && red.len() == MOST_WHY && !red.contains('\n'), "{red}");
        assert_eq!(result("push", Ok(())).red, None);
    }
}
