//! Stream events: each event that was accepted is delivered at every other node, after its refs are applied there, in
//! the order of its change, and never at its origin. It is delivered once, except when a crash left it unconfirmed.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::{NodeId, Oid, ProjectKey, RefName, Version};

use super::Verdict;
use crate::sim::facts::Facts;

/// An event that a client posted about a commit that it made before.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The id of the event.
    pub id: String,
    /// The node at which it was posted.
    pub origin: NodeId,
    /// The project of the commit.
    pub project: ProjectKey,
    /// The change of the event, if it is about one.
    pub change: Option<u64>,
    /// The refs of the event, with the versions that the commit gave them.
    pub refs: Vec<(RefName, Version)>,
}

#[derive(Debug)]
struct Event {
    posted: Posted,
    /// The times at which it was posted and accepted, as counts of [`Events::tick`].
    asked: u64,
    taken: Option<u64>,
    /// Whether its volume was lost before the event was in the event log.
    lost: bool,
    /// Whether a record of it was trimmed, and the nodes that had not read the record then.
    trimmed: bool,
    missed: BTreeSet<NodeId>,
    heard: BTreeSet<NodeId>,
    /// The nodes whose listener has sent a confirmation, and those whose confirmation was answered.
    confirms: BTreeSet<NodeId>,
    confirmed: BTreeSet<NodeId>,
}

/// The events that a node's volume knows as delivered, and as confirmed, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Deliveries {
    heard: BTreeSet<String>,
    confirms: BTreeSet<String>,
    confirmed: BTreeSet<String>,
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

    /// Notes that a client posts an event. A retry keeps the first time.
    pub fn asked(&mut self, posted: Posted) {
        let asked = self.tick();
        self.events.entry(posted.id.clone()).or_insert_with(|| Event {
            posted,
            asked,
            taken: None,
            lost: false,
            trimmed: false,
            missed: BTreeSet::new(),
            heard: BTreeSet::new(),
            confirms: BTreeSet::new(),
            confirmed: BTreeSet::new(),
        });
    }

    /// Notes that a client was told that its event is accepted.
    pub fn taken(&mut self, id: &str) {
        let taken = self.tick();
        if let Some(event) = self.events.get_mut(id) {
            event.taken = event.taken.or(Some(taken));
        }
    }

    /// Judges and notes the delivery of an event to a listener, at a node with these refs.
    ///
    /// # Errors
    /// The event must not be delivered here, not yet, or not again.
    pub fn heard(&mut self, facts: &Facts, node: &NodeId, id: &str, shown: &BTreeMap<RefName, Option<Oid>>) -> Verdict {
        let event = self.events.get(id).ok_or_else(|| format!("{id} was never posted"))?;
        let Posted { origin, project, refs, .. } = &event.posted;
        if origin == node {
            return Err(format!("{id} is delivered at its origin"));
        }
        if event.confirmed.contains(node) {
            return Err(format!("{id} is delivered again after it was confirmed"));
        }
        let is_applied = |(name, version): &&(RefName, Version)| {
            let value = shown.get(name).copied().flatten();
            facts.position(project, name, value, *version).is_some()
        };
        if let Some((name, version)) = refs.iter().find(|one| !is_applied(one)).filter(|_| !facts.is_past(project)) {
            let value = shown.get(name);
            return Err(format!("{id} is delivered before {project} {name}@{version}, which shows {value:?}"));
        }
        if !event.heard.contains(node)
            && let Some(before) = self.events.values().find(|before| is_skipped(before, event, node))
        {
            return Err(format!("{id} is delivered before {}, which happened before it", before.posted.id));
        }
        if let Some(event) = self.events.get_mut(id) {
            event.heard.insert(node.clone());
        }
        Ok(())
    }

    /// Notes that a listener is about to confirm an event.
    pub fn confirms(&mut self, node: &NodeId, id: &str) {
        if let Some(event) = self.events.get_mut(id) {
            event.confirms.insert(node.clone());
        }
    }

    /// Notes that a listener's confirmation was answered.
    pub fn confirmed(&mut self, node: &NodeId, id: &str) {
        if let Some(event) = self.events.get_mut(id) {
            event.confirmed.insert(node.clone());
        }
    }

    /// Notes that a record of an event was trimmed.
    pub fn trimmed(&mut self, id: &str) {
        if let Some(event) = self.events.get_mut(id) {
            event.trimmed = true;
        }
    }

    /// Notes that a node had not read the record of an event that was trimmed. The event need not be delivered there.
    pub fn missed(&mut self, node: &NodeId, id: &str) {
        if let Some(event) = self.events.get_mut(id) {
            event.missed.insert(node.clone());
        }
    }

    /// Notes that a node's volume is lost. Events that were delivered there are delivered again, unless the streams
    /// have forgotten them. Events that it accepted and had not yet published are lost.
    pub fn volume_lost(&mut self, node: &NodeId, is_logged: impl Fn(&str) -> bool) {
        for (id, event) in &mut self.events {
            event.lost |= event.posted.origin == *node && !is_logged(id);
            event.missed.extend(event.trimmed.then(|| node.clone()));
            for nodes in [&mut event.heard, &mut event.confirms, &mut event.confirmed] {
                nodes.remove(node);
            }
        }
    }

    /// The deliveries that a snapshot of a node's volume has now.
    #[must_use]
    pub fn deliveries(&self, node: &NodeId) -> Deliveries {
        let of = |nodes: fn(&Event) -> &BTreeSet<NodeId>| {
            let known = self.events.iter().filter(|(_, event)| nodes(event).contains(node));
            known.map(|(id, _)| id.clone()).collect()
        };
        Deliveries {
            heard: of(|event| &event.heard),
            confirms: of(|event| &event.confirms),
            confirmed: of(|event| &event.confirmed),
        }
    }

    /// Notes that a node's volume, which is lost, was put back to a snapshot with these deliveries.
    pub fn put_back(&mut self, node: &NodeId, to: &Deliveries) {
        for (id, event) in &mut self.events {
            event.heard.extend(to.heard.contains(id).then(|| node.clone()));
            event.confirms.extend(to.confirms.contains(id).then(|| node.clone()));
            event.confirmed.extend(to.confirmed.contains(id).then(|| node.clone()));
        }
    }

    /// Judges an announcement that a checkpoint of a node covers. The node must have it, unless the announcement is its
    /// own or its listener has confirmed it.
    ///
    /// # Errors
    /// The node would never deliver the event.
    pub fn covered(&self, node: &NodeId, id: &str, inbox: &BTreeSet<String>) -> Verdict {
        let excused = |event: &Event| {
            event.posted.origin == *node || event.confirms.contains(node) || event.missed.contains(node)
        };
        if inbox.contains(id) || self.events.get(id).is_none_or(excused) {
            return Ok(());
        }
        Err(format!("the checkpoint covers event {id}, which is neither in the inbox nor confirmed"))
    }

    /// An accepted event that was not delivered at one of the nodes. None if all were delivered everywhere.
    #[must_use]
    pub fn missing(&self, nodes: &[NodeId]) -> Option<String> {
        self.events.values().filter(|event| event.taken.is_some() && !event.lost).find_map(|event| {
            let Posted { id, origin, .. } = &event.posted;
            let is_over = |node: &NodeId| event.confirmed.contains(node) || event.missed.contains(node);
            let node = nodes.iter().find(|node| *node != origin && !is_over(node))?;
            Some(format!("event {id} of {origin} was not delivered at {node}"))
        })
    }

    /// The number of accepted events, and the number of deliveries, each node counted once per event.
    #[must_use]
    pub fn counts(&self) -> [u64; 2] {
        let taken = self.events.values().filter(|event| event.taken.is_some()).count();
        [taken as u64, self.events.values().map(|event| event.heard.len() as u64).sum()]
    }
}

/// Whether `now` is delivered at a node before `before`: an event of the same change, which was accepted at the same
/// origin before `now` was posted.
fn is_skipped(before: &Event, now: &Event, node: &NodeId) -> bool {
    let (one, two) = (&before.posted, &now.posted);
    let of_one = one.origin == two.origin && one.project.name == two.project.name && one.change == two.change;
    of_one
        && two.change.is_some()
        && before.taken.is_some_and(|taken| taken < now.asked)
        && !before.lost
        && !before.missed.contains(node)
        && !before.heard.contains(node)
}
