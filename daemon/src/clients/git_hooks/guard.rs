//! The `reference-transaction` hook: a guard that refuses changes that bypass Lockstep.
//!
//! git runs it in the state `prepared`, with `old new ref` lines on standard input, while it holds the lock of each
//! ref. The guard allows a change that keeps every value. `pack-refs` (and so `gc` and `maintenance`) makes such
//! changes: it first writes the value that a ref already has, then deletes the loose file while `packed-refs` holds the
//! same value.
//!
//! A real deletion looks the same, with one difference: git holds `packed-refs.lock` during a deletion, and has
//! released it before it prunes loose files. `old` is zeros when the writer did not give the old value. Therefore the
//! guard reads the present value itself and never trusts `old`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::packed_refs;

/// How often the guard checks again whether `packed-refs.lock` is free: another process may hold it for a moment.
const LOCK_LOOKS: u32 = 40;

/// The pause between two such checks.
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Number of changes that a refusal lists at most.
const LISTED: usize = 5;

/// Prefixes of refs that are never replicated: refs that every site can compute, and Lockstep's own refs.
const LOCAL: [&str; 2] = ["refs/cache-automerge/", "refs/lockstep/"];

/// Stands for the value of a ref that does not exist.
const ABSENT: &str = "absent";

/// One line of the hook's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The old value that the writer gave; zeros if it gave none.
    pub old: String,
    /// The new value; zeros delete the ref.
    pub new: String,
    /// The full name of the ref, or a pseudo-ref such as `HEAD`.
    pub name: String,
}

/// A refusal of the guard. git shows its text to the user.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The changes would bypass Lockstep.
    #[error(
        "lockstep: refused, because this would change refs without Lockstep:\n{}\nuse {remedy}; {HINT}",
        list(changes)
    )]
    Bypass {
        /// The changes that would bypass Lockstep.
        changes: Vec<Change>,
        /// The `lockstep` command that makes the first of them.
        remedy: String,
    },
    /// A file of the repository cannot be read, so the guard cannot tell whether the change keeps every value.
    #[error("lockstep: refused, because {} cannot be read: {source}; repair it and try again", path.display())]
    Unreadable {
        /// The file that cannot be read.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A line of the input does not have the form that git writes.
    #[error(
        "lockstep: refused, because {0:?} is not a line of a reference transaction; use a git version that Lockstep \
         was tested with"
    )]
    Malformed(String),
}

const HINT: &str = "to commit many refs that native git commands wrote, use `lockstep import`";

/// Decides on one call of the hook. `project` gives the project's name for the remedy; it is called only for a refusal.
///
/// # Errors
/// At least one change is refused; see [`GuardError`].
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

/// Whether a ref is never replicated: a pseudo-ref, a ref that every site can compute, or one of Lockstep's own refs.
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
    // `0 0 ref` deletes the ref whatever its value is. It changes nothing only if the ref does not exist.
    Ok(now.as_deref().unwrap_or(ABSENT) == if is_zero(&change.new) { ABSENT } else { &change.new })
}

/// Whether a deletion removes only the loose copy of a value that `packed-refs` holds.
async fn is_pruned(common: &Path, change: &Change) -> Result<bool, GuardError> {
    let lock = common.join("packed-refs.lock");
    for look in 0.. {
        match std::fs::symlink_metadata(&lock) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(source) => return Err(GuardError::Unreadable { path: lock, source }),
            // Still held, so the holder is the git that runs this hook: this is a real deletion.
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

/// The folder with the refs: the git folder itself, or for a linked work tree the folder that `commondir` names.
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
    packed_refs::lookup(&path, name).map_err(|source| GuardError::Unreadable { path, source })
}

/// The text of a small file, or `None` if there is no file: the path may be a folder of other refs.
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
