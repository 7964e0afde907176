//! The commits that clients push. They are written into a client's own repository, which borrows the objects of the
//! site's, as if the client had just fetched.

use std::path::Path;

use git2::{ErrorCode, Oid, Repository, Signature, Time};
use lockstep_loadtest::Fallible;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A commit to write.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Its parent.
    pub parent: &'a str,
    /// The file that it adds or changes.
    pub file: &'a str,
    /// The new bytes of this file. They do not compress.
    pub bytes: u32,
    /// The seed of the bytes.
    pub seed: u64,
    /// The message.
    pub message: &'a str,
    /// The address of author and committer.
    pub email: &'a str,
}

/// The value of a ref. None if the repository does not show it.
pub fn value(repository: &Path, name: &str) -> Fallible<Option<String>> {
    match Repository::open_bare(repository)?.refname_to_id(name) {
        Ok(oid) => Ok(Some(oid.to_string())),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes a commit. None if its parent is not there yet.
pub fn write(repository: &Path, wanted: &Wanted<'_>) -> Fallible<Option<String>> {
    let repository = Repository::open_bare(repository)?;
    let parent = match repository.find_commit(Oid::from_str(wanted.parent)?) {
        Ok(parent) => parent,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut content = vec![0; wanted.bytes as usize];
    ChaCha8Rng::seed_from_u64(wanted.seed).fill(&mut content[..]);
    let blob = repository.blob(&content)?;
    let before = parent.tree()?;
    let mut tree = repository.treebuilder(Some(&before))?;
    tree.insert(wanted.file, blob, 0o100_644)?;
    let tree = repository.find_tree(tree.write()?)?;
    // Git's walks want a commit to be no older than its parents.
    let time = Time::new(parent.time().seconds() + 1, 0);
    let user = Signature::new("Load", wanted.email, &time)?;
    Ok(Some(repository.commit(None, &user, &user, wanted.message, &tree, &[&parent])?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_adds_its_file_to_those_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(folder.path()).unwrap();
        let user = Signature::new("T", "t@example.com", &Time::new(7, 0)).unwrap();
        let empty = repository.find_tree(repository.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let first = repository.commit(Some("refs/heads/master"), &user, &user, "first", &empty, &[]).unwrap();
        assert_eq!(value(folder.path(), "refs/heads/master").unwrap(), Some(first.to_string()));
        assert_eq!(value(folder.path(), "refs/heads/other").unwrap(), None);
        let mut parent = first.to_string();
        for file in ["a", "b"] {
            let (message, email) = ("more", "u@example.com");
            let wanted = Wanted { parent: &parent, file, bytes: 10, seed: 1, message, email };
            parent = write(folder.path(), &wanted).unwrap().unwrap();
        }
        let last = repository.find_commit(Oid::from_str(&parent).unwrap()).unwrap();
        assert_eq!((last.tree().unwrap().len(), last.time().seconds()), (2, 9));
        let absent = "0123456789012345678901234567890123456789";
        let wanted = Wanted { parent: absent, file: "a", bytes: 1, seed: 1, message: "", email: "u@example.com" };
        assert_eq!(write(folder.path(), &wanted).unwrap(), None);
    }
}
