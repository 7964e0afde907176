//! Which life of which node worked in a base path last. What the node remembers lies below the root, and a base path may be a
//! file system of its own: mounted from somewhere else, or restored to another day.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use lockstep_proto::ProjectName;

use super::GitError;
use super::layout::{Layout, Own, failed};

/// Of the projects, those whose base path has another word, or none. Blocks.
pub(super) fn strangers(layout: &Layout, word: &str, projects: Vec<ProjectName>) -> Result<Vec<ProjectName>, GitError> {
    let mut strange = BTreeSet::new();
    for own in base_paths(layout) {
        match std::fs::read_to_string(own.stamp()) {
            Ok(found) if found == word => {}
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("(all)", "look at the volume's stamps", error));
            }
            _ => _ = strange.insert(own.root),
        }
    }
    Ok(projects.into_iter().filter(|project| strange.contains(layout.roots().of(project))).collect())
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

fn write(path: &Path, word: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(word.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::roots::Roots;

    #[test]
    fn a_folder_of_another_time_is_seen() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let others = BTreeMap::from([("big/*".to_owned(), other.path().to_owned())]);
        let open = || Layout::open(&Roots::new(root.path().to_owned(), others.clone())).unwrap();
        let strange = |word: &str| {
            let projects = ["app", "big/x"].map(|name| name.parse().unwrap()).to_vec();
            strangers(&open(), word, projects).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(strange("n 0"), ["big/x"], "it is new");
        leave(&open(), "n 1").unwrap();
        assert_eq!(strange("n 1"), [""; 0]);
        assert_eq!(strange("n 2"), ["big/x"], "it missed a life");
        std::fs::remove_dir_all(other.path().join(".lockstep")).unwrap();
        assert_eq!(strange("n 1"), ["big/x"], "it is another one");
        assert!(!root.path().join(".lockstep/life").exists());
    }
}
