//! Which life of which node worked in a base path last, and which sync was the last that it saw. What the node remembers lies below the root, and a base path may be a
//! file system of its own: mounted from somewhere else, or restored to another day.

use std::collections::BTreeSet;

use lockstep_proto::ProjectName;

use super::GitError;
use super::layout::{Layout, Own, failed};
use super::note::{read, write};

/// Of the projects, those whose base path has another word, or none. Blocks.
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
    Ok(projects.into_iter().filter(|project| strange.contains(layout.roots().of(project))).collect())
}

/// Whether a folder was not there, or not as it is now, when the volume was made durable last. That may have been in the same
/// life: a snapshot of it has the right word, and an older mark. A crash may have come while marks took their places; then
/// the root still says which one that was. Blocks.
pub(super) fn is_of_another_time(layout: &Layout, own: Own<'_>) -> std::io::Result<bool> {
    let root = Own { root: layout.roots().root() };
    let (mark, last) = (read(&own.sync_mark())?, read(&root.sync_mark())?);
    Ok(mark != last && (mark.is_none() || mark != read(&root.sync_begun())?))
}

/// Leaves the word in every base path. Blocks.
pub(super) fn leave(layout: &Layout, word: &str) -> Result<(), GitError> {
    let mut stamps = base_paths(layout).map(|own| own.stamp());
    stamps.try_for_each(|stamp| write(&stamp, word)).map_err(|error| failed("(all)", "stamp the volume", error))
}

/// What the node remembers lies below the root itself.
fn base_paths(layout: &Layout) -> impl Iterator<Item = Own<'_>> {
    layout.owns().into_iter().filter(|own| own.root != layout.roots().root())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::base_paths::Roots;

    #[test]
    fn a_folder_of_another_time_is_seen() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let others = BTreeMap::from([("big/*".to_owned(), other.path().to_owned())]);
        let open = || Layout::open(&Roots::new(root.path().to_owned(), others.clone())).unwrap();
        let strange = |word: &str| {
            let projects = ["app", "big/x"].map(|name| name.parse().unwrap()).to_vec();
            unrecognized(&open(), word, projects).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(strange("n 0"), ["big/x"], "it is new");
        leave(&open(), "n 1").unwrap();
        assert_eq!(strange("n 1"), [""; 0]);
        assert_eq!(strange("n 2"), ["big/x"], "it missed a life");
        let mark = |word: &str| std::fs::write(open().owns()[1].sync_mark(), word).unwrap();
        std::fs::write(open().owns()[0].sync_mark(), "third").unwrap();
        std::fs::write(open().owns()[0].sync_begun(), "fourth").unwrap();
        assert_eq!(strange("n 1"), ["big/x"], "it was never made durable");
        for (word, wanted) in [("third", false), ("second", true), ("fourth", false), ("", true)] {
            mark(word);
            assert_eq!(!strange("n 1").is_empty(), wanted, "{word}");
        }
        mark("third");
        std::fs::remove_dir_all(other.path().join(".lockstep")).unwrap();
        assert_eq!(strange("n 1"), ["big/x"], "it is another one");
        assert!(!root.path().join(".lockstep/life").exists());
    }
}
