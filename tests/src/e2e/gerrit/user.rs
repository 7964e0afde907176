//! A user's clone, from which a user pushes changes.

use std::path::{Path, PathBuf};
use std::process::Output;

use tokio::process::Command;

use super::server::Server;
use crate::e2e::git::{ok, quiet, text};

/// A clone of a project at one site.
#[derive(Clone, Debug)]
pub struct User {
    folder: PathBuf,
}

impl User {
    /// Clones a project.
    ///
    /// # Panics
    /// If Gerrit refuses.
    pub async fn clone(server: &Server, project: &str, folder: &Path) -> Self {
        let parent = folder.parent().expect("a folder in a folder");
        let user = Self { folder: parent.to_owned() };
        let url = server.clone_url(project);
        let _ = ok(user.git(&["clone", "-q", &url, &folder.display().to_string()]).await);
        Self { folder: folder.to_owned() }
    }

    /// Commits a file on top of the checkout. The change's id is derived from `change`, which is the message.
    pub async fn commit(&self, file: &str, content: &str, change: &str) -> String {
        std::fs::write(self.folder.join(file), content).expect("a file");
        let _ = ok(self.git(&["add", file]).await);
        let _ = ok(self.git(&["commit", "-q", "-m", &format!("{change}\n\nChange-Id: {}", change_id(change))]).await);
        ok(self.git(&["rev-parse", "HEAD"]).await)
    }

    /// Makes another patch set of the change that was committed last.
    pub async fn amend(&self, file: &str, content: &str) -> String {
        std::fs::write(self.folder.join(file), content).expect("a file");
        let _ = ok(self.git(&["add", file]).await);
        let _ = ok(self.git(&["commit", "-q", "--amend", "--no-edit"]).await);
        ok(self.git(&["rev-parse", "HEAD"]).await)
    }

    /// Checks out the server's value of a branch.
    pub async fn at(&self, branch: &str) {
        assert!(self.fetch().await, "the server does not answer");
        self.out(branch).await;
    }

    /// Checks out the value of a branch that was fetched last.
    pub async fn out(&self, branch: &str) {
        let _ = ok(self.git(&["checkout", "-q", "--detach", &format!("origin/{branch}")]).await);
    }

    /// Pushes the checked-out commit.
    pub async fn push(&self, to: &str) -> Output {
        self.git(&["push", "origin", &format!("HEAD:{to}")]).await
    }

    /// Pushes for review. Returns the number of each change that Gerrit reports.
    ///
    /// # Panics
    /// If Gerrit refuses.
    pub async fn review(&self, branch: &str) -> Vec<u32> {
        let output = self.push(&format!("refs/for/{branch}")).await;
        assert!(output.status.success(), "{}", text(&output));
        Self::pushed(&output)
    }

    /// The number of each change that Gerrit reports in the output of a push.
    #[must_use]
    pub fn pushed(output: &Output) -> Vec<u32> {
        let told = text(output);
        let numbers = told.lines().filter_map(|line| line.split_once("/+/")?.1.split(' ').next()?.parse().ok());
        numbers.collect()
    }

    /// Fetches the server's branches. Answers whether the server answered.
    pub async fn fetch(&self) -> bool {
        self.git(&["fetch", "-q", "origin"]).await.status.success()
    }

    /// Runs git in the clone, as the administrator.
    ///
    /// # Panics
    /// If there is no git.
    pub async fn git(&self, args: &[&str]) -> Output {
        let mut command = quiet(Command::new("git"), &self.folder);
        for who in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
            command.env(who, "admin@example.com");
        }
        command.arg("-C").arg(&self.folder).args(args).output().await.expect("git runs")
    }
}

/// A change id of 40 digits, derived from the name of the change.
fn change_id(change: &str) -> String {
    let digits: String = change.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("I{:0>40}", digits.chars().rev().take(40).collect::<String>())
}
