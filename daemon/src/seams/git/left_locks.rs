//! Looks for locks that programs left behind in a repository, before a commit meets them.
//!
//! git locks refs and settings for moments. A lock that is older than a minute belongs to a program that died or hangs.
//! While it is there, commits on the locked refs are true everywhere and cannot be shown here. It is not removed here,
//! because its owner may live.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::foreign_lock::age;

/// The age from which a lock counts as left behind.
const LEFT_AFTER: Duration = Duration::from_secs(60);
/// The files beside the refs that programs lock.
const LOCKED: [&str; 3] = ["HEAD.lock", "packed-refs.lock", "config.lock"];

/// A lock that a program left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftLock {
    /// The path of the lock file.
    pub path: PathBuf,
    /// When it was made, in milliseconds since 1970.
    pub since_ms: u64,
}

/// The locks that were left behind in a repository, by their paths, at most `most`. `now_ms` is the machine's clock. A
/// folder that cannot be read has none.
#[expect(clippy::disallowed_methods, reason = "the git adapter: the disk blocks")]
pub async fn left_locks(git_dir: PathBuf, now_ms: u64, most: usize) -> Vec<LeftLock> {
    tokio::task::spawn_blocking(move || look(&git_dir, now_ms, most)).await.unwrap_or_default()
}

fn look(git_dir: &Path, now_ms: u64, most: usize) -> Vec<LeftLock> {
    let mut found: Vec<LeftLock> = LOCKED.iter().filter_map(|name| left_behind(git_dir.join(name), now_ms)).collect();
    let mut folders = vec![git_dir.join("refs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) if path.extension().is_some_and(|end| end == "lock") => found.extend(left_behind(path, now_ms)),
                Ok(_) | Err(_) => {}
            }
        }
        if found.len() >= most {
            break;
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found.truncate(most);
    found
}

fn left_behind(path: PathBuf, now_ms: u64) -> Option<LeftLock> {
    let now: SystemTime = UNIX_EPOCH + Duration::from_millis(now_ms);
    let age = age(&path, now).filter(|age| *age >= LEFT_AFTER)?;
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Some(LeftLock { path, since_ms: now_ms.saturating_sub(age_ms) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 2_000_000_000;

    /// Makes a file that was changed this many seconds before now.
    fn file(git_dir: &Path, name: &str, seconds: u64) {
        let path = git_dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let made = UNIX_EPOCH + Duration::from_millis(NOW_MS - seconds * 1_000);
        std::fs::File::create(path).unwrap().set_modified(made).unwrap();
    }

    #[test]
    fn old_locks_are_found_wherever_they_are_and_young_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let git_dir = folder.path();
        file(git_dir, "refs/heads/a/b.lock", 61);
        file(git_dir, "packed-refs.lock", 3_600);
        for young in ["refs/heads/a/c.lock", "HEAD.lock"] {
            file(git_dir, young, 59);
        }
        for other in ["refs/heads/a/lock", "objects/pack/x.lock", "refs/heads/a/clock"] {
            file(git_dir, other, 3_600);
        }
        let found = look(git_dir, NOW_MS, 9);
        let left = |name: &str, seconds: u64| LeftLock { path: git_dir.join(name), since_ms: NOW_MS - seconds * 1_000 };
        assert_eq!(found, [left("packed-refs.lock", 3_600), left("refs/heads/a/b.lock", 61)]);
        assert_eq!(look(git_dir, NOW_MS, 1), [left("packed-refs.lock", 3_600)]);
        assert_eq!(look(&git_dir.join("nowhere"), NOW_MS, 9), []);
    }
}
