//! Stamps base paths, so that a changed base path is recognised at start.
//!
//! The stamp names the sidecar's life (node and number of starts) that last worked in a base path; the sync mark beside
//! it names the last sync that the base path took part in. The node's own records lie below the root. A base path may
//! be a file system of its own: one from elsewhere may be mounted in its place, or it may be restored to another day.

use std::collections::BTreeSet;

use lockstep_proto::ProjectName;

use super::GitError;
use super::layout::{Layout, Own, failed};
use super::small_file::{read, write};

/// Returns those of the projects whose base path has another stamp than `word`, or none, or missed the last sync.
/// Blocks.
pub(super) fn unrecognized(
    layout: &Layout,
    word: &str,
    projects: Vec<ProjectName>,
) -> Result<Vec<ProjectName>, GitError> {
    let mut strange = BTreeSet::new();
    for own in base_paths(layout) {
        let look = || Ok(read(&own.stamp())?.as_deref() != Some(word) || is_of_another_time(layout, own)?);
        if look().map_err(|error: std::io::Error| failed("(all)", "look at the volume's stamps", error))? {
            strange.insert(own.root);
        }
    }
    Ok(projects.into_iter().filter(|project| strange.contains(layout.base_paths().of(project))).collect())
}

/// Returns whether a folder was absent, or in another state, when the volume was made durable last. That can happen
/// within one life of the sidecar: a restored snapshot has the right stamp and an older mark. After a crash in the
/// middle of renaming the marks, the root's `sync_begun` file still names the newer mark. Blocks.
pub(super) fn is_of_another_time(layout: &Layout, own: Own<'_>) -> std::io::Result<bool> {
    let root = Own { root: layout.base_paths().root() };
    let (mark, last) = (read(&own.sync_mark())?, read(&root.sync_mark())?);
    Ok(mark != last && (mark.is_none() || mark != read(&root.sync_begun())?))
}

/// Writes the stamp into every base path. Blocks.
pub(super) fn leave(layout: &Layout, word: &str) -> Result<(), GitError> {
    let mut stamps = base_paths(layout).map(|own| own.stamp());
    stamps.try_for_each(|stamp| write(&stamp, word)).map_err(|error| failed("(all)", "stamp the volume", error))
}

/// Returns the sidecar's folders in the base paths. The root is left out, because the node's own records lie there.
fn base_paths(layout: &Layout) -> impl Iterator<Item = Own<'_>> {
    layout.owns().into_iter().filter(|own| own.root != layout.base_paths().root())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::base_paths::BasePaths;

    #[test]
    fn a_folder_of_another_time_is_seen() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let others = BTreeMap::from([("big/*".to_owned(), other.path().to_owned())]);
        let open = || Layout::open(&BasePaths::new(root.path().to_owned(), others.clone())).unwrap();
        let strange = |word: &str| {
            let projects = ["app", "big/x"].map(|name| name.parse().unwrap()).to_vec();
            unrecognized(&open(), word, projects).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(strange("n 0"), ["big/x"], "the base path is new");
        leave(&open(), "n 1").unwrap();
        assert_eq!(strange("n 1"), [""; 0]);
        assert_eq!(strange("n 2"), ["big/x"], "the base path missed a life of the sidecar");
        let mark = |word: &str| std::fs::write(open().owns()[1].sync_mark(), word).unwrap();
        std::fs::write(open().owns()[0].sync_mark(), "third").unwrap();
        std::fs::write(open().owns()[0].sync_begun(), "fourth").unwrap();
        assert_eq!(strange("n 1"), ["big/x"], "the base path was never synced");
        for (word, wanted) in [("third", false), ("second", true), ("fourth", false), ("", true)] {
            mark(word);
            assert_eq!(!strange("n 1").is_empty(), wanted, "{word}");
        }
        mark("third");
        std::fs::remove_dir_all(other.path().join(".lockstep")).unwrap();
        assert_eq!(strange("n 1"), ["big/x"], "the base path lost its stamp");
        assert!(!root.path().join(".lockstep/life").exists());
    }
}
