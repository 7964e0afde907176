//! Asks git about the repository that a hook or a command works on.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
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
    /// The repository for which git runs this process as a hook: `GIT_DIR`, or the repository of the current folder,
    /// which git leaves to its hooks in a work tree.
    #[must_use]
    pub fn of_hook() -> Self {
        let given = std::env::var_os("GIT_DIR").map(PathBuf::from);
        let path = given.unwrap_or_else(|| PathBuf::from("."));
        let path = std::path::absolute(&path).unwrap_or(path);
        if path.join("HEAD").exists() { Self(path) } else { Self::at(&path).unwrap_or(Self(path)) }
    }

    /// The repository at `path`. For a repository with a work tree, this is its `.git` folder. A repository that this
    /// git does not open, because of an extension, is one, too: the check of its fitness says more about it.
    ///
    /// # Errors
    /// There is no repository at `path`, or git cannot be run.
    pub fn at(path: &Path) -> Result<Self, GitError> {
        match run(path, &["rev-parse", "--absolute-git-dir"]) {
            Ok(found) => Ok(Self(PathBuf::from(found.trim_end()))),
            Err(_) if path.join("objects").is_dir() && path.join("HEAD").is_file() => {
                Ok(Self(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())))
            }
            Err(GitError::Failed { why, .. }) => Err(GitError::NoRepository { path: path.to_owned(), why }),
            Err(error) => Err(error),
        }
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

    /// Runs git in this repository and returns its standard output, which need not be UTF-8.
    ///
    /// # Errors
    /// git cannot be run, or exits with a code other than 0.
    pub fn bytes(&self, args: &[&str]) -> Result<Vec<u8>, GitError> {
        let directory = format!("--git-dir={}", self.0.display());
        let args: Vec<&str> = std::iter::once(directory.as_str()).chain(args.iter().copied()).collect();
        let output = output(&self.0, &args)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(failed(&self.0, &args, &String::from_utf8_lossy(&output.stderr)))
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

    /// The values of a setting in the repository's own configuration, in git's order. Empty if it is not set there.
    ///
    /// # Errors
    /// git fails.
    pub fn local(&self, key: &str) -> Result<Vec<String>, GitError> {
        let listed = self.listed(&["config", "--local", "-z", "--get-all", key])?;
        Ok(listed.into_iter().map(|value| String::from_utf8_lossy(&value).into_owned()).collect())
    }

    /// The values of `core.hooksPath`, the decisive one last, each with whether the repository's own configuration sets
    /// it.
    ///
    /// # Errors
    /// git fails.
    pub(super) fn hooks_paths(&self) -> Result<Vec<(bool, PathBuf)>, GitError> {
        let args = ["config", "--show-scope", "-z", "--type=path", "--get-all", "core.hooksPath"];
        let listed = self.listed(&args)?;
        let path = |value: &Vec<u8>| PathBuf::from(OsString::from_vec(value.clone()));
        let pairs = listed.chunks_exact(2);
        Ok(pairs.map(|pair| (matches!(&pair[0][..], b"local" | b"worktree"), path(&pair[1]))).collect())
    }

    /// The settings whose names match a regular expression, in git's order: name, and value or none.
    ///
    /// # Errors
    /// git fails.
    pub(super) fn matching(&self, names: &str) -> Result<Vec<(String, Option<String>)>, GitError> {
        let split = |field: Vec<u8>| {
            let text = String::from_utf8_lossy(&field).into_owned();
            match text.split_once('\n') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (text, None),
            }
        };
        Ok(self.listed(&["config", "-z", "--get-regexp", names])?.into_iter().map(split).collect())
    }

    /// The error for a file of the repository that cannot be read.
    pub(super) fn unreadable(&self, file: &str, error: &std::io::Error) -> GitError {
        GitError::Failed { args: format!("(read {file})"), repository: self.0.clone(), why: error.to_string() }
    }

    /// The fields that `git config -z` lists; none if the setting is not set.
    fn listed(&self, args: &[&str]) -> Result<Vec<Vec<u8>>, GitError> {
        let directory = format!("--git-dir={}", self.0.display());
        let args: Vec<&str> = std::iter::once(directory.as_str()).chain(args.iter().copied()).collect();
        let output = output(&self.0, &args)?;
        match output.status.code() {
            Some(0) => {
                let fields = output.stdout.strip_suffix(b"\0").unwrap_or(&output.stdout);
                Ok(fields.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
            }
            Some(1) => Ok(Vec::new()),
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

    /// Whether `lockstep hook install` was run in this repository. Its hooks can end up elsewhere too, in a folder that
    /// several repositories share.
    ///
    /// # Errors
    /// git fails.
    pub fn is_ours(&self) -> Result<bool, GitError> {
        Ok(!self.local("lockstep.project")?.is_empty())
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
    command.args(args).current_dir(directory);
    // They may be relative to the folder in which the user's git runs.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_QUARANTINE_PATH"] {
        command.env_remove(name);
    }
    command.output().map_err(|error| failed(directory, args, &error.to_string()))
}

fn failed(directory: &Path, args: &[&str], why: &str) -> GitError {
    GitError::Failed { args: args.join(" "), repository: directory.to_owned(), why: why.trim().to_owned() }
}
