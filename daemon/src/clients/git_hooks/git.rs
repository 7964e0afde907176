//! Asks git itself about the repository that a hook or a command works on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lockstep_proto::ProjectName;

/// Why the repository gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git cannot be run, or failed.
    #[error("`git {args}` in {} failed: {why}", repository.display())]
    Failed {
        /// Its arguments.
        args: String,
        /// Where it ran.
        repository: PathBuf,
        /// What it said.
        why: String,
    },
    /// There is no repository.
    #[error("{} is no git repository ({why}); give the folder of a bare one", path.display())]
    NoRepository {
        /// What was given.
        path: PathBuf,
        /// What git or the operating system says.
        why: String,
    },
    /// A setting is missing or wrong.
    #[error("git config {key} in {} {why}; run `lockstep hook install` on it", repository.display())]
    Config {
        /// The setting.
        key: &'static str,
        /// Where.
        repository: PathBuf,
        /// What is wrong with it, with its value.
        why: String,
    },
}

/// A repository, by its git folder.
#[derive(Clone, Debug)]
pub struct GitDir(PathBuf);

impl GitDir {
    /// The repository whose hook this process is.
    #[must_use]
    pub fn of_hook() -> Self {
        let path = std::env::var_os("GIT_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
        Self(std::path::absolute(&path).unwrap_or(path))
    }

    /// The bare repository at `path`, or the git folder of the one with a work tree there.
    ///
    /// # Errors
    /// There is no repository.
    pub fn at(path: &Path) -> Result<Self, GitError> {
        let found = run(path, &["rev-parse", "--absolute-git-dir"]).map_err(|error| match error {
            GitError::Failed { why, .. } => GitError::NoRepository { path: path.to_owned(), why },
            error => error,
        })?;
        Ok(Self(PathBuf::from(found.trim_end())))
    }

    /// The git folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Runs git here and gives what it prints.
    ///
    /// # Errors
    /// It cannot be run, or exits with another code than 0.
    pub fn run(&self, args: &[&str]) -> Result<String, GitError> {
        let directory = format!("--git-dir={}", self.0.display());
        let mut all = vec![directory.as_str()];
        all.extend(args);
        run(&self.0, &all)
    }

    /// A setting; `None` when it is not set.
    ///
    /// # Errors
    /// git fails, or the value has not this type.
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

    /// A yes-or-no setting; no when it is not set.
    ///
    /// # Errors
    /// As [`GitDir::config`].
    pub fn flag(&self, key: &str) -> Result<bool, GitError> {
        Ok(self.config(key, "--bool")?.as_deref() == Some("true"))
    }

    /// The project that `lockstep hook install` wrote down.
    ///
    /// # Errors
    /// It is missing or no project name.
    pub fn project(&self) -> Result<ProjectName, GitError> {
        let wrong = |why| GitError::Config { key: "lockstep.project", repository: self.0.clone(), why };
        let text = self.config("lockstep.project", "--no-type")?.ok_or_else(|| wrong("is not set".to_owned()))?;
        text.parse().map_err(|error| wrong(format!("is wrong: {error}")))
    }

    /// The sidecar's socket that `lockstep hook install` wrote down.
    ///
    /// # Errors
    /// It is missing.
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
    String::from_utf8(output.stdout).map_err(|_| failed(directory, args, "it printed what is no UTF-8"))
}

fn output(directory: &Path, args: &[&str]) -> Result<Output, GitError> {
    let mut command = Command::new("git");
    command.args(args).current_dir(directory).env_remove("GIT_DIR").env_remove("GIT_QUARANTINE_PATH");
    command.output().map_err(|error| failed(directory, args, &error.to_string()))
}

fn failed(directory: &Path, args: &[&str], why: &str) -> GitError {
    GitError::Failed { args: args.join(" "), repository: directory.to_owned(), why: why.trim().to_owned() }
}
