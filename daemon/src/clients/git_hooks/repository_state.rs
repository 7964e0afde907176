//! Reads the settings and files of a repository that the rules of a push look at.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::git::{GitDir, GitError};
use super::pushed::Pushed;
use super::rules::{Rules, State};

/// The prohibitions of the repository's configuration.
///
/// # Errors
/// git fails.
pub(super) fn rules(git: &GitDir) -> Result<Rules, GitError> {
    let settings = git.matching("^receive\\.deny")?;
    Ok(Rules::read(settings.iter().map(|(name, value)| (name.as_str(), value.as_deref()))))
}

/// The state that decides on these commands.
///
/// # Errors
/// A file cannot be read.
pub(super) fn state(git: &GitDir, pushed: &[Pushed]) -> Result<State, GitError> {
    let mut state = State { head: target(git, &git.path().join("HEAD"))?, ..State::default() };
    for one in pushed {
        if let Some(target) = target(git, &git.path().join(OsStr::from_bytes(&one.name)))? {
            state.symbolic.insert(one.name.clone(), target);
        }
    }
    let work_trees = match std::fs::read_dir(git.path().join("worktrees")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(state),
        Err(error) => return Err(git.unreadable("worktrees", &error)),
    };
    for entry in work_trees {
        let entry = entry.map_err(|error| git.unreadable("worktrees", &error))?;
        state.checked_out.extend(target(git, &entry.path().join("HEAD"))?);
    }
    Ok(state)
}

/// The target of a symbolic ref; `None` if the file is no symbolic ref, or is not there.
fn target(git: &GitDir, file: &Path) -> Result<Option<Vec<u8>>, GitError> {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    match std::fs::read(file) {
        Ok(content) => Ok(content.strip_prefix(b"ref:").map(|target| target.trim_ascii().to_owned())),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | IsADirectory) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidFilename => Ok(None),
        Err(error) => Err(git.unreadable(&file.display().to_string(), &error)),
    }
}
