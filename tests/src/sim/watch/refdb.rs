//! The reports of the refdb to the watch, in the refdb's own order, and those of the clients.

use std::collections::BTreeSet;

use lockstep::seams::refdb::{IncarnationRecord, IncarnationState, NodeRecord, SiteRecord, WentBackRecord};
use lockstep_proto::bridge::{Outcome, ProjectResponse, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::{IncarnationId, LaneId, NodeId, ProjectName, RefKey, RefName, Seq, Slot, Transaction};

use super::{Known, Watch};
use crate::sim::check::{self, Verdict};
use crate::sim::facts::Occupant;
use crate::sim::history::Operation;

impl Watch {
    /// The refdb has made a commit.
    pub fn committed(&self, transaction: &Transaction) {
        let now = self.trace.now_ms();
        let mut known = self.known();
        if let Some(rewound_at) = known.rewound_at {
            let node = &transaction.id.slot.lane.incarnation.node;
            let since = known.locals.get(node).map_or(0, |local| local.since);
            let verdict = check::hindsight::commit(&transaction.id, rewound_at, since, now);
            return known.judge(&self.trace, "hindsight", verdict);
        }
        let chain = check::chain::extend(&known.facts, transaction);
        let slot = check::slots::commit(&known.facts, &transaction.id);
        let answers = check::answers::commit(&known.facts, &known.history, transaction);
        let projects = check::projects::commit(&known.facts, &known.history, transaction);
        let fencing = check::fencing::commit(&known.facts, transaction);
        known.facts.commit(transaction);
        let names = check::names::exclude(&known.facts, &transaction.project);
        for (property, verdict) in [("chain", chain), ("slots", slot), ("answers", answers)] {
            known.judge(&self.trace, property, verdict);
        }
        known.judge(&self.trace, "projects", projects);
        known.judge(&self.trace, "fencing", fencing);
        known.judge(&self.trace, "names", names);
    }

    /// A transaction was written into an empty slot.
    pub fn sealed(&self, transaction: &Transaction) {
        let is_late = {
            let facts = &self.known().facts;
            facts.collected.contains(&transaction.id.slot) && facts.transactions.contains_key(&transaction.id)
        };
        // A collected slot may receive a late copy of its own seal. Every node is past that slot, so the copy is no new
        // commit.
        if !is_late {
            self.committed(transaction);
        }
    }

    /// A slot is poisoned.
    pub fn poisoned(&self, slot: &Slot) {
        let mut known = self.known();
        if known.facts.collected.contains(slot) {
            // This is a late copy of a poison for a collected slot. Every node is past the slot, so its old content
            // still counts.
            return;
        }
        let verdict = check::slots::poison(&known.facts, slot);
        known.facts.slots.insert(slot.clone(), Occupant::Poison);
        known.judge(&self.trace, "slots", verdict);
    }

    /// Slots are about to be collected.
    pub fn collecting(&self, slots: &[Slot], expelled: &BTreeSet<NodeId>) {
        let mut known = self.known();
        let mut verdict = Ok(());
        for (node, local) in known.locals.iter().filter(|(node, local)| local.counts() && !expelled.contains(*node)) {
            let store = local.volume.store();
            for slot in slots {
                let one = check::collection::collected(&known.facts, slot, node.as_str(), store.as_ref());
                verdict = verdict.and(one);
            }
        }
        for (node, local) in known.locals.iter().filter(|(node, _)| !expelled.contains(*node)) {
            let store = local.volume.store();
            for slot in slots {
                let one = check::collection::held_collected(&known.facts, slot, node.as_str(), store.as_ref());
                verdict = verdict.and(one);
            }
        }
        known.facts.collected.extend(slots.iter().cloned());
        known.judge(&self.trace, "collection", verdict);
    }

    /// A blob is about to be deleted.
    pub fn deletes_blob(&self, key: &str) {
        let mut known = self.known();
        let mut verdict = Ok(());
        for (node, local) in known.locals.iter().filter(|(_, local)| local.counts()) {
            let store = local.volume.store();
            verdict = verdict.and(check::collection::dropped(&known.facts, key, node.as_str(), store.as_ref()));
        }
        known.judge(&self.trace, "collection", verdict);
    }

    /// A site's record has changed.
    pub fn site(&self, record: &SiteRecord) {
        self.known().facts.sites.insert(record.site.clone(), record.clone());
    }

    /// An incarnation was opened.
    pub fn opened(&self, record: &IncarnationRecord) {
        let mut known = self.known();
        let verdict = check::fencing::open_incarnation(&known.facts, record);
        known.facts.incarnations.insert(record.id.clone(), record.clone());
        let commits = known.facts.commits;
        known.facts.opened.insert(record.id.clone(), commits);
        known.judge(&self.trace, "fencing", verdict);
    }

    /// The marks of an open incarnation were written.
    pub fn marked(&self, id: &IncarnationId, settled: &[Seq], published: &[Seq]) {
        let mut known = self.known();
        let Some(record) = known.facts.incarnations.get(id).cloned() else { return };
        let logged = known.logged();
        let settles = check::marks::settled(&known.facts, id, &record.settled, settled);
        let publishes = check::marks::published(&known.facts, id, &record.published, published, &logged);
        if let Some(record) = known.facts.incarnations.get_mut(id) {
            raise(&mut record.settled, settled);
            raise(&mut record.published, published);
        }
        known.judge(&self.trace, "marks", settles.and(publishes));
    }

    /// An incarnation was frozen. This is its record.
    pub fn frozen(&self, record: &IncarnationRecord) {
        self.known().facts.incarnations.insert(record.id.clone(), record.clone());
    }

    /// The window of an incarnation was poisoned.
    pub fn incarnation_poisoned(&self, id: &IncarnationId) {
        let mut known = self.known();
        let verdict = check::fencing::poisoned(&known.facts, id);
        if let Some(record) = known.facts.incarnations.get_mut(id).filter(|record| record.may_commit()) {
            record.state = IncarnationState::Poisoned;
        }
        known.judge(&self.trace, "fencing", verdict);
    }

    /// The published marks of an incarnation were raised on behalf of its owner.
    pub fn raised(&self, id: &IncarnationId, published: &[Seq]) {
        let mut known = self.known();
        let Some(record) = known.facts.incarnations.get(id).cloned() else { return };
        let logged = known.logged();
        let verdict = check::marks::published(&known.facts, id, &record.published, published, &logged);
        if let Some(record) = known.facts.incarnations.get_mut(id) {
            raise(&mut record.published, published);
        }
        known.judge(&self.trace, "marks", verdict);
    }

    /// An incarnation was drained.
    pub fn drained(&self, id: &IncarnationId, published: &[Seq]) {
        let mut known = self.known();
        let logged = known.logged();
        let window = check::fencing::drained(&known.facts, id, published);
        let before = known.facts.incarnations.get(id).map(|record| record.published.clone()).unwrap_or_default();
        let marks = check::marks::published(&known.facts, id, &before, published, &logged);
        if let Some(record) = known.facts.incarnations.get_mut(id) {
            record.state = IncarnationState::Drained;
            raise(&mut record.published, published);
        }
        known.judge(&self.trace, "fencing", window);
        known.judge(&self.trace, "marks", marks);
    }

    /// A node's record has changed.
    pub fn node(&self, record: &NodeRecord) {
        let mut known = self.known();
        known.availability.beat(record, self.trace.now_ms());
        let lanes = known.facts.incarnations.values().flat_map(|one| one.id.lanes(one.published.iter()));
        let lanes: Vec<LaneId> = lanes.map(|(lane, _)| lane).chain(record.low_water.keys().cloned()).collect();
        let acknowledged = known.facts.acknowledged.entry(record.node.clone()).or_default();
        for lane in lanes {
            let mark = record.mark(&lane);
            let highest = acknowledged.entry(lane).or_default();
            *highest = (*highest).max(mark);
        }
        let local = known.locals.get(&record.node).filter(|local| local.counts() && !record.expelled);
        let store = local.map(|local| local.volume.store());
        let verdict = store.map_or(Ok(()), |store| check::marks::named(&known.facts, store.as_ref(), record));
        known.judge(&self.trace, "collection", verdict);
    }

    /// A node declares that the refdb went back. That is false while it never did.
    pub fn declared_went_back(&self, record: &WentBackRecord) {
        let mut known = self.known();
        if known.rewound_at.is_none() {
            let what = format!("{} declares that the refdb went back, which it never did: {}", record.by, record.why);
            known.judge(&self.trace, "hindsight", Err(what));
        }
    }

    /// The records of these incarnations were removed.
    pub fn forgotten(&self, ids: &[IncarnationId]) {
        let mut known = self.known();
        let verdict = ids.iter().try_for_each(|id| check::collection::forgotten(&known.facts, id));
        known.facts.forgotten.extend(ids.iter().cloned());
        known.judge(&self.trace, "collection", verdict);
    }

    /// A client sends an operation on a project.
    pub fn operates(&self, id: &str, project: &ProjectName, key: RefKey, head: Option<RefName>) {
        let mut known = self.known();
        let asked = known.facts.commits;
        known.history.operate(id, Operation { project: project.clone(), key, head, asked, tries: 0, outcome: None });
    }

    /// A client receives the answer to an operation, from a node that is alive.
    pub fn operated(&self, id: &str, response: &ProjectResponse) {
        let mut known = self.known();
        known.history.operated(id, response);
        let Some(operation) = known.history.operation(id).cloned() else { return };
        let verdict = check::projects::verdict(&known.facts, &operation, id);
        known.judge(&self.trace, "projects", verdict);
    }

    /// A client sends a request.
    pub fn asked(&self, project: &ProjectName, request: &RefTransactionRequest) {
        let mut known = self.known();
        let commits = known.facts.commits;
        known.history.ask(project, request, commits);
    }

    /// A client receives an answer from a node that is alive.
    pub fn answered(&self, node: &NodeId, id: &str, response: &RefTransactionResponse) {
        let mut known = self.known();
        known.history.answer(id, response);
        let Some(entry) = known.history.get(id).cloned() else { return };
        for result in &response.results {
            let mut verdict = check::answers::verdict(&known.facts, &entry, result);
            if verdict.is_ok() && result.outcome == Outcome::Committed {
                verdict = visible(&known, node, &entry.project, &result.name, id);
            }
            known.judge(&self.trace, "answers", verdict);
        }
    }
}

fn raise(marks: &mut [Seq], to: &[Seq]) {
    for (mark, to) in marks.iter_mut().zip(to) {
        *mark = (*mark).max(*to);
    }
}

/// Judges whether a ref that was answered as committed shows at least that step.
fn visible(known: &Known, node: &NodeId, project: &ProjectName, name: &RefName, id: &str) -> Verdict {
    let (Some(local), Some(key)) = (known.locals.get(node), known.facts.projects.get(project)) else { return Ok(()) };
    if known.facts.is_past(key) {
        return Ok(());
    }
    let chain = known.facts.chain(key, &RefKey::Ref(name.clone()));
    let Some(step) = chain.iter().rev().find(|step| step.request == id) else { return Ok(()) };
    let value = local.volume.refs(project).get(name).copied();
    match known.facts.position(key, name, value, step.version) {
        Some(_) => Ok(()),
        None => Err(format!("{node} said that {name}@{} can be read, but shows {value:?}", step.version)),
    }
}
