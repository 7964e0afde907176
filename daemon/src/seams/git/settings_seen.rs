//! Reads the settings of a repository as git sees them there: the host's, the user's and the repository's own.

use std::path::{Path, PathBuf};

use git2::{Config, ErrorCode, Repository};

/// The settings of one repository.
pub struct SettingsSeen {
    config: Config,
    git_dir: PathBuf,
}

/// The settings cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the git settings of {} cannot be read: {why}", git_dir.display())]
pub struct Unreadable {
    /// The git folder of the repository.
    pub git_dir: PathBuf,
    /// The reason, as libgit2 gives it.
    pub why: String,
}

impl SettingsSeen {
    /// Opens the settings of the repository at `git_dir`. Blocks.
    ///
    /// # Errors
    /// There is no repository, or a file cannot be read.
    pub fn of(git_dir: &Path) -> Result<Self, Unreadable> {
        let open = || Repository::open_bare(git_dir)?.config()?.snapshot();
        let config = open().map_err(|error| unreadable(git_dir, &error))?;
        Ok(Self { config, git_dir: git_dir.to_owned() })
    }

    /// The decisive value of a setting; `None` if it is not set.
    ///
    /// # Errors
    /// The value cannot be read.
    pub fn last(&self, name: &str) -> Result<Option<String>, Unreadable> {
        self.found(self.config.get_str(name).map(str::to_owned))
    }

    /// The decisive value of a setting that holds a path, with `~` replaced; `None` if it is not set.
    ///
    /// # Errors
    /// The value cannot be read.
    pub fn path(&self, name: &str) -> Result<Option<PathBuf>, Unreadable> {
        self.found(self.config.get_path(name))
    }

    /// All values of a setting.
    ///
    /// # Errors
    /// The values cannot be read.
    pub fn all(&self, name: &str) -> Result<Vec<String>, Unreadable> {
        let mut values = Vec::new();
        let read = |config: &Config, values: &mut Vec<String>| {
            config.multivar(name, None)?.for_each(|entry| values.extend(entry.value().map(str::to_owned)))
        };
        match read(&self.config, &mut values) {
            Err(error) if error.code() != ErrorCode::NotFound => Err(unreadable(&self.git_dir, &error)),
            _ => Ok(values),
        }
    }

    fn found<T>(&self, value: Result<T, git2::Error>) -> Result<Option<T>, Unreadable> {
        match value {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(unreadable(&self.git_dir, &error)),
        }
    }
}

fn unreadable(git_dir: &Path, error: &git2::Error) -> Unreadable {
    Unreadable { git_dir: git_dir.to_owned(), why: error.message().to_owned() }
}
