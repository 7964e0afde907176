//! Finds the new trees and blobs of new commits, by walking a commit's tree beside the trees of its parents.
//!
//! A subtree that a parent has in the same folder is known and is not entered, so the cost is proportional to the
//! change. Commits come parents first. "Known" therefore means: in the closure of a base, or packed already.

use std::collections::{HashMap, HashSet};

use git2::{ObjectType, Oid, Tree};

use super::GitError;
use super::objects::Objects;

/// Collects objects, each once, with its file name where it has one. Git uses the names to find good delta bases.
pub(super) struct Collector<'a> {
    objects: &'a Objects<'a>,
    known: HashSet<Oid>,
    /// The collected objects in the order of discovery.
    pub(super) found: Vec<(Oid, Vec<u8>)>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(objects: &'a Objects<'a>) -> Self {
        Self { objects, known: HashSet::new(), found: Vec::new() }
    }

    /// Adds one object without entering it. Returns false when the object was known already.
    pub(super) fn add(&mut self, oid: Oid, name: &[u8]) -> bool {
        let fresh = self.known.insert(oid);
        if fresh {
            self.found.push((oid, name.to_vec()));
        }
        fresh
    }

    /// Adds a tree and every object below it that the known trees `others` do not have.
    pub(super) fn add_tree(&mut self, root: Oid, others: &[Oid]) -> Result<(), GitError> {
        self.known.extend(others);
        if !self.add(root, b"") {
            return Ok(());
        }
        let mut work = vec![(root, others.to_vec())];
        while let Some((oid, others)) = work.pop() {
            let mut below = self.learn(&others)?;
            let tree = self.tree(oid)?;
            for entry in &tree {
                match entry.kind() {
                    Some(ObjectType::Tree) if self.add(entry.id(), entry.name_bytes()) => {
                        work.push((entry.id(), below.remove(entry.name_bytes()).unwrap_or_default()));
                    }
                    Some(ObjectType::Blob) => _ = self.add(entry.id(), entry.name_bytes()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Marks the entries of known trees as known, and returns their subtrees by name.
    fn learn(&mut self, others: &[Oid]) -> Result<HashMap<Vec<u8>, Vec<Oid>>, GitError> {
        let mut folders: HashMap<Vec<u8>, Vec<Oid>> = HashMap::new();
        for other in others {
            let tree = self.tree(*other)?;
            for entry in &tree {
                // A submodule's commit may be a new commit of this very repository.
                if entry.kind() != Some(ObjectType::Commit) {
                    self.known.insert(entry.id());
                }
                if entry.kind() == Some(ObjectType::Tree) {
                    folders.entry(entry.name_bytes().to_vec()).or_default().push(entry.id());
                }
            }
        }
        Ok(folders)
    }

    fn tree(&self, oid: Oid) -> Result<Tree<'a>, GitError> {
        self.objects.repository.find_tree(oid).map_err(|error| self.objects.error("read a tree", oid, &error))
    }
}
