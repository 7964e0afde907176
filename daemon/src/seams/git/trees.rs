//! Finds the new trees and blobs of new commits, by walking a commit's tree beside the trees of its parents.
//!
//! A subtree that a parent has in the same folder is known and is not entered, so the cost is proportional to the
//! change. Commits come parents first. "Known" therefore means: in the closure of a base, or packed already.

use std::collections::HashMap;

use git2::{ObjectType, Oid};

use super::GitError;
use super::objects::Objects;
use super::parse;

/// An object to pack.
pub(super) struct Found {
    pub(super) oid: Oid,
    /// The type that the reference to it states.
    pub(super) kind: ObjectType,
    /// Its file name where it has one. Git uses it to find good delta bases.
    pub(super) name: Vec<u8>,
}

/// Collects objects, each once.
pub(super) struct Collector<'a> {
    objects: &'a Objects<'a>,
    /// The objects that are known, with the types by which they are pointed to. Like git, the collector gives up when
    /// one object is pointed to as two types.
    known: HashMap<Oid, ObjectType>,
    /// The collected objects in the order of discovery.
    pub(super) found: Vec<Found>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(objects: &'a Objects<'a>) -> Self {
        Self { objects, known: HashMap::new(), found: Vec::new() }
    }

    /// Adds one object without entering it. Returns false when the object was known already.
    pub(super) fn add(&mut self, oid: Oid, kind: ObjectType, name: &[u8]) -> Result<bool, GitError> {
        let fresh = self.know(oid, kind)?;
        if fresh {
            self.found.push(Found { oid, kind, name: name.to_vec() });
        }
        Ok(fresh)
    }

    /// Marks an object as known. Returns false when it was known already.
    fn know(&mut self, oid: Oid, kind: ObjectType) -> Result<bool, GitError> {
        match self.known.insert(oid, kind) {
            None => Ok(true),
            Some(known) if known == kind => Ok(false),
            Some(known) => Err(self.objects.mistyped(oid, known, kind)),
        }
    }

    /// Adds a tree and every object below it that the known trees `others` do not have.
    pub(super) fn add_tree(&mut self, root: Oid, others: &[Oid]) -> Result<(), GitError> {
        for other in others {
            self.know(*other, ObjectType::Tree)?;
        }
        if !self.add(root, ObjectType::Tree, b"")? {
            return Ok(());
        }
        let mut work = vec![(root, others.to_vec())];
        while let Some((oid, others)) = work.pop() {
            let mut below = self.learn(&others)?;
            let objects = self.objects;
            let tree = objects.read(oid, ObjectType::Tree)?;
            for entry in parse::entries(tree.data()) {
                let entry = entry.map_err(|defect| objects.flawed(oid, &defect))?;
                let Some(kind) = entry.kind else { continue };
                if self.add(entry.oid, kind, entry.name)? && kind == ObjectType::Tree {
                    work.push((entry.oid, below.remove(entry.name).unwrap_or_default()));
                }
            }
        }
        Ok(())
    }

    /// Marks the entries of known trees as known, and returns their subtrees by name. A submodule's commit is none of
    /// them: it may be a new commit of this very repository.
    fn learn(&mut self, others: &[Oid]) -> Result<HashMap<Vec<u8>, Vec<Oid>>, GitError> {
        let mut folders: HashMap<Vec<u8>, Vec<Oid>> = HashMap::new();
        let objects = self.objects;
        for other in others {
            let tree = objects.read(*other, ObjectType::Tree)?;
            for entry in parse::entries(tree.data()) {
                let entry = entry.map_err(|defect| objects.flawed(*other, &defect))?;
                let Some(kind) = entry.kind else { continue };
                self.know(entry.oid, kind)?;
                if kind == ObjectType::Tree {
                    folders.entry(entry.name.to_vec()).or_default().push(entry.oid);
                }
            }
        }
        Ok(folders)
    }
}
