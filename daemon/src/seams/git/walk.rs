//! Which commits are new: those behind the wanted ones that no committed value contains.
//!
//! A walk by date paints commits *new* (behind a wanted one) or *old* (committed, or behind a committed one). It
//! begins with the wanted commits alone and asks at each step whether the parents are committed: a push onto a
//! branch's tip ends after one step. When it does not end soon, it also paints from the hints and from the committed
//! branches, so that it costs in proportion to what is new and not to the history behind it; when it meets the beginning
//! of history before that, from the branch that HEAD names, because to list all branches may cost more than the rest.
//! Too little old paint makes a pack larger than needed, never incomplete: every parent of a new commit is new itself, or
//! old, and then a base.

use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use git2::Oid;
use lockstep_proto::ProjectName;

use super::layout::failed;
use super::objects::{Objects, native};
use super::{GitError, ref_files};

/// Says whether an object is the value of a committed ref.
pub(super) type Ask<'a> = dyn Fn(Oid) -> bool + 'a;

/// After so many new commits, or at the beginning of history, the walk also begins at the hints and at HEAD.
const NEAR: usize = 32;
/// After so many, at the committed branches too.
const FAR: usize = 256;
/// Old commits that are looked at, beside four for each new one, when nothing new is left to look at.
const SLACK: usize = 1024;

/// What the walk found.
#[derive(Debug, Default)]
pub(super) struct NewCommits {
    /// New commits and their trees, parents first.
    pub(super) commits: Vec<(Oid, Oid)>,
    /// For each new commit, the trees of its parents.
    pub(super) parent_trees: HashMap<Oid, Vec<Oid>>,
    /// Old parents of new commits.
    pub(super) bases: BTreeSet<Oid>,
}

struct Node {
    time: i64,
    tree: Oid,
    parents: Vec<Oid>,
    old: bool,
    queued: bool,
}

struct Walk<'a, 'b> {
    objects: &'a Objects<'a>,
    ask: &'a Ask<'b>,
    hints: HashSet<Oid>,
    nodes: HashMap<Oid, Node>,
    queue: BinaryHeap<(i64, Oid)>,
    /// New ones in the queue.
    fresh: usize,
    /// New ones that were taken from the queue, and the time of the oldest.
    walked: usize,
    oldest: i64,
    /// Old ones that were taken from the queue.
    passed: usize,
    near: bool,
    far: bool,
    /// The beginning of history was met.
    root: bool,
}

/// Walks from `wants`, which are commits that are not committed values.
pub(super) fn new_commits(
    objects: &Objects<'_>,
    wants: &[Oid],
    hints: &[Oid],
    ask: &Ask<'_>,
) -> Result<NewCommits, GitError> {
    let mut walk = Walk {
        objects,
        ask,
        hints: hints.iter().copied().collect(),
        nodes: HashMap::new(),
        queue: BinaryHeap::new(),
        fresh: 0,
        walked: 0,
        oldest: i64::MAX,
        passed: 0,
        near: false,
        far: false,
        root: false,
    };
    for want in wants {
        walk.reach_new(*want)?;
    }
    while walk.goes_on() {
        walk.step()?;
    }
    Ok(walk.result(wants))
}

impl Walk<'_, '_> {
    fn goes_on(&self) -> bool {
        let in_doubt = || {
            let behind = self.queue.peek().is_some_and(|(time, _)| *time >= self.oldest);
            (self.far || self.root) && behind && self.passed < SLACK + 4 * self.walked
        };
        self.fresh > 0 || in_doubt()
    }

    fn step(&mut self) -> Result<(), GitError> {
        let Some((time, oid)) = self.queue.pop() else { return Ok(()) };
        let node = self.nodes.get_mut(&oid).expect("what is queued has a node");
        node.queued = false;
        let parents = node.parents.clone();
        if node.old {
            self.passed += 1;
            return parents.into_iter().try_for_each(|parent| self.reach_old(parent, true));
        }
        self.fresh -= 1;
        self.walked += 1;
        self.oldest = self.oldest.min(time);
        self.root |= parents.is_empty();
        self.expand(&parents)?;
        if (self.walked >= NEAR || self.root) && !self.near {
            self.begin_near()?;
        }
        if self.walked >= FAR && !self.far {
            self.begin_far()?;
        }
        Ok(())
    }

    fn expand(&mut self, parents: &[Oid]) -> Result<(), GitError> {
        let unknown: Vec<Oid> = parents.iter().copied().filter(|oid| !self.nodes.contains_key(oid)).collect();
        for oid in unknown {
            if (self.ask)(oid) || self.hints.contains(&oid) {
                self.reach_old(oid, self.near)?;
            } else {
                self.reach_new(oid)?;
            }
        }
        Ok(())
    }

    fn begin_near(&mut self) -> Result<(), GitError> {
        self.near = true;
        let known_old: Vec<Oid> = self.nodes.iter().filter(|(_, node)| node.old).map(|(oid, _)| *oid).collect();
        for oid in known_old {
            self.enqueue(oid);
        }
        let mut from: Vec<Oid> = self.hints.iter().copied().collect();
        let head = self.objects.repository.head().ok().and_then(|head| head.target());
        from.extend(head.filter(|oid| (self.ask)(*oid)));
        self.begin_at(&from)
    }

    fn begin_far(&mut self) -> Result<(), GitError> {
        self.far = true;
        let project: &ProjectName = self.objects.project;
        let branches = ref_files::list(self.objects.repository.path(), "refs/heads/")
            .map_err(|error| failed(project, "list the branches", error))?;
        let values: BTreeSet<_> = branches.into_values().collect();
        let values = values.iter().map(|oid| native(project, oid)).collect::<Result<Vec<_>, _>>()?;
        let values: Vec<Oid> = values.into_iter().filter(|oid| (self.ask)(*oid)).collect();
        self.begin_at(&values)
    }

    /// Paints from committed values, as far as they are commits that are here.
    fn begin_at(&mut self, values: &[Oid]) -> Result<(), GitError> {
        for oid in values {
            if self.objects.repository.find_commit(*oid).is_ok() {
                self.reach_old(*oid, true)?;
            }
        }
        Ok(())
    }

    fn reach_new(&mut self, oid: Oid) -> Result<(), GitError> {
        if !self.nodes.contains_key(&oid) {
            self.load(oid, false)?;
            self.enqueue(oid);
        }
        Ok(())
    }

    /// Paints a commit old; one that was new must tell its parents.
    fn reach_old(&mut self, oid: Oid, enqueue: bool) -> Result<(), GitError> {
        match self.nodes.get_mut(&oid) {
            None => self.load(oid, true)?,
            Some(node) if node.old => return Ok(()),
            Some(node) => {
                node.old = true;
                if node.queued {
                    self.fresh -= 1;
                }
            }
        }
        if enqueue {
            self.enqueue(oid);
        }
        Ok(())
    }

    fn enqueue(&mut self, oid: Oid) {
        let node = self.nodes.get_mut(&oid).expect("what is queued has a node");
        if !node.queued {
            node.queued = true;
            self.fresh += usize::from(!node.old);
            self.queue.push((node.time, oid));
        }
    }

    fn load(&mut self, oid: Oid, old: bool) -> Result<(), GitError> {
        let commit = self.objects.repository.find_commit(oid);
        let commit = commit.map_err(|error| self.objects.error("read a commit", oid, &error))?;
        let (time, tree, parents) = (commit.time().seconds(), commit.tree_id(), commit.parent_ids().collect());
        self.nodes.insert(oid, Node { time, tree, parents, old, queued: false });
        Ok(())
    }

    /// The new commits, parents first.
    fn result(&self, wants: &[Oid]) -> NewCommits {
        let mut found = NewCommits::default();
        let mut entered = HashSet::new();
        let mut stack: Vec<(Oid, bool)> = wants.iter().map(|oid| (*oid, false)).collect();
        while let Some((oid, left)) = stack.pop() {
            let node = &self.nodes[&oid];
            if node.old {
                found.bases.insert(oid);
            } else if left {
                found.commits.push((oid, node.tree));
                let trees = node.parents.iter().map(|parent| self.nodes[parent].tree).collect();
                found.parent_trees.insert(oid, trees);
            } else if entered.insert(oid) {
                stack.push((oid, true));
                stack.extend(node.parents.iter().map(|parent| (*parent, false)));
            }
        }
        found
    }
}
