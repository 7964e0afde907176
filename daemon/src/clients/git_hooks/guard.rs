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

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockstep_proto::RefName;

use super::packed_refs;
use crate::base::ref_names::{self, shown};

/// How often the guard checks again whether `packed-refs.lock` is free: another process may hold it for a moment.
const LOCK_LOOKS: u32 = 40;

/// The pause between two such checks.
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Number of changes that a refusal lists at most.
const LISTED: usize = 5;

/// Prefixes of refs that are never replicated: refs that every site can compute, and Lockstep's own refs.
const LOCAL: [&[u8]; 2] = [b"refs/cache-automerge/", b"refs/lockstep/"];

/// Stands for the value of a ref that does not exist.
const ABSENT: &str = "absent";

/// One line of the hook's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The old value that the writer gave; zeros if it gave none.
    pub old: String,
    /// The new value; zeros delete the ref. Newer releases of git write `ref:NAME` for a symbolic ref.
    pub new: String,
    /// The full name of the ref, or a pseudo-ref such as `HEAD`. It need not be UTF-8.
    pub name: Vec<u8>,
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
        /// The way to make the first of them.
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

/// Decides on one call of the hook. `project` gives the project's name for the remedy, or `None` if the repository is
/// not one of Lockstep's; it is called only when a change would be refused. There is nothing to guard in a repository
/// that is not Lockstep's.
///
/// # Errors
/// At least one change is refused; see [`GuardError`].
pub async fn decide(
    git_dir: &Path,
    project: impl Fn() -> Option<String>,
    state: &str,
    input: &[u8],
) -> Result<(), GuardError> {
    if state != "prepared" {
        return Ok(());
    }
    match judge(git_dir, input).await {
        Ok(bypassing) if bypassing.is_empty() => Ok(()),
        found => match (project(), found) {
            (None, _) => Ok(()),
            (Some(project), Ok(changes)) => Err(GuardError::Bypass { remedy: changes[0].remedy(&project), changes }),
            (Some(_), Err(error)) => Err(error),
        },
    }
}

/// The changes that would bypass Lockstep.
async fn judge(git_dir: &Path, input: &[u8]) -> Result<Vec<Change>, GuardError> {
    let common = common_dir(git_dir)?;
    let mut bypassing = Vec::new();
    for line in input.strip_suffix(b"\n").unwrap_or(input).split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
    {
        let change = Change::parse(line)?;
        if !passes(git_dir, &common, &change).await? {
            bypassing.push(change);
        }
    }
    Ok(bypassing)
}

/// Whether a ref is never replicated: a pseudo-ref, a ref that every site can compute, or one of Lockstep's own refs.
#[must_use]
fn is_local(name: &[u8]) -> bool {
    !name.starts_with(b"refs/") || LOCAL.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a ref of this name is not replicated: it is local, or its name does not fit.
#[must_use]
pub fn is_unfit(name: &[u8]) -> bool {
    is_local(name) || unfit(name).is_some()
}

/// The reason why a ref of this name can never be replicated; `None` if it can.
fn unfit(name: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(name) else { return Some("it is not UTF-8".to_owned()) };
    match text.parse::<RefName>() {
        Ok(name) => ref_names::classify(&name).err().map(str::to_owned),
        Err(error) => Some(error.why.to_owned()),
    }
}

async fn passes(git_dir: &Path, common: &Path, change: &Change) -> Result<bool, GuardError> {
    if change.name == b"HEAD" && change.new.starts_with("ref:") {
        let target = change.new.replacen("ref:", "ref: ", 1);
        return Ok(loose(git_dir, b"HEAD")?.is_some_and(|found| found == target.as_bytes()));
    }
    if is_local(&change.name) {
        return Ok(true);
    }
    let loose = loose(common, &change.name)?;
    // A symbolic ref and a ref whose name does not fit are on this disk alone. To delete them bypasses nothing.
    let is_symbolic = loose.as_ref().is_some_and(|found| found.starts_with(b"ref:"));
    if is_zero(&change.new) && (is_symbolic || unfit(&change.name).is_some()) {
        return Ok(true);
    }
    if is_zero(&change.new) && !is_zero(&change.old) {
        return is_pruned(common, change).await;
    }
    let now = match loose {
        Some(value) => Some(value),
        None => packed(common, &change.name)?.map(String::into_bytes),
    };
    // `0 0 ref` deletes the ref whatever its value is. It changes nothing only if the ref does not exist.
    let wanted = if is_zero(&change.new) { ABSENT } else { &change.new };
    Ok(now.as_deref().unwrap_or(ABSENT.as_bytes()) == wanted.as_bytes())
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
    fn parse(line: &[u8]) -> Result<Self, GuardError> {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(old), Some(new), Some(name)) if !name.is_empty() => {
                Ok(Self { old: text(old), new: text(new), name: name.to_owned() })
            }
            _ => Err(GuardError::Malformed(text(line))),
        }
    }

    fn remedy(&self, project: &str) -> String {
        let name = shown(&self.name);
        match (unfit(&self.name), self.new.strip_prefix("ref:")) {
            (_, Some(target)) if name == "HEAD" => format!("`lockstep head set --project {project} {target}`"),
            (Some(why), _) => format!("another name, because Lockstep cannot replicate this one: {why}"),
            (None, Some(_)) => format!(
                "a ref of its own (`lockstep update-ref --project {project} {name} VALUE`): Lockstep replicates no \
                 symbolic refs"
            ),
            (None, None) if is_zero(&self.new) => {
                format!("`lockstep update-ref --project {project} --delete {name}`")
            }
            (None, None) => format!("`lockstep update-ref --project {project} {name} {}`", self.new),
        }
    }
}

fn list(changes: &[Change]) -> String {
    let line = |change: &Change| match is_zero(&change.new) {
        true => format!("  {} would be deleted", shown(&change.name)),
        false => format!("  {} would become {}", shown(&change.name), change.new),
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
        Some(path) => git_dir.join(OsStr::from_bytes(&path)),
        None => git_dir.to_owned(),
    })
}

fn loose(common: &Path, name: &[u8]) -> Result<Option<Vec<u8>>, GuardError> {
    read(&common.join(OsStr::from_bytes(name)))
}

fn packed(common: &Path, name: &[u8]) -> Result<Option<String>, GuardError> {
    let path = common.join("packed-refs");
    packed_refs::lookup(&path, name).map_err(|source| GuardError::Unreadable { path, source })
}

/// The content of a small file without white space at its end, or `None` if there is no file: the path may be a folder
/// of other refs.
fn read(path: &Path) -> Result<Option<Vec<u8>>, GuardError> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text.trim_ascii_end().to_owned())),
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
