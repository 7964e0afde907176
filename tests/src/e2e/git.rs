//! Runs git as a user does, without the machine's own configuration; and a clone that makes commits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use git2::Repository;
use lockstep_proto::Oid;
use tokio::process::Command;

use crate::local_git::commit;

/// Runs git in a folder.
///
/// # Panics
/// If there is no git.
pub async fn git(folder: &Path, args: &[&str]) -> Output {
    quiet(Command::new("git"), folder).arg("-C").arg(folder).args(args).output().await.expect("git runs")
}

/// Shields a command from the machine's git configuration and from the test's own settings. The command dies with the
/// test.
pub fn quiet(mut command: Command, home: &Path) -> Command {
    shield(command.as_std_mut(), home);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Gives a command the environment of [`quiet`].
pub fn shield(command: &mut std::process::Command, home: &Path) {
    command.env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    // It would win over `http.sslCAInfo`.
    command.env_remove("GIT_SSL_CAINFO");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOCKSTEP_")) {
        command.env_remove(name);
    }
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "T").env(format!("GIT_{who}_EMAIL"), "t@example.com");
    }
}

/// The standard output of a command that must succeed.
///
/// # Panics
/// If it failed.
#[must_use]
pub fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The standard output of a failover that must be done. At nodes without a Gerrit that asks, refreshes stay due: that
/// alone may be out of order.
///
/// # Panics
/// If it failed, or if anything else is out of order.
#[must_use]
pub fn done(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let is_due = said.contains("SUBJECTS ARE STILL DUE") || said.contains("NOT KNOWN YET at ");
    let expected = if is_due { 2 } else { 0 };
    let is_done = output.status.code() == Some(expected) && !said.contains("PROBES ARE RED");
    assert!(is_done, "{}", text(&output));
    said
}

/// Both outputs of a command that must fail.
///
/// # Panics
/// If it succeeded.
#[must_use]
pub fn fails(output: Output) -> String {
    assert!(!output.status.success(), "the command succeeded, but should fail: {}", text(&output));
    text(&output)
}

/// Asserts that a command failed and that it said `why`.
///
/// # Panics
/// If it succeeded, or said something else: that is printed.
pub fn refuses(output: Output, why: &str) {
    let said = fails(output);
    assert!(said.contains(why), "it should say {why:?}, but said: {said}");
}

/// Both outputs of a command.
#[must_use]
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every ref that git shows, except the sidecar's own and those that each site computes for itself.
///
/// # Errors
/// The error text of git.
pub async fn refs(repository: &Path) -> Result<BTreeMap<String, String>, String> {
    let output = git(repository, &["for-each-ref", "--format=%(refname) %(objectname)"]).await;
    if !output.status.success() {
        return Err(text(&output));
    }
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    let apart = ["refs/lockstep/", "refs/cache-automerge/"];
    let replicated = pairs.filter(|(name, _)| !apart.iter().any(|prefix| name.starts_with(prefix)));
    Ok(replicated.map(|(name, oid)| (name.to_owned(), oid.to_owned())).collect())
}

/// A repository from which a user pushes.
#[derive(Clone, Debug)]
pub struct Clone {
    folder: PathBuf,
}

impl Clone {
    /// Creates an empty repository.
    ///
    /// # Panics
    /// If the folder cannot be written.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Repository::init_bare(folder).expect("a repository");
        Self { folder: folder.to_owned() }
    }

    /// The folder of the repository.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a commit on `parent`, with one file that holds `content`, and returns its id.
    ///
    /// # Panics
    /// If the parent does not exist.
    #[must_use]
    pub fn commit(&self, parent: Option<&str>, content: &str) -> String {
        self.commit_files(parent, &BTreeMap::from([("file".to_owned(), content.as_bytes().to_vec())]))
    }

    /// Makes a commit on `parent`, with exactly these files, and returns its id.
    ///
    /// # Panics
    /// If the parent does not exist.
    #[must_use]
    pub fn commit_files(&self, parent: Option<&str>, files: &BTreeMap<String, Vec<u8>>) -> String {
        let repository = Repository::open_bare(&self.folder).expect("a repository");
        let parents: Vec<Oid> = parent.into_iter().map(|oid| oid.parse().expect("an object id")).collect();
        commit(&repository, &parents, files).to_string()
    }

    /// Moves refs of this repository, as lines of `git update-ref --stdin` say.
    ///
    /// # Panics
    /// If git refuses them.
    pub fn update_refs(&self, lines: &str) {
        let file = self.folder.join("update-ref-input");
        std::fs::write(&file, lines).expect("the folder can be written");
        let input = std::fs::File::open(&file).expect("it was just written");
        let mut git = std::process::Command::new("git");
        let status = git.arg("-C").arg(&self.folder).args(["update-ref", "--stdin"]).stdin(input).status();
        assert!(status.expect("git runs").success());
    }

    /// Fetches every ref of a repository, so that this one has their objects.
    pub async fn fetch(&self, from: &Path) -> Output {
        git(&self.folder, &["fetch", "-q", &from.display().to_string(), "+refs/*:refs/fetched/*"]).await
    }

    /// Pushes with `--porcelain`, and returns git's output.
    pub async fn push(&self, to: &Path, options: &[&str], refspecs: &[&str]) -> Output {
        let url = to.display().to_string();
        let mut args = vec!["push", "--porcelain"];
        args.extend(options);
        args.push(&url);
        args.extend(refspecs);
        git(&self.folder, &args).await
    }
}

/// Whether a repository has `tip`, and `commit` is `tip` or one of its ancestors.
///
/// # Panics
/// If there is no repository.
#[must_use]
pub fn contains(repository: &Path, tip: &str, commit: &str) -> bool {
    let repository = Repository::open_bare(repository).expect("a repository");
    let oid = |text: &str| git2::Oid::from_str(text).expect("an object id");
    tip == commit || repository.graph_descendant_of(oid(tip), oid(commit)).unwrap_or(false)
}
