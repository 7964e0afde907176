//! A lock of another program that is in the way of a move: how old it is, and the words for people.
//!
//! git holds a lock of a ref for moments. A lock that is older was left behind by a program that died, and waiting for
//! it does not help. It is never removed here, because its owner may live: people read where it is, and the move is
//! repeated in the background.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The age from which a lock counts as left behind. It only decides how long a caller waits.
const LEFT_BEHIND: Duration = Duration::from_secs(30);

/// The lock file that git met.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ForeignLock {
    path: PathBuf,
    /// None if the file cannot be read any more.
    age: Option<Duration>,
}

impl ForeignLock {
    /// The lock that git's error output names, if it is one. `now_ms` is the machine's clock.
    pub(super) fn named(why: &str, now_ms: u64) -> Option<Self> {
        let (_, rest) = why.split_once("Unable to create '")?;
        let (path, _) = rest.split_once("': File exists")?;
        let now = UNIX_EPOCH + Duration::from_millis(now_ms);
        Some(Self { age: age(Path::new(path), now), path: path.into() })
    }

    /// Whether its owner has probably died.
    pub(super) fn is_left_behind(&self) -> bool {
        self.age.is_some_and(|age| age >= LEFT_BEHIND)
    }

    /// The obstacle and the remedy, for people.
    pub(super) fn tell(&self) -> String {
        let since = self.age.map(|age| format!(", since {} s", age.as_secs())).unwrap_or_default();
        let path = self.path.display();
        format!("a lock of another program is in the way{since}: {path}; remove it if no git process uses it")
    }
}

/// The time since a lock file was made. None if it cannot be read any more.
pub(super) fn age(path: &Path, now: SystemTime) -> Option<Duration> {
    let made = path.symlink_metadata().ok()?.modified().ok()?;
    Some(now.duration_since(made).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_git_names_tells_its_age_and_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.lock");
        let file = std::fs::File::create(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
        let said = format!(
            "fatal: prepare: cannot lock ref 'refs/heads/main': Unable to create '{}': File exists.\n\nAnother git",
            path.display()
        );
        let young = ForeignLock::named(&said, 1_010_000).unwrap();
        assert!(!young.is_left_behind() && young.tell().contains("since 10 s"), "{}", young.tell());
        let old = ForeignLock::named(&said, 1_900_000).unwrap();
        assert!(old.is_left_behind() && old.tell().contains("main.lock") && old.tell().contains("since 900 s"));
        std::fs::remove_file(&path).unwrap();
        assert!(!ForeignLock::named(&said, 1_900_000).unwrap().is_left_behind());
        assert_eq!(ForeignLock::named("fatal: cannot lock ref 'refs/heads/main': is at 1 but expected 2", 0), None);
    }
}
