//! Finds new commits: those behind the wanted commits that no committed value contains.
//!
//! A walk by date paints each commit *new* (behind a wanted commit) or *old* (committed, or behind a committed commit).
//! It starts from the wanted commits alone, and asks at each step whether the parents are committed. A push onto a
//! branch's tip therefore ends after one step. After `NEAR` new commits, or at the beginning of history, the walk also
//! paints from the hints and from the branch that HEAD names. After `FAR` new commits it also paints from the committed
//! branches; listing them may cost more than the rest of the walk. So the cost is proportional to the new commits and
//! not to the history behind them. Too few commits painted old make a pack larger than needed, but never incomplete:
//! each parent of a new commit is either new itself, or old and then a base.

use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use git2::{ObjectType, Oid};
use lockstep_proto::ProjectName;

use super::layout::failed;
use super::objects::{Objects, native};
use super::parse::Commit;
use super::{GitError, ref_files};

/// Returns whether an object is the value of a committed ref.
pub(super) type Ask<'a> = dyn Fn(Oid) -> bool + 'a;

/// After this many new commits, or at the beginning of history, the walk also starts from the hints and from HEAD.
const NEAR: usize = 32;
/// After this many new commits, the walk also starts from the committed branches.
const FAR: usize = 256;
/// How many old commits are walked when no new one is queued, in addition to four for each new commit.
const SLACK: usize = 1024;

/// The result of the walk.
#[derive(Debug, Default)]
pub(super) struct NewCommits {
    /// The new commits and their trees, parents first.
    pub(super) commits: Vec<(Oid, Oid)>,
    /// The trees of the parents of each new commit.
    pub(super) parent_trees: HashMap<Oid, Vec<Oid>>,
    /// The old parents of new commits.
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
    /// Number of new commits in the queue.
    fresh: usize,
    /// Number of new commits that were taken from the queue, followed by the time of the oldest.
    walked: usize,
    oldest: i64,
    /// Number of old commits that were taken from the queue.
    passed: usize,
    near: bool,
    far: bool,
    /// Whether the walk reached the beginning of history.
    root: bool,
}

/// Walks from `wants`, which must be commits that are not committed values.
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
        let node = self.nodes.get_mut(&oid).expect("each queued commit has a node");
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

    /// Paints from those committed values that are commits in this repository.
    fn begin_at(&mut self, values: &[Oid]) -> Result<(), GitError> {
        for oid in values {
            if self.objects.header(*oid)?.is_some_and(|(_, kind)| kind == ObjectType::Commit) {
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

    /// Paints a commit old. A commit that was new before is queued again, so that its parents become old too.
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
        let node = self.nodes.get_mut(&oid).expect("each queued commit has a node");
        if !node.queued {
            node.queued = true;
            self.fresh += usize::from(!node.old);
            self.queue.push((node.time, oid));
        }
    }

    fn load(&mut self, oid: Oid, old: bool) -> Result<(), GitError> {
        let Commit { time, tree, parents } = self.objects.commit(oid)?;
        self.nodes.insert(oid, Node { time, tree, parents, old, queued: false });
        Ok(())
    }

    /// Returns the new commits, parents first.
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
