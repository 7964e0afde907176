//! Relates two values of a ref: does the new commit contain the old one?
//!
//! The answer for a pair never changes, and is needed twice for each move: before its commit, and when the ref is
//! moved.

use std::collections::VecDeque;

use git2::{Commit, ErrorCode, ObjectType};
use lockstep_proto::{Oid, ProjectName};
use parking_lot::{Mutex, MutexGuard};

use super::layout::failed;
use super::objects::{Objects, native, wire};
use super::{GitError, Relation};

/// Relates two values. Both must be present. Blocks.
pub(super) fn relation(objects: &Objects<'_>, old: Oid, new: Oid) -> Result<Relation, GitError> {
    let (old, new) = (commit(objects, old)?, commit(objects, new)?);
    let (Some(old), Some(new)) = (old, new) else { return Ok(Relation::Diverged) };
    // Most moves are one step, which needs no walk.
    if old.id() == new.id() || new.parent_ids().any(|parent| parent == old.id()) {
        return Ok(Relation::FastForward);
    }
    match objects.repository.graph_descendant_of(new.id(), old.id()) {
        Ok(true) => Ok(Relation::FastForward),
        Ok(false) => Ok(Relation::Diverged),
        Err(error) => Err(failed(objects.project, "relate two commits", error)),
    }
}

/// Returns whether two commits have a common ancestor. Blocks.
pub(super) fn share_history(objects: &Objects<'_>, one: Oid, other: Oid) -> Result<bool, GitError> {
    let (one, other) = (commit(objects, one)?, commit(objects, other)?);
    let (Some(one), Some(other)) = (one, other) else { return Ok(false) };
    match objects.repository.merge_base(one.id(), other.id()) {
        Ok(_) => Ok(true),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
        Err(error) => Err(failed(objects.project, "relate two commits", error)),
    }
}

/// Returns up to `most` commits that are reachable from the tips, sorted by id. Blocks.
pub(super) fn behind(objects: &Objects<'_>, tips: &[Oid], most: usize) -> Result<Vec<Oid>, GitError> {
    let failed = |error| failed(objects.project, "walk commits", error);
    let mut walk = objects.repository.revwalk().map_err(failed)?;
    for tip in tips {
        let id = native(objects.project, tip)?;
        let object =
            objects.repository.find_object(id, None).map_err(|error| objects.error("walk commits", id, &error))?;
        // A tree or blob has no commits behind it.
        if let Ok(commit) = object.peel_to_commit() {
            walk.push(commit.id()).map_err(failed)?;
        }
    }
    let mut found = Vec::new();
    for oid in walk.take(most) {
        found.push(wire(oid.map_err(failed)?));
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns every `every`-th commit along the first parents to `tip`, oldest first and without `tip`. Blocks.
pub(super) fn steps(objects: &Objects<'_>, tip: Oid, every: usize) -> Result<Vec<Oid>, GitError> {
    let mut way = Vec::new();
    let mut next = commit(objects, tip)?;
    while let Some(at) = next {
        way.push(wire(at.id()));
        next = match at.parent_id(0) {
            Ok(parent) => commit(objects, wire(parent))?,
            Err(_) => None,
        };
    }
    Ok(way.into_iter().rev().skip(every.saturating_sub(1)).step_by(every.max(1)).filter(|step| *step != tip).collect())
}

/// Finds the commit; `None` if the id names another object. Tags are not followed, as in git for pushes to a branch.
fn commit<'r>(objects: &'r Objects<'_>, oid: Oid) -> Result<Option<Commit<'r>>, GitError> {
    let id = native(objects.project, &oid)?;
    match objects.repository.find_commit(id) {
        Ok(commit) => Ok(Some(commit)),
        Err(error) if error.code() == ErrorCode::NotFound && objects.header(id)?.is_none() => {
            Err(GitError::Missing { project: objects.project.clone(), oids: vec![oid] })
        }
        Err(_) if objects.header(id)?.is_some_and(|(_, kind)| kind != ObjectType::Commit) => Ok(None),
        Err(error) => Err(objects.error("read a commit", id, &error)),
    }
}

/// Most remembered answers: enough for the moves in progress.
const REMEMBERED: usize = 256;

/// The latest answers, at most [`REMEMBERED`] of them.
#[derive(Default)]
pub(super) struct Related(Mutex<VecDeque<Answer>>);

struct Answer {
    project: ProjectName,
    pair: (Oid, Oid),
    relation: Relation,
}

impl Related {
    /// Returns the relations of all pairs; `None` unless all of them are remembered.
    pub(super) fn all(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Option<Vec<Relation>> {
        let answers = self.answers();
        let known = |pair: &(Oid, Oid)| answers.iter().rev().find(|one| one.pair == *pair && one.project == *project);
        pairs.iter().map(|pair| known(pair).map(|one| one.relation)).collect()
    }

    /// Remembers the relations of pairs.
    pub(super) fn note(&self, project: &ProjectName, pairs: &[(Oid, Oid)], relations: &[Relation]) {
        let mut answers = self.answers();
        for (pair, relation) in pairs.iter().zip(relations) {
            answers.push_back(Answer { project: project.clone(), pair: *pair, relation: *relation });
        }
        let excess = answers.len().saturating_sub(REMEMBERED);
        answers.drain(..excess);
    }

    /// Forgets a project: a later project of the same name has other objects.
    pub(super) fn forget(&self, project: &ProjectName) {
        self.answers().retain(|one| one.project != *project);
    }

    fn answers(&self) -> MutexGuard<'_, VecDeque<Answer>> {
        self.0.lock()
    }
}
