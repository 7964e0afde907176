//! Relates two values of a ref: does the new commit contain the old one?
//!
//! The walks read raw commits, newest first by the committers' times. The times order the walks and decide nothing:
//! they may be absurd. The answer for a pair never changes, and is needed twice for each move: before its commit, and
//! when the ref is moved.

use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use git2::ObjectType;
use lockstep_proto::{Oid, ProjectName};
use parking_lot::{Mutex, MutexGuard};

use super::objects::{Objects, native, wire};
use super::{GitError, Relation};

/// Relates two values. Both must be present. Blocks.
pub(super) fn relation(objects: &Objects<'_>, old: Oid, new: Oid) -> Result<Relation, GitError> {
    let (old, new) = (commit(objects, old)?, commit(objects, new)?);
    let (Some(old), Some(new)) = (old, new) else { return Ok(Relation::Diverged) };
    // Most moves are one step, which needs no walk.
    if old == new || objects.commit(new)?.parents.contains(&old) {
        return Ok(Relation::FastForward);
    }
    let mut paint = Paint::new(objects);
    paint.reach(new, NEW)?;
    paint.reach(old, OLD)?;
    let contains = paint.run(|oid, colour| oid == old && colour == BOTH)?;
    Ok(if contains { Relation::FastForward } else { Relation::Diverged })
}

/// Returns whether two commits have a common ancestor. Blocks.
pub(super) fn share_history(objects: &Objects<'_>, one: Oid, other: Oid) -> Result<bool, GitError> {
    let (one, other) = (commit(objects, one)?, commit(objects, other)?);
    let (Some(one), Some(other)) = (one, other) else { return Ok(false) };
    if one == other {
        return Ok(true);
    }
    let mut paint = Paint::new(objects);
    paint.reach(one, NEW)?;
    paint.reach(other, OLD)?;
    paint.run(|_, colour| colour == BOTH)
}

/// The colour of commits behind the one value, of those behind the other, and of those behind both.
const NEW: u8 = 1;
const OLD: u8 = 2;
const BOTH: u8 = NEW | OLD;

/// A walk from two commits that paints each commit in the colours of those that contain it.
struct Paint<'a, 'b> {
    objects: &'a Objects<'b>,
    nodes: HashMap<git2::Oid, Node>,
    queue: BinaryHeap<(i64, git2::Oid)>,
    /// Number of commits in the queue that have one colour only.
    open: usize,
}

struct Node {
    time: i64,
    parents: Vec<git2::Oid>,
    colour: u8,
    queued: bool,
}

impl<'a, 'b> Paint<'a, 'b> {
    fn new(objects: &'a Objects<'b>) -> Self {
        Self { objects, nodes: HashMap::new(), queue: BinaryHeap::new(), open: 0 }
    }

    /// Walks until a commit has the colour that is looked for, or every commit in the queue is behind both values: then
    /// no further commit can have it for the first time.
    fn run(&mut self, found: impl Fn(git2::Oid, u8) -> bool) -> Result<bool, GitError> {
        while self.open > 0 {
            let Some((_, oid)) = self.queue.pop() else { break };
            let Some(node) = self.nodes.get_mut(&oid) else { continue };
            node.queued = false;
            let (colour, parents) = (node.colour, node.parents.clone());
            self.open -= usize::from(colour != BOTH);
            for parent in parents {
                let painted = self.reach(parent, colour)?;
                if found(parent, painted) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Adds a colour to a commit and queues it if that is new. Returns its colours.
    fn reach(&mut self, oid: git2::Oid, colour: u8) -> Result<u8, GitError> {
        if !self.nodes.contains_key(&oid) {
            let read = self.objects.commit(oid)?;
            let node = Node { time: read.time, parents: read.parents, colour: 0, queued: false };
            self.nodes.insert(oid, node);
        }
        let Some(node) = self.nodes.get_mut(&oid) else { return Ok(colour) };
        let before = node.colour;
        node.colour |= colour;
        if node.colour == before {
            return Ok(before);
        }
        self.open -= usize::from(node.queued && node.colour == BOTH);
        if !node.queued {
            node.queued = true;
            self.open += usize::from(node.colour != BOTH);
            self.queue.push((node.time, oid));
        }
        Ok(node.colour)
    }
}

/// Returns up to `most` commits that are reachable from the tips, sorted by id. Blocks.
pub(super) fn behind(objects: &Objects<'_>, tips: &[Oid], most: usize) -> Result<Vec<Oid>, GitError> {
    let (mut seen, mut queue, mut found) = (HashSet::new(), BinaryHeap::new(), Vec::new());
    for tip in tips {
        // A tree or blob has no commits behind it.
        if let Some(oid) = peel(objects, native(objects.project, tip)?)?
            && seen.insert(oid)
        {
            let read = objects.commit(oid)?;
            queue.push((read.time, oid, read.parents));
        }
    }
    while let Some((_, oid, parents)) = queue.pop() {
        if found.len() >= most {
            break;
        }
        found.push(wire(oid));
        for parent in parents {
            if seen.insert(parent) {
                let read = objects.commit(parent)?;
                queue.push((read.time, parent, read.parents));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Follows tags to a commit; `None` if they lead to another object.
fn peel(objects: &Objects<'_>, mut oid: git2::Oid) -> Result<Option<git2::Oid>, GitError> {
    loop {
        match objects.need(oid)?.1 {
            ObjectType::Commit => return Ok(Some(oid)),
            ObjectType::Tag => oid = objects.tag(oid)?.0,
            ObjectType::Tree | ObjectType::Blob | ObjectType::Any => return Ok(None),
        }
    }
}

/// Returns every `every`-th commit along the first parents to `tip`, oldest first and without `tip`. Blocks.
pub(super) fn steps(objects: &Objects<'_>, tip: Oid, every: usize) -> Result<Vec<Oid>, GitError> {
    let mut way = Vec::new();
    let mut next = commit(objects, tip)?;
    while let Some(at) = next {
        way.push(wire(at));
        next = objects.commit(at)?.parents.first().copied();
    }
    Ok(way.into_iter().rev().skip(every.saturating_sub(1)).step_by(every.max(1)).filter(|step| *step != tip).collect())
}

/// The id, if it names a commit. Tags are not followed, as in git for pushes to a branch.
fn commit(objects: &Objects<'_>, oid: Oid) -> Result<Option<git2::Oid>, GitError> {
    let id = native(objects.project, &oid)?;
    Ok((objects.need(id)?.1 == ObjectType::Commit).then_some(id))
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
