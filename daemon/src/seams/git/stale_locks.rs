//! Removes the locks of a killed git process while the sidecar lives on.
//!
//! Right after the death of the process, the present locks of its refs are noted. The locks of other programs are
//! released within moments. A lock that is still the same file after all tries belongs to the dead process, and is
//! removed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::update_ref::Line;

/// A lock file: path, device, inode, and the time of its last change (seconds, nanoseconds).
#[derive(Debug, PartialEq, Eq)]
struct Lock(PathBuf, u64, u64, i64, i64);

/// The locks that may belong to a dead process.
#[derive(Debug, Default)]
pub(super) struct Suspects(Vec<Lock>);

impl Suspects {
    /// Adds the present locks of a transaction to those noted before.
    pub(super) fn note(&mut self, git_dir: &Path, lines: &[Line]) {
        for name in lines.iter().map(Line::name).chain(["HEAD", "packed-refs"]) {
            let lock = look(git_dir.join(format!("{name}.lock")));
            self.0.extend(lock.filter(|lock| !self.0.contains(lock)));
        }
    }

    /// Removes the locks that are still unchanged. Returns whether there was one.
    pub(super) fn remove(&mut self) -> bool {
        let same = |lock: &Lock| look(lock.0.clone()).as_ref() == Some(lock);
        let stale: Vec<Lock> = std::mem::take(&mut self.0).into_iter().filter(same).collect();
        stale.iter().filter(|lock| std::fs::remove_file(&lock.0).is_ok()).count() > 0
    }
}

fn look(path: PathBuf) -> Option<Lock> {
    let meta = path.symlink_metadata().ok()?;
    Some(Lock(path, meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}
