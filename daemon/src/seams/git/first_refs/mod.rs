//! Writes the first refs of a repository, if they are many, into `packed-refs` at once.
//!
//! `git update-ref` creates a file for each ref, and mostly a folder; `git pack-refs` then puts them into one file and
//! removes them again. For thousands of refs of a project that arrives, that took longer than all its objects. `git
//! clone` writes `packed-refs` right away, but no command of git does that with given values. So it is done here, for a
//! repository that has no ref yet, and in no other case:
//! - It holds git's own lock of that file from before it looks for refs, so no program that packs refs interferes.
//! - The file is complete and durable before it gets its name. So all refs appear at once, or none.
//! - It keeps the rules of `git update-ref`: a branch is a commit, no name is a folder of another, and a reflog that
//!   exists is continued.
//!
//! Anything unusual, `core.sharedRepository` among it, is left to git. Git also writes the file anew soon afterwards,
//! with the targets of tags.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use git2::{ObjectType, Repository};
use lockstep_proto::{Oid, RefName};

use super::odb::ObjectDb;
use super::ref_files;
use super::update_ref::{Line, REFLOG_MESSAGE};
use crate::base::clock::{Clock, SystemClock};
use crate::base::ref_names;

/// Fewer refs are left to git.
const FEWEST: usize = 1_000;
/// The first line of the file: its lines are sorted, and the targets of tags are not in it.
const HEADER: &str = "# pack-refs with: sorted \n";

/// The refs of a transaction that does nothing but create very many of them; `None` for any other transaction.
pub(super) fn of(lines: &[Line]) -> Option<BTreeMap<String, Oid>> {
    if lines.len() < FEWEST {
        return None;
    }
    let created = |line: &Line| match line {
        Line::Move { name, old: None, new: Some(new), .. } => Some((name.clone(), *new)),
        _ => None,
    };
    let refs: BTreeMap<String, Oid> = lines.iter().map(created).collect::<Option<_>>()?;
    let names: Vec<RefName> = refs.keys().map(|name| name.parse().ok()).collect::<Option<_>>()?;
    (refs.len() == lines.len() && ref_names::exclusive_pair(&names).is_none()).then_some(refs)
}

/// Creates the refs, if the repository has none. Returns whether it did. All objects are present. Blocks.
pub(super) fn create(git_dir: &Path, refs: &BTreeMap<String, Oid>) -> io::Result<bool> {
    let repository = Repository::open_bare(git_dir).map_err(io::Error::other)?;
    if is_shared(&repository)? || !branches_are_commits(&repository, refs)? {
        return Ok(false);
    }
    let Some(lock) = Lock::take(git_dir)? else { return Ok(false) };
    if !ref_files::list_all(git_dir, "refs/")?.is_empty() {
        return Ok(false);
    }
    let mut file = BufWriter::new(&lock.file);
    file.write_all(HEADER.as_bytes())?;
    for (name, oid) in refs {
        writeln!(file, "{oid} {name}")?;
    }
    file.flush()?;
    drop(file);
    lock.file.sync_all()?;
    crate::base::faults::failpoint::reach("git.prepared");
    lock.put_in_place()?;
    for (name, oid) in refs {
        continue_reflog(git_dir, name, oid)
            .unwrap_or_else(|error| tracing::warn!(%name, %error, "no line in a reflog"));
    }
    Ok(true)
}

/// Whether git gives its files the permissions that `core.sharedRepository` asks for.
fn is_shared(repository: &Repository) -> io::Result<bool> {
    let config = repository.config().map_err(io::Error::other)?;
    Ok(config.get_entry("core.sharedRepository").is_ok())
}

fn branches_are_commits(repository: &Repository, refs: &BTreeMap<String, Oid>) -> io::Result<bool> {
    let objects = ObjectDb::open(repository).map_err(io::Error::other)?;
    let branches = refs.iter().filter(|(name, _)| name.starts_with("refs/heads/"));
    for (_, oid) in branches {
        let id = git2::Oid::from_bytes(oid.as_bytes()).map_err(io::Error::other)?;
        if objects.header(id).map_err(io::Error::other)?.1 != ObjectType::Commit {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Git's lock of `packed-refs`, which is the file that will take its place.
struct Lock {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Lock {
    /// Takes the lock; `None` if another program holds it.
    fn take(git_dir: &Path) -> io::Result<Option<Self>> {
        let (path, target) = (git_dir.join("packed-refs.lock"), git_dir.join("packed-refs"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => Ok(Some(Self { file, path, target })),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces `packed-refs`, and ends the lock.
    fn put_in_place(mut self) -> io::Result<()> {
        std::fs::rename(&self.path, &self.target)?;
        // There is nothing to remove any more. The name may be the lock of another program by now.
        self.path.clear();
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Adds a line to the reflog of a ref, if it has one.
fn continue_reflog(git_dir: &Path, name: &str, oid: &Oid) -> io::Result<()> {
    let mut log = match OpenOptions::new().append(true).open(git_dir.join("logs").join(name)) {
        Ok(log) => log,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    let seconds = SystemClock.now_ms() / 1_000;
    let absent = "0".repeat(40);
    writeln!(log, "{absent} {oid} Lockstep <lockstep@localhost> {seconds} +0000\t{REFLOG_MESSAGE}")
}

#[cfg(test)]
mod tests;
