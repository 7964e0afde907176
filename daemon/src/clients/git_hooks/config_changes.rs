//! Changes settings of a repository so that they can be undone.
//!
//! Each change notes in the repository itself, in the setting `lockstep.undo`, how it is undone. The note is written
//! before the change, so a change that was interrupted is undone too. A change that is made again keeps its first note.

use super::git::{GitDir, GitError};

/// The setting with one note per change.
const UNDO: &str = "lockstep.undo";

/// How one change is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undo {
    /// The setting had no value in the repository's own configuration.
    Unset(String),
    /// The setting had another value.
    Restore(String, String),
    /// The value was added to a setting that may have several.
    Drop(String, String),
}

impl Undo {
    fn text(&self) -> String {
        match self {
            Self::Unset(key) => format!("unset {key}"),
            Self::Restore(key, value) => format!("restore {key} {value}"),
            Self::Drop(key, value) => format!("drop {key} {value}"),
        }
    }

    /// Reads a note. `None` for a note of a newer release, which that release must undo.
    fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        let both = || rest.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned()));
        match word {
            "unset" => Some(Self::Unset(rest.to_owned())),
            "restore" => both().map(|(key, value)| Self::Restore(key, value)),
            "drop" => both().map(|(key, value)| Self::Drop(key, value)),
            _ => None,
        }
    }

    fn key(&self) -> &str {
        match self {
            Self::Unset(key) | Self::Restore(key, _) | Self::Drop(key, _) => key,
        }
    }
}

/// The notes of all changes, oldest first.
pub(super) fn notes(git: &GitDir) -> Result<Vec<Undo>, GitError> {
    Ok(git.local(UNDO)?.iter().filter_map(|text| Undo::parse(text)).collect())
}

/// The value that a setting of the repository had before [`set`] changed it; `None` if it had none.
pub(super) fn replaced(git: &GitDir, key: &str) -> Result<Option<String>, GitError> {
    let found = notes(git)?.into_iter().find_map(|note| match note {
        Undo::Restore(one, value) if one == key => Some(value),
        _ => None,
    });
    Ok(found)
}

/// Gives a setting of the repository this one value.
pub(super) fn set(git: &GitDir, key: &str, value: &str) -> Result<(), GitError> {
    let before = git.local(key)?;
    if before.len() == 1 && before[0] == value {
        return Ok(());
    }
    if !notes(git)?.iter().any(|note| note.key() == key) {
        note(
            git,
            &match before.last() {
                Some(before) => Undo::Restore(key.to_owned(), before.clone()),
                None => Undo::Unset(key.to_owned()),
            },
        )?;
    }
    git.run(&["config", "--local", "--replace-all", key, value]).map(drop)
}

/// Adds a value to a setting of the repository that may have several, unless it is there.
pub(super) fn add(git: &GitDir, key: &str, value: &str) -> Result<(), GitError> {
    if git.local(key)?.iter().any(|one| one == value) {
        return Ok(());
    }
    let undo = Undo::Drop(key.to_owned(), value.to_owned());
    if !notes(git)?.contains(&undo) {
        note(git, &undo)?;
    }
    git.run(&["config", "--local", "--add", key, value]).map(drop)
}

/// Sets the configuration back as the note says.
pub(super) fn undo(git: &GitDir, note: &Undo) -> Result<(), GitError> {
    match note {
        Undo::Unset(key) => unset(git, key),
        Undo::Restore(key, value) => git.run(&["config", "--local", "--replace-all", key, value]).map(drop),
        Undo::Drop(key, value) if git.local(key)?.iter().any(|one| one == value) => {
            git.run(&["config", "--local", "--unset-all", key, &exactly(value)]).map(drop)
        }
        Undo::Drop(..) => Ok(()),
    }
}

/// Removes a setting from the repository's own configuration, if it is there.
pub(super) fn unset(git: &GitDir, key: &str) -> Result<(), GitError> {
    if git.local(key)?.is_empty() {
        return Ok(());
    }
    git.run(&["config", "--local", "--unset-all", key]).map(drop)
}

/// Removes all notes from the configuration of the repository.
pub(super) fn forget(git: &GitDir) -> Result<(), GitError> {
    unset(git, UNDO)
}

fn note(git: &GitDir, undo: &Undo) -> Result<(), GitError> {
    git.run(&["config", "--local", "--add", UNDO, &undo.text()]).map(drop)
}

/// The regular expression of git that matches this value alone.
fn exactly(value: &str) -> String {
    let special = |c: char| "\\^$.|?*+()[]{}".contains(c);
    let escaped: String = value.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect();
    format!("^{escaped}$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_one_of_a_newer_release_is_left() {
        for undo in [
            Undo::Unset("core.hooksPath".into()),
            Undo::Restore("core.hooksPath".into(), "/srv/our hooks".into()),
            Undo::Drop("transfer.hideRefs".into(), "refs/lockstep".into()),
        ] {
            assert_eq!(Undo::parse(&undo.text()), Some(undo));
        }
        assert_eq!(Undo::parse("rename a b"), None);
    }

    #[test]
    fn a_value_is_matched_alone() {
        assert_eq!(exactly("refs/for.x"), "^refs/for\\.x$");
    }
}
