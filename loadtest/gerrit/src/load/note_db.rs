//! Reads changes, drafts and accounts from the repositories of a site, as Gerrit's NoteDb keeps them. No Gerrit is
//! asked, so that no cache or index can hide a loss.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use git2::{ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};
use lockstep_loadtest::Fallible;

/// A change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The messages of all commits of its `meta` ref.
    pub text: String,
    /// The commits of its patch sets, by these messages.
    pub noted: BTreeSet<String>,
    /// The commits of its patch sets, by its refs.
    pub patch_sets: BTreeSet<String>,
    /// The status, such as `new` or `merged`.
    pub status: String,
    /// The commit of its last patch set, by the messages.
    pub current: String,
}

/// Every change of a project, by its number.
pub fn changes(repository: &Path) -> Fallible<BTreeMap<u32, Notes>> {
    let repository = Repository::open_bare(repository)?;
    let mut changes: BTreeMap<u32, Notes> = BTreeMap::new();
    for found in repository.references_glob("refs/changes/*")? {
        let found = found?;
        let (Ok(name), Some(value)) = (found.name(), found.target()) else { continue };
        // refs/changes/34/1234/meta
        let parts: Vec<&str> = name.split('/').collect();
        let [_, _, _, number, last] = parts[..] else { continue };
        let Ok(number) = number.parse() else { continue };
        let notes = changes.entry(number).or_default();
        match last {
            "meta" => read_meta(&repository, value, notes)?,
            last if last.bytes().all(|digit| digit.is_ascii_digit()) => {
                notes.patch_sets.insert(value.to_string());
            }
            _ => {}
        }
    }
    Ok(changes)
}

/// Reads the commits of a `meta` ref, the last one first.
fn read_meta(repository: &Repository, value: Oid, notes: &mut Notes) -> Fallible<()> {
    let mut next = Some(repository.find_commit(value)?);
    while let Some(commit) = next {
        let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
        for line in message.lines() {
            match line.split_once(": ") {
                Some(("Commit", oid)) => {
                    if notes.current.is_empty() {
                        oid.clone_into(&mut notes.current);
                    }
                    notes.noted.insert(oid.to_owned());
                }
                Some(("Status", status)) if notes.status.is_empty() => status.clone_into(&mut notes.status),
                _ => {}
            }
        }
        notes.text.push_str(&message);
        next = commit.parents().next();
    }
    Ok(())
}

/// The content of all drafts of All-Users, by the number of their change.
pub fn drafts(users: &Path) -> Fallible<BTreeMap<u32, String>> {
    let repository = Repository::open_bare(users)?;
    let mut drafts: BTreeMap<u32, String> = BTreeMap::new();
    for found in repository.references_glob("refs/draft-comments/*")? {
        let found = found?;
        // refs/draft-comments/34/1234/1000001
        let number = found.name().ok().and_then(|name| name.split('/').nth(3)?.parse().ok());
        let (Some(number), Some(value)) = (number, found.target()) else { continue };
        drafts.entry(number).or_default().push_str(&content(&repository, value)?);
    }
    Ok(drafts)
}

/// The content of every version of every account in All-Users.
pub fn accounts(users: &Path) -> Fallible<String> {
    let repository = Repository::open_bare(users)?;
    let mut all = String::new();
    for found in repository.references_glob("refs/users/*")? {
        let Some(value) = found?.target() else { continue };
        let mut walk = repository.revwalk()?;
        walk.push(value)?;
        for commit in walk {
            all.push_str(&content(&repository, commit?)?);
        }
    }
    Ok(all)
}

/// The content of all files of a commit.
fn content(repository: &Repository, commit: Oid) -> Fallible<String> {
    let (tree, mut blobs) = (repository.find_commit(commit)?.tree()?, Vec::new());
    tree.walk(TreeWalkMode::PreOrder, |_, entry| {
        if entry.kind() == Some(ObjectType::Blob) {
            blobs.push(entry.id());
        }
        TreeWalkResult::Ok
    })?;
    let mut all = String::new();
    for blob in blobs {
        all.push_str(&String::from_utf8_lossy(repository.find_blob(blob)?.content()));
    }
    Ok(all)
}

/// Whether a ref has a value, or a later one that contains it.
pub fn contains(repository: &Path, name: &str, value: &str) -> Fallible<bool> {
    let repository = Repository::open_bare(repository)?;
    let wanted = Oid::from_str(value)?;
    let Ok(shown) = repository.refname_to_id(name) else { return Ok(false) };
    if shown == wanted {
        return Ok(true);
    }
    // A ref whose values are no commits cannot tell; the object itself must be there.
    let descends = repository.graph_descendant_of(shown, wanted);
    Ok(descends.or_else(|_| repository.odb().map(|objects| objects.exists(wanted)))?)
}
