//! Which trees and blobs of new commits are new: a walk through a commit's tree beside its parents' trees.
//!
//! What a parent's tree has in the same folder is known and never entered, so the walk costs in proportion to
//! the change. Commits come parents first; so "known" means: in the closure of a base, or packed already.

use std::collections::{HashMap, HashSet};

use git2::{ObjectType, Oid, Tree};

use super::GitError;
use super::objects::Objects;

/// Gathers objects, each once, with the name of its file where it has one (git finds deltas by it).
pub(super) struct Collector<'a> {
    objects: &'a Objects<'a>,
    known: HashSet<Oid>,
    /// What was gathered, in the order of discovery.
    pub(super) found: Vec<(Oid, Vec<u8>)>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(objects: &'a Objects<'a>) -> Self {
        Self { objects, known: HashSet::new(), found: Vec::new() }
    }

    /// Takes one object as it is; false when it was known.
    pub(super) fn add(&mut self, oid: Oid, name: &[u8]) -> bool {
        let fresh = self.known.insert(oid);
        if fresh {
            self.found.push((oid, name.to_vec()));
        }
        fresh
    }

    /// Takes a tree and all below it that `others`, known trees, do not have.
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

    /// Learns what known trees have, and gives their folders by name.
    fn learn(&mut self, others: &[Oid]) -> Result<HashMap<Vec<u8>, Vec<Oid>>, GitError> {
        let mut folders: HashMap<Vec<u8>, Vec<Oid>> = HashMap::new();
        for other in others {
            let tree = self.tree(*other)?;
            for entry in &tree {
                // A submodule's commit may be a commit of this very repository, and a new one.
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
