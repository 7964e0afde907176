//! Stream events: each one that was taken is heard at every other node, once but for what a crash left unconfirmed, after
//! its refs are applied there, in the order of its change, and never at its origin.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{NodeId, Oid, ProjectKey, RefName, Version};

use super::Verdict;
use crate::sim::facts::Facts;

/// What a client posted: an event that speaks of a commit that it made before.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Its id.
    pub id: String,
    /// Where.
    pub origin: NodeId,
    /// The project of the commit.
    pub project: ProjectKey,
    /// The change that it is about.
    pub change: Option<u64>,
    /// The refs that it names, with the versions that the commit gave them.
    pub refs: Vec<(RefName, Version)>,
}

#[derive(Debug)]
struct Event {
    posted: Posted,
    /// When it was posted, and when it was answered as taken, as counts.
    asked: u64,
    taken: Option<u64>,
    /// The volume that had it was lost before it was in the event log.
    lost: bool,
    heard: BTreeSet<NodeId>,
    /// Where it may be confirmed, and where it is for sure.
    confirms: BTreeSet<NodeId>,
    confirmed: BTreeSet<NodeId>,
}

/// Every event of a run.
#[derive(Debug, Default)]
pub struct Events {
    events: BTreeMap<String, Event>,
    clock: u64,
}

impl Events {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A client posts an event; a retry keeps the first time.
    pub fn asked(&mut self, posted: Posted) {
        let asked = self.tick();
        self.events.entry(posted.id.clone()).or_insert_with(|| Event {
            posted,
            asked,
            taken: None,
            lost: false,
            heard: BTreeSet::new(),
            confirms: BTreeSet::new(),
            confirmed: BTreeSet::new(),
        });
    }

    /// A client was told that its event is taken.
    pub fn taken(&mut self, id: &str) {
        let taken = self.tick();
        if let Some(event) = self.events.get_mut(id) {
            event.taken = event.taken.or(Some(taken));
        }
    }

    /// A listener hears an event, where the project's refs are these.
    ///
    /// # Errors
    /// It must not, not now, or not again.
    pub fn heard(&mut self, facts: &Facts, node: &NodeId, id: &str, shown: &BTreeMap<RefName, Option<Oid>>) -> Verdict {
        let event = self.events.get(id).ok_or_else(|| format!("{id} was never posted"))?;
        let Posted { origin, project, refs, .. } = &event.posted;
        if origin == node {
            return Err(format!("{id} is heard at its origin"));
        }
        if event.confirmed.contains(node) {
            return Err(format!("{id} is heard again after it was confirmed"));
        }
        let is_applied = |(name, version): &&(RefName, Version)| {
            let value = shown.get(name).copied().flatten();
            facts.position(project, name, value, *version).is_some()
        };
        if let Some((name, version)) = refs.iter().find(|one| !is_applied(one)).filter(|_| !facts.is_past(project)) {
            let value = shown.get(name);
            return Err(format!("{id} is heard before {project} {name}@{version}, which shows {value:?}"));
        }
        if !event.heard.contains(node)
            && let Some(before) = self.events.values().find(|before| is_skipped(before, event, node))
        {
            return Err(format!("{id} is heard before {}, which happened before it", before.posted.id));
        }
        if let Some(event) = self.events.get_mut(id) {
            event.heard.insert(node.clone());
        }
        Ok(())
    }

    /// A listener is about to confirm an event.
    pub fn confirms(&mut self, node: &NodeId, id: &str) {
        if let Some(event) = self.events.get_mut(id) {
            event.confirms.insert(node.clone());
        }
    }

    /// A listener was told that its confirmation holds.
    pub fn confirmed(&mut self, node: &NodeId, id: &str) {
        if let Some(event) = self.events.get_mut(id) {
            event.confirmed.insert(node.clone());
        }
    }

    /// A node's volume is lost: what it had heard comes again, what it had taken and not sent does not come at all.
    pub fn volume_lost(&mut self, node: &NodeId, is_logged: impl Fn(&str) -> bool) {
        for (id, event) in &mut self.events {
            event.lost |= event.posted.origin == *node && !is_logged(id);
            for nodes in [&mut event.heard, &mut event.confirms, &mut event.confirmed] {
                nodes.remove(node);
            }
        }
    }

    /// Judges an announcement that a checkpoint of a node covers: the node must have it, unless it was its own or its
    /// listener has confirmed it.
    ///
    /// # Errors
    /// The node would never hear it.
    pub fn covered(&self, node: &NodeId, id: &str, inbox: &BTreeSet<String>) -> Verdict {
        let excused = |event: &Event| event.posted.origin == *node || event.confirms.contains(node);
        if inbox.contains(id) || self.events.get(id).is_none_or(excused) {
            return Ok(());
        }
        Err(format!("the checkpoint covers event {id}, which is neither in the inbox nor confirmed"))
    }

    /// An event that was taken, and that one of the nodes has not heard; none when all have heard all.
    #[must_use]
    pub fn missing(&self, nodes: &[NodeId]) -> Option<String> {
        self.events.values().filter(|event| event.taken.is_some() && !event.lost).find_map(|event| {
            let Posted { id, origin, .. } = &event.posted;
            let node = nodes.iter().find(|node| *node != origin && !event.confirmed.contains(*node))?;
            Some(format!("{node} has not heard event {id} of {origin}"))
        })
    }

    /// How many were taken, and how often they were heard, each node counted once.
    #[must_use]
    pub fn counts(&self) -> [u64; 2] {
        let taken = self.events.values().filter(|event| event.taken.is_some()).count();
        [taken as u64, self.events.values().map(|event| event.heard.len() as u64).sum()]
    }
}

/// Whether a node hears `now` although it has not heard `before`, an event of the same change that was taken at the same
/// origin before `now` was posted.
fn is_skipped(before: &Event, now: &Event, node: &NodeId) -> bool {
    let (one, two) = (&before.posted, &now.posted);
    let of_one = one.origin == two.origin && one.project.name == two.project.name && one.change == two.change;
    of_one
        && two.change.is_some()
        && before.taken.is_some_and(|taken| taken < now.asked)
        && !before.lost
        && !before.heard.contains(node)
}
