//! The `reference-transaction` hook: a guard that refuses what bypasses Lockstep.
//!
//! git runs it in the state `prepared` with `old new ref` lines, the ref's lock held. What keeps every value
//! passes: `pack-refs` (and so `gc` and `maintenance`) first writes the value that a ref already has, then
//! deletes the loose file while `packed-refs` holds the same value. A real deletion looks the same but for one
//! thing: git holds `packed-refs.lock` during it, and has released it before it prunes. `old` is zeros when the
//! writer did not say it, so the present value is read, never trusted.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::packed;

/// How often a held `packed-refs.lock` is looked at again: another process may hold it for a moment.
const LOCK_LOOKS: u32 = 40;

/// The pause between two looks.
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Most changes that a refusal lists.
const LISTED: usize = 5;

/// Refs that are purely local: what every site can compute, and Lockstep's own.
const LOCAL: [&str; 2] = ["refs/cache-automerge/", "refs/lockstep/"];

/// What stands for the value of a ref that is not there.
const ABSENT: &str = "absent";

/// One line of the hook's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The old value that the writer gave; zeros when it gave none.
    pub old: String,
    /// The new value; zeros delete.
    pub new: String,
    /// The ref, or a pseudo-ref such as `HEAD`.
    pub name: String,
}

/// Why the guard refuses.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The change would bypass Lockstep.
    #[error(
        "lockstep: refused, this would change refs behind Lockstep's back:\n{}\nuse {remedy}; {HINT}",
        list(changes)
    )]
    Bypass {
        /// What would change.
        changes: Vec<Change>,
        /// The right command.
        remedy: String,
    },
    /// The repository cannot be read, so that nothing can be said about the change.
    #[error("lockstep: refused, {} cannot be read: {source}; repair it and try again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The input is not what git writes.
    #[error(
        "lockstep: refused, {0:?} is no line of a reference transaction; use the git that Lockstep was tested with"
    )]
    Malformed(String),
}

const HINT: &str = "many refs that were written with native commands come in by `lockstep import`";

/// Decides on one call of the hook. `project` is asked for only when something is refused.
///
/// # Errors
/// A change is refused; see [`GuardError`].
pub async fn decide(git_dir: &Path, project: impl Fn() -> String, state: &str, input: &str) -> Result<(), GuardError> {
    if state != "prepared" {
        return Ok(());
    }
    let common = common_dir(git_dir)?;
    let mut bypassing = Vec::new();
    for line in input.lines() {
        let change = Change::parse(line)?;
        if !passes(git_dir, &common, &change).await? {
            bypassing.push(change);
        }
    }
    match bypassing.first() {
        None => Ok(()),
        Some(first) => Err(GuardError::Bypass { remedy: first.remedy(&project()), changes: bypassing }),
    }
}

/// Whether a name is purely local: a pseudo-ref, what every site can compute, or Lockstep's own.
#[must_use]
pub fn is_local(name: &str) -> bool {
    !name.starts_with("refs/") || LOCAL.iter().any(|prefix| name.starts_with(prefix))
}

async fn passes(git_dir: &Path, common: &Path, change: &Change) -> Result<bool, GuardError> {
    if change.name == "HEAD" && change.new.starts_with("ref:") {
        let target = change.new.replacen("ref:", "ref: ", 1);
        return Ok(loose(git_dir, "HEAD")?.as_deref() == Some(target.as_str()));
    }
    if is_local(&change.name) {
        return Ok(true);
    }
    if is_zero(&change.new) && !is_zero(&change.old) {
        return is_pruned(common, change).await;
    }
    let now = match loose(common, &change.name)? {
        Some(value) => Some(value),
        None => packed(common, &change.name)?,
    };
    // `0 0 ref` deletes whatever is there; it keeps the value only of a ref that is not there.
    Ok(now.as_deref().unwrap_or(ABSENT) == if is_zero(&change.new) { ABSENT } else { &change.new })
}

/// Whether a deletion removes only the loose copy of what `packed-refs` holds.
async fn is_pruned(common: &Path, change: &Change) -> Result<bool, GuardError> {
    let lock = common.join("packed-refs.lock");
    for look in 0.. {
        match std::fs::symlink_metadata(&lock) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(source) => return Err(GuardError::Unreadable { path: lock, source }),
            // Held for so long: by the git that runs this hook, which deletes in earnest.
            Ok(_) if look == LOCK_LOOKS => return Ok(false),
            Ok(_) => tokio::time::sleep(LOCK_PAUSE).await,
        }
    }
    Ok(packed(common, &change.name)?.as_deref() == Some(change.old.as_str()))
}

impl Change {
    fn parse(line: &str) -> Result<Self, GuardError> {
        let mut parts = line.splitn(3, ' ');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(old), Some(new), Some(name)) if !name.is_empty() => {
                Ok(Self { old: old.to_owned(), new: new.to_owned(), name: name.to_owned() })
            }
            _ => Err(GuardError::Malformed(line.to_owned())),
        }
    }

    fn remedy(&self, project: &str) -> String {
        match (&self.name, self.new.strip_prefix("ref:")) {
            (name, Some(target)) if name == "HEAD" => format!("`lockstep head set --project {project} {target}`"),
            (name, _) if is_zero(&self.new) => format!("`lockstep update-ref --project {project} --delete {name}`"),
            (name, _) => format!("`lockstep update-ref --project {project} {name} {}`", self.new),
        }
    }
}

fn list(changes: &[Change]) -> String {
    let line = |change: &Change| match is_zero(&change.new) {
        true => format!("  {} would be deleted", change.name),
        false => format!("  {} would become {}", change.name, change.new),
    };
    let mut lines: Vec<String> = changes.iter().take(LISTED).map(line).collect();
    if changes.len() > LISTED {
        lines.push(format!("  and {} more", changes.len() - LISTED));
    }
    lines.join("\n")
}

/// Where refs live: the git folder itself, or what its `commondir` names (a linked work tree).
fn common_dir(git_dir: &Path) -> Result<PathBuf, GuardError> {
    Ok(match read(&git_dir.join("commondir"))? {
        Some(text) => git_dir.join(text),
        None => git_dir.to_owned(),
    })
}

fn loose(common: &Path, name: &str) -> Result<Option<String>, GuardError> {
    read(&common.join(name))
}

fn packed(common: &Path, name: &str) -> Result<Option<String>, GuardError> {
    let path = common.join("packed-refs");
    packed::lookup(&path, name).map_err(|source| GuardError::Unreadable { path, source })
}

/// A small file's text; `None` when it is not there, or is a folder of other refs.
fn read(path: &Path) -> Result<Option<String>, GuardError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if is_no_file(&error) => Ok(None),
        Err(source) => Err(GuardError::Unreadable { path: path.to_owned(), source }),
    }
}

fn is_no_file(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | IsADirectory | NotADirectory)
}

fn is_zero(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'0')
}
