//! Writes into a node's repository behind the sidecar's back, past every hook, as Gerrit's `init` does.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{Oid, Repository};

use crate::local_git;

fn open(repository: &Path) -> Repository {
    Repository::open_bare(repository).expect("a repository")
}

/// Makes a commit on `parent`, with one file that holds `content`, and returns its id.
///
/// # Panics
/// If the parent does not exist.
#[must_use]
pub fn commit(repository: &Path, parent: Option<&str>, content: &str) -> String {
    let parents: Vec<lockstep_proto::Oid> = parent.into_iter().map(|oid| oid.parse().expect("an id")).collect();
    let files = BTreeMap::from([("file".to_owned(), content.as_bytes().to_vec())]);
    local_git::commit(&open(repository), &parents, &files).to_string()
}

/// Makes a blob, as Gerrit does for a sequence or a schema version, and returns its id.
///
/// # Panics
/// If it cannot be written.
#[must_use]
pub fn blob(repository: &Path, content: &str) -> String {
    open(repository).blob(content.as_bytes()).expect("a blob").to_string()
}

/// Sets a ref to `value`, or deletes it for `None`.
///
/// # Panics
/// If it cannot be written.
pub fn set(repository: &Path, name: &str, value: Option<&str>) {
    let repository = open(repository);
    match value {
        Some(value) => {
            let oid: Oid = value.parse().expect("an id");
            drop(repository.reference(name, oid, true, "behind").expect("the ref is set"));
        }
        None => repository.find_reference(name).expect("the ref").delete().expect("the ref is deleted"),
    }
}
