//! The model's disk: the repositories in their current state and in their last synced state.
//!
//! Each change is a [`Piece`] that is not synced yet. [`Disk::sync`] makes all pieces durable. [`Disk::power_cut`]
//! keeps or loses each piece independently, as disks and file systems do: a ref may survive without its object. The
//! creation or deletion of a repository is one more such piece, and it takes the repository's content with it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{Oid, ProjectName, RefName};

use super::object::Object;
use crate::base::clock::Entropy;

/// A simulated bare repository.
#[derive(Clone, Debug, Default)]
pub struct Repo {
    /// The target of `HEAD`.
    pub head: Option<RefName>,
    /// Every object in the repository.
    pub objects: BTreeMap<Oid, Object>,
    /// The replicated refs, with their values.
    pub refs: BTreeMap<RefName, Oid>,
    /// The values that are protected from garbage collection, by label.
    pub keep: BTreeMap<String, Oid>,
}

/// The unit that a power cut keeps or loses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Head,
    Object(Oid),
    Ref(RefName),
    Keep(String),
}

/// The changes of one project that are not durable.
#[derive(Clone, Debug, Default)]
struct Unsynced {
    /// Whether the repository itself was created or deleted.
    replaced: bool,
    pieces: BTreeSet<Piece>,
}

/// All repositories of a volume.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    now: BTreeMap<ProjectName, Repo>,
    synced: BTreeMap<ProjectName, Repo>,
    unsynced: BTreeMap<ProjectName, Unsynced>,
}

impl Repo {
    /// Copies the state of one piece from `from`.
    fn copy(&mut self, from: &Self, piece: &Piece) {
        match piece {
            Piece::Head => self.head.clone_from(&from.head),
            Piece::Object(oid) => put(&mut self.objects, oid, from.objects.get(oid).cloned()),
            Piece::Ref(name) => put(&mut self.refs, name, from.refs.get(name).copied()),
            Piece::Keep(label) => put(&mut self.keep, label, from.keep.get(label).copied()),
        }
    }
}

fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
}

impl Disk {
    /// Returns a repository in its current state.
    pub fn repo(&self, project: &ProjectName) -> Option<&Repo> {
        self.now.get(project)
    }

    /// Returns every project with a repository, in the order of the names.
    pub fn projects(&self) -> Vec<ProjectName> {
        self.now.keys().cloned().collect()
    }

    /// Creates a repository unless there is one.
    pub fn create(&mut self, project: &ProjectName, head: &RefName) {
        if !self.now.contains_key(project) {
            self.now.insert(project.clone(), Repo { head: Some(head.clone()), ..Repo::default() });
            self.replaced(project);
        }
    }

    /// Removes a repository if there is one.
    pub fn delete(&mut self, project: &ProjectName) {
        if self.now.remove(project).is_some() {
            self.replaced(project);
        }
    }

    /// Points `HEAD` to another branch.
    pub fn set_head(&mut self, project: &ProjectName, target: &RefName) {
        self.change(project, Piece::Head, |repo| repo.head = Some(target.clone()));
    }

    /// Adds an object. An existing object stays as it is.
    pub fn put_object(&mut self, project: &ProjectName, object: Object) {
        let oid = object.oid();
        if self.repo(project).is_some_and(|repo| !repo.objects.contains_key(&oid)) {
            self.change(project, Piece::Object(oid), |repo| put(&mut repo.objects, &oid, Some(object)));
        }
    }

    /// Loses an object, synced or not.
    pub fn lose_object(&mut self, project: &ProjectName, oid: &Oid) {
        self.change(project, Piece::Object(*oid), |repo| put(&mut repo.objects, oid, None));
    }

    /// Sets a ref, or deletes it.
    pub fn set_ref(&mut self, project: &ProjectName, name: &RefName, value: Option<Oid>) {
        self.change(project, Piece::Ref(name.clone()), |repo| put(&mut repo.refs, name, value));
    }

    /// Keeps a value under a label, or releases the label.
    pub fn set_keep(&mut self, project: &ProjectName, label: &String, value: Option<Oid>) {
        self.change(project, Piece::Keep(label.clone()), |repo| put(&mut repo.keep, label, value));
    }

    fn replaced(&mut self, project: &ProjectName) {
        self.unsynced.insert(project.clone(), Unsynced { replaced: true, ..Unsynced::default() });
    }

    fn change(&mut self, project: &ProjectName, piece: Piece, how: impl FnOnce(&mut Repo)) {
        if let Some(repo) = self.now.get_mut(project) {
            how(repo);
            self.unsynced.entry(project.clone()).or_default().pieces.insert(piece);
        }
    }

    /// Makes the present content durable, so that no later power cut takes it.
    pub fn sync(&mut self) {
        self.decide(&mut || true);
    }

    /// Keeps or loses each piece that is not durable.
    pub fn power_cut(&mut self, entropy: &dyn Entropy) {
        self.decide(&mut || entropy.next() & 1 == 1);
    }

    /// Decides for each unsynced piece: keeps it, or reverts it to its last synced state.
    fn decide(&mut self, kept: &mut dyn FnMut() -> bool) {
        for (project, unsynced) in std::mem::take(&mut self.unsynced) {
            if unsynced.replaced && !self.decide_repository(&project, kept()) {
                continue;
            }
            let (Some(now), Some(synced)) = (self.now.get_mut(&project), self.synced.get_mut(&project)) else {
                continue;
            };
            for piece in &unsynced.pieces {
                if kept() {
                    synced.copy(now, piece);
                } else {
                    now.copy(synced, piece);
                }
            }
        }
    }

    /// Keeps or reverts the creation or deletion of a repository. Returns whether its content still has to be decided.
    fn decide_repository(&mut self, project: &ProjectName, kept: bool) -> bool {
        if kept {
            let made = self.now.get(project).map(|now| Repo { head: now.head.clone(), ..Repo::default() });
            put(&mut self.synced, project, made);
        } else {
            put(&mut self.now, project, self.synced.get(project).cloned());
        }
        kept
    }
}
