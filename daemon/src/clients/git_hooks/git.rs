//! Asks git about the repository that a hook or a command works on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lockstep_proto::ProjectName;

/// An error from asking git about a repository.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git could not be run, exited with a failure, or printed something that is not UTF-8.
    #[error("`git {args}` in {} failed: {why}", repository.display())]
    Failed {
        /// The arguments of git, joined by spaces.
        args: String,
        /// The folder in which git ran.
        repository: PathBuf,
        /// git's standard error, or the error of the operating system.
        why: String,
    },
    /// The path does not lead to a git repository.
    #[error("{} is not a git repository ({why}); give the folder of a bare repository", path.display())]
    NoRepository {
        /// The path that the caller gave.
        path: PathBuf,
        /// The message of git or of the operating system.
        why: String,
    },
    /// A git setting of the repository is missing or has a wrong value.
    #[error("git config {key} of {} {why}; run `lockstep hook install` on this repository", repository.display())]
    Config {
        /// The name of the setting.
        key: &'static str,
        /// The repository's git folder.
        repository: PathBuf,
        /// The fault, with the value: it completes the sentence "git config KEY of REPOSITORY ...".
        why: String,
    },
}

/// A repository, identified by its git folder.
#[derive(Clone, Debug)]
pub struct GitDir(PathBuf);

impl GitDir {
    /// The repository for which git runs this process as a hook (`GIT_DIR`, or the current folder).
    #[must_use]
    pub fn of_hook() -> Self {
        let path = std::env::var_os("GIT_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
        Self(std::path::absolute(&path).unwrap_or(path))
    }

    /// The repository at `path`. For a repository with a work tree, this is its `.git` folder.
    ///
    /// # Errors
    /// There is no repository at `path`, or git cannot be run.
    pub fn at(path: &Path) -> Result<Self, GitError> {
        let found = run(path, &["rev-parse", "--absolute-git-dir"]).map_err(|error| match error {
            GitError::Failed { why, .. } => GitError::NoRepository { path: path.to_owned(), why },
            error => error,
        })?;
        Ok(Self(PathBuf::from(found.trim_end())))
    }

    /// The path of the git folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Runs git in this repository and returns its standard output.
    ///
    /// # Errors
    /// git cannot be run, exits with a code other than 0, or prints something that is not UTF-8.
    pub fn run(&self, args: &[&str]) -> Result<String, GitError> {
        let directory = format!("--git-dir={}", self.0.display());
        let mut all = vec![directory.as_str()];
        all.extend(args);
        run(&self.0, &all)
    }

    /// The value of a git setting, or `None` if it is not set. `kind` is git's type option, for example `--bool`.
    ///
    /// # Errors
    /// git fails, or the value does not have this type.
    pub fn config(&self, key: &str, kind: &str) -> Result<Option<String>, GitError> {
        let directory = format!("--git-dir={}", self.0.display());
        let args = [directory.as_str(), "config", kind, "--get", key];
        let output = output(&self.0, &args)?;
        match output.status.code() {
            Some(0) => Ok(Some(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())),
            Some(1) => Ok(None),
            _ => Err(failed(&self.0, &args, &String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// The value of a boolean git setting, or `false` if it is not set.
    ///
    /// # Errors
    /// See [`GitDir::config`].
    pub fn flag(&self, key: &str) -> Result<bool, GitError> {
        Ok(self.config(key, "--bool")?.as_deref() == Some("true"))
    }

    /// The project that `lockstep hook install` wrote into `lockstep.project`.
    ///
    /// # Errors
    /// The setting is missing, or its value is not a project name.
    pub fn project(&self) -> Result<ProjectName, GitError> {
        let wrong = |why| GitError::Config { key: "lockstep.project", repository: self.0.clone(), why };
        let text = self.config("lockstep.project", "--no-type")?.ok_or_else(|| wrong("is not set".to_owned()))?;
        text.parse().map_err(|error| wrong(format!("is wrong: {error}")))
    }

    /// The path of the sidecar's socket that `lockstep hook install` wrote into `lockstep.socket`.
    ///
    /// # Errors
    /// The setting is missing.
    pub fn socket(&self) -> Result<PathBuf, GitError> {
        let missing =
            || GitError::Config { key: "lockstep.socket", repository: self.0.clone(), why: "is not set".to_owned() };
        self.config("lockstep.socket", "--path")?.map(PathBuf::from).ok_or_else(missing)
    }
}

fn run(directory: &Path, args: &[&str]) -> Result<String, GitError> {
    let output = output(directory, args)?;
    if !output.status.success() {
        return Err(failed(directory, args, &String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|_| failed(directory, args, "its output is not UTF-8"))
}

fn output(directory: &Path, args: &[&str]) -> Result<Output, GitError> {
    let mut command = Command::new("git");
    command.args(args).current_dir(directory).env_remove("GIT_DIR").env_remove("GIT_QUARANTINE_PATH");
    command.output().map_err(|error| failed(directory, args, &error.to_string()))
}

fn failed(directory: &Path, args: &[&str], why: &str) -> GitError {
    GitError::Failed { args: args.join(" "), repository: directory.to_owned(), why: why.trim().to_owned() }
}
