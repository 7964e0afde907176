//! A user's clone, from which changes are pushed as users push them.

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
    /// Clones.
    ///
    /// # Panics
    /// Gerrit refuses.
    pub async fn clone(server: &Server, project: &str, folder: &Path) -> Self {
        let parent = folder.parent().expect("a folder in a folder");
        let user = Self { folder: parent.to_owned() };
        let url = server.clone_url(project);
        let _ = ok(user.git(&["clone", "-q", &url, &folder.display().to_string()]).await);
        Self { folder: folder.to_owned() }
    }

    /// Commits a file on what is checked out; the message tells the change by its id.
    pub async fn commit(&self, file: &str, content: &str, change: &str) -> String {
        std::fs::write(self.folder.join(file), content).expect("a file");
        let _ = ok(self.git(&["add", file]).await);
        let _ = ok(self.git(&["commit", "-q", "-m", &format!("{change}\n\nChange-Id: {}", change_id(change))]).await);
        ok(self.git(&["rev-parse", "HEAD"]).await)
    }

    /// Another patch set of the change that was committed last.
    pub async fn amend(&self, file: &str, content: &str) -> String {
        std::fs::write(self.folder.join(file), content).expect("a file");
        let _ = ok(self.git(&["add", file]).await);
        let _ = ok(self.git(&["commit", "-q", "--amend", "--no-edit"]).await);
        ok(self.git(&["rev-parse", "HEAD"]).await)
    }

    /// Checks out what the server shows of a branch.
    pub async fn at(&self, branch: &str) {
        let _ = ok(self.git(&["fetch", "-q", "origin"]).await);
        let _ = ok(self.git(&["checkout", "-q", "--detach", &format!("origin/{branch}")]).await);
    }

    /// Pushes what is checked out.
    pub async fn push(&self, to: &str) -> Output {
        self.git(&["push", "origin", &format!("HEAD:{to}")]).await
    }

    /// Pushes for review; the number of each change, as Gerrit tells it.
    ///
    /// # Panics
    /// Gerrit refuses.
    pub async fn review(&self, branch: &str) -> Vec<u32> {
        let output = self.push(&format!("refs/for/{branch}")).await;
        let told = text(&output);
        assert!(output.status.success(), "{told}");
        let numbers = told.lines().filter_map(|line| line.split_once("/+/")?.1.split(' ').next()?.parse().ok());
        numbers.collect()
    }

    /// Runs git in the clone, as the administrator.
    ///
    /// # Panics
    /// There is no git.
    pub async fn git(&self, args: &[&str]) -> Output {
        let mut command = quiet(Command::new("git"), &self.folder);
        for who in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
            command.env(who, "admin@example.com");
        }
        command.arg("-C").arg(&self.folder).args(args).output().await.expect("git runs")
    }
}

/// 40 digits that tell changes apart.
fn change_id(change: &str) -> String {
    let digits: String = change.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("I{:0>40}", digits.chars().rev().take(40).collect::<String>())
}
