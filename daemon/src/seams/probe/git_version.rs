//! The version of the git program that this process runs.

use std::ffi::OsStr;
use std::time::Duration;

use super::ProbeError;
use super::child::{Group, Run};

/// The words of `git --version`, such as `git version 2.47.3`.
///
/// # Errors
/// There is no git on the `PATH`, or it did not end within `limit`.
pub async fn git_version(limit: Duration) -> Result<String, ProbeError> {
    let args = vec![OsStr::new("--version")];
    Run { program: "git", args, envs: Vec::new(), limit, group: Group::Own }.output().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_git_of_this_machine_tells_its_version() {
        let words = git_version(Duration::from_secs(20)).await.unwrap();
        assert!(words.starts_with("git version 2."), "{words}");
    }
}
