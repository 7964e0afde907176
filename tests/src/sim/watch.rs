//! The watch: hears of everything at the moment at which it truly happens, keeps the facts, and asks the checkers.
//!
//! It stands below the faults, so it knows what nodes cannot know. The first violation stays; the run stops at its
//! next tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep::eventlog::EventLog;
use lockstep::git::RefMove;
use lockstep::refdb::{CommitRequest, IncarnationRecord, IncarnationState, SiteRecord};
use lockstep::volume::Changes;
use lockstep_proto::bridge::{Outcome, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, Seq, SiteId, Slot, Version};

use super::backend::Volume;
use super::check::durability::Ledger;
use super::check::forward::Positions;
use super::check::{self, Verdict, Violation};
use super::facts::{Facts, Occupant};
use super::history::History;
use super::mirror::Mirror;
use super::trace::Trace;

/// What is known of one node's volume.
struct Local {
    volume: Arc<dyn Volume>,
    positions: Positions,
    ledger: Ledger,
    /// Shards whose end this life of the node has read.
    ended: BTreeSet<(SiteId, String)>,
    /// How many records of each shard the checkpoints covered when they were judged last.
    covered: BTreeMap<(SiteId, String), usize>,
    /// Whether the node serves: its refs are judged.
    ready: bool,
    /// Whether a power cut or a loss of the disk is not repaired yet: its refs may be anything.
    broken: bool,
}

/// Everything that the watch knows.
pub struct Known {
    /// What truly happened.
    pub facts: Facts,
    /// What clients asked and heard.
    pub history: History,
    /// The event logs.
    pub mirror: Mirror,
    /// Bad records that the simulator wrote itself.
    pub bad_records: u64,
    locals: BTreeMap<NodeId, Local>,
    violation: Option<Violation>,
}

/// The watch over one run.
pub struct Watch {
    trace: Arc<Trace>,
    known: Mutex<Known>,
}

impl Known {
    fn judge(&mut self, trace: &Trace, property: &'static str, verdict: Verdict) {
        if let Err(what) = verdict
            && self.violation.is_none()
        {
            let violation = Violation { property, what };
            trace.note("VIOLATION", &violation.to_string());
            self.violation = Some(violation);
        }
    }

    fn logged(&mut self) -> BTreeSet<lockstep_proto::TxnId> {
        let sites: Vec<SiteId> = self.facts.sites.keys().cloned().collect();
        for site in &sites {
            self.mirror.refresh(site);
        }
        self.mirror.logged.clone()
    }
}

impl Watch {
    /// A watch that knows nothing yet.
    #[must_use]
    pub fn new(trace: Arc<Trace>, eventlog: Arc<dyn EventLog>) -> Arc<Self> {
        let known = Known {
            facts: Facts::default(),
            history: History::default(),
            mirror: Mirror::new(eventlog),
            bad_records: 0,
            locals: BTreeMap::new(),
            violation: None,
        };
        Arc::new(Self { trace, known: Mutex::new(known) })
    }

    /// What is known, for a look.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first violation.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.known().violation.clone()
    }

    /// Records a violation that a checker outside found.
    pub fn violated(&self, property: &'static str, what: String) {
        self.known().judge(&self.trace, property, Err(what));
    }

    // ---- the refdb, in its own order ----

    /// The refdb has made a commit.
    pub fn committed(&self, request: &CommitRequest) {
        let mut known = self.known();
        let transaction = &request.transaction;
        let chain = check::chain::extend(&known.facts, transaction);
        let slot = check::slots::commit(&known.facts, &transaction.id);
        let answers = check::answers::commit(&known.facts, &known.history, transaction);
        known.facts.commit(transaction);
        let names = check::names::exclude(&known.facts, &transaction.project);
        for (property, verdict) in [("chain", chain), ("slots", slot), ("answers", answers), ("names", names)] {
            known.judge(&self.trace, property, verdict);
        }
    }

    /// A slot is poisoned.
    pub fn poisoned(&self, slot: &Slot) {
        let mut known = self.known();
        let verdict = check::slots::poison(&known.facts, slot);
        known.facts.slots.insert(slot.clone(), Occupant::Poison);
        known.judge(&self.trace, "slots", verdict);
    }

    /// Slots are about to be collected.
    pub fn collecting(&self, slots: &[Slot], expelled: &BTreeSet<NodeId>) {
        let mut known = self.known();
        let mut verdict = Ok(());
        for (node, local) in known.locals.iter().filter(|(node, local)| !local.broken && !expelled.contains(*node)) {
            let store = local.volume.store();
            for slot in slots {
                let one = check::collection::collected(&known.facts, slot, node.as_str(), store.as_ref());
                verdict = verdict.and(one);
            }
        }
        known.judge(&self.trace, "collection", verdict);
    }

    /// A site's record is now this.
    pub fn site(&self, record: &SiteRecord) {
        self.known().facts.sites.insert(record.site.clone(), record.clone());
    }

    /// An incarnation was born.
    pub fn born(&self, record: &IncarnationRecord) {
        let mut known = self.known();
        let verdict = check::fencing::birth(&known.facts, record);
        known.facts.incarnations.insert(record.id.clone(), record.clone());
        known.judge(&self.trace, "fencing", verdict);
    }

    /// Marks of an open incarnation were written.
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

    /// An incarnation was frozen, and this is its record.
    pub fn frozen(&self, record: &IncarnationRecord) {
        self.known().facts.incarnations.insert(record.id.clone(), record.clone());
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

    // ---- clients ----

    /// A client asks.
    pub fn asked(&self, project: &ProjectName, request: &RefTransactionRequest) {
        let mut known = self.known();
        let commits = known.facts.commits;
        known.history.ask(project, request, commits);
    }

    /// A client is answered by a node that lives.
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

    // ---- volumes ----

    /// A node has this volume.
    pub fn volume(&self, node: &NodeId, volume: Arc<dyn Volume>) {
        let local = Local {
            volume,
            positions: Positions::new(),
            ledger: Ledger::default(),
            ended: BTreeSet::new(),
            covered: BTreeMap::new(),
            ready: false,
            broken: false,
        };
        self.known().locals.insert(node.clone(), local);
    }

    /// A node's life begins or ends.
    pub fn life(&self, node: &NodeId) {
        if let Some(local) = self.known().locals.get_mut(node) {
            local.ready = false;
            local.ended.clear();
            local.covered.clear();
        }
    }

    /// A node's volume lost what was not synced, or everything.
    pub fn damaged(&self, node: &NodeId) {
        let mut known = self.known();
        let Known { facts, locals, violation: _, .. } = &mut *known;
        let Some(local) = locals.get_mut(node) else { return };
        local.broken = true;
        local.positions.clear();
        for project in facts.projects.keys() {
            local.ledger.reset(project, &local.volume.refs(project));
        }
        local.ended.clear();
        local.covered.clear();
    }

    /// A repository was mended at a start.
    pub fn repaired(&self, node: &NodeId) {
        let mut known = self.known();
        let Known { facts, locals, .. } = &mut *known;
        let Some(local) = locals.get_mut(node).filter(|local| local.broken) else { return };
        for project in facts.projects.keys() {
            local.ledger.reset(project, &local.volume.refs(project));
        }
    }

    /// A repository was removed.
    pub fn repository_deleted(&self, node: &NodeId, project: &ProjectName) {
        if let Some(local) = self.known().locals.get_mut(node) {
            local.ledger.reset(project, &BTreeMap::new());
            local.positions.retain(|(other, _), _| other != project);
        }
    }

    /// A repository's refs have moved.
    pub fn refs_moved(&self, node: &NodeId, project: &ProjectName, moves: &[RefMove]) {
        let mut known = self.known();
        if let Some(local) = known.locals.get_mut(node) {
            for step in moves {
                local.ledger.moved(project, &step.name, step.new);
            }
        }
        look(&mut known, &self.trace, node, project);
    }

    /// A sync begins; hand the mark to [`Watch::synced`].
    #[must_use]
    pub fn sync_begins(&self, node: &NodeId) -> u64 {
        self.known().locals.get(node).map_or(0, |local| local.ledger.mark())
    }

    /// A sync has ended.
    pub fn synced(&self, node: &NodeId, mark: u64) {
        if let Some(local) = self.known().locals.get_mut(node) {
            local.ledger.synced(mark);
        }
    }

    /// A node's store is about to commit.
    pub fn store_will_commit(&self, node: &NodeId, changes: &Changes) {
        let mut known = self.known();
        let Some(local) = known.locals.get(node) else { return };
        let (facts, store) = (&known.facts, local.volume.store());
        let mut durable = Ok(());
        for (project, key, record) in &changes.refs {
            let chain = check::durability::in_chain(facts, store.as_ref(), project, key, record);
            durable = durable.and(chain).and(local.ledger.covers(facts, project, key, record));
        }
        let held = check::held::quarantined(facts, changes);
        known.judge(&self.trace, "durability", durable.map_err(|what| format!("{node}: {what}")));
        known.judge(&self.trace, "held", held.map_err(|what| format!("{node}: {what}")));
    }

    /// A node's store has committed.
    pub fn store_committed(&self, node: &NodeId, changes: &Changes) {
        let mut known = self.known();
        for (shard, _) in &changes.checkpoints {
            known.mirror.refresh(&shard.site);
        }
        let Known { facts, mirror, locals, .. } = &mut *known;
        let Some(local) = locals.get_mut(node) else { return };
        let covered = covered(facts, mirror, local, changes);
        let whole = if local.ready { whole(facts, local, changes) } else { Ok(()) };
        known.judge(&self.trace, "checkpoints", covered.map_err(|what| format!("{node}: {what}")));
        known.judge(&self.trace, "batches", whole.map_err(|what| format!("{node}: {what}")));
    }

    // ---- shards ----

    /// A node opens a shard.
    pub fn shard_opened(&self, node: &NodeId, site: &SiteId, shard: &str) {
        let mut known = self.known();
        let (Some(local), Some(stream)) = (known.locals.get(node), known.mirror.stream(site)) else { return };
        let checkpoints = local.volume.store().checkpoints().unwrap_or_default();
        let verdict = check::shards::opened(site, shard, &stream, &local.ended, &checkpoints);
        known.judge(&self.trace, "shards", verdict.map_err(|what| format!("{node}: {what}")));
    }

    /// A node has read the end of a shard.
    pub fn shard_ended(&self, node: &NodeId, site: &SiteId, shard: &str) {
        if let Some(local) = self.known().locals.get_mut(node) {
            local.ended.insert((site.clone(), shard.to_owned()));
        }
    }

    // ---- every tick ----

    /// Looks at every ref of a node; `ready` is what the node says of itself.
    pub fn tick(&self, node: &NodeId, ready: bool) {
        let mut known = self.known();
        let Known { facts, locals, .. } = &mut *known;
        let Some(local) = locals.get_mut(node) else { return };
        let became_ready = ready && !local.ready;
        local.ready = ready;
        let mut verdict = Ok(());
        if became_ready {
            local.broken = false;
            verdict = recovered(facts, local);
        }
        let projects: Vec<ProjectName> = facts.projects.keys().cloned().collect();
        known.judge(&self.trace, "batches", verdict.map_err(|what| format!("{node}: {what}")));
        for project in &projects {
            look(&mut known, &self.trace, node, project);
        }
    }

    /// What keeps the nodes from being equal to the refdb; none when nothing does.
    #[must_use]
    pub fn differs(&self) -> Option<String> {
        let mut known = self.known();
        let logged = known.logged();
        if let Some(what) = check::convergence::unpublished(&known.facts, &logged) {
            return Some(what);
        }
        known.locals.iter().find_map(|(node, local)| {
            let volume = local.volume.as_ref();
            let streams = known.facts.sites.keys().find_map(|site| {
                let stream = known.mirror.stream(site)?;
                check::convergence::stream_differs(volume, site, &stream, &known.mirror.records)
            });
            let bad: BTreeSet<String> = volume.store().quarantined().unwrap_or_default().into_keys().collect();
            check::convergence::volume_differs(&known.facts, volume)
                .or(streams)
                .or(check::held::complete(node.as_str(), &bad, known.bad_records).err())
                .map(|what| format!("{node}: {what}"))
        })
    }
}

fn raise(marks: &mut [Seq], to: &[Seq]) {
    for (mark, to) in marks.iter_mut().zip(to) {
        *mark = (*mark).max(*to);
    }
}

/// Whether a ref that was answered as committed shows at least that step.
fn visible(known: &Known, node: &NodeId, project: &ProjectName, name: &lockstep_proto::RefName, id: &str) -> Verdict {
    let (Some(local), Some(key)) = (known.locals.get(node), known.facts.projects.get(project)) else { return Ok(()) };
    let chain = known.facts.chain(key, &RefKey::Ref(name.clone()));
    let Some(step) = chain.iter().rev().find(|step| step.request == id) else { return Ok(()) };
    let value = local.volume.refs(project).get(name).copied();
    match known.facts.position(key, name, value, step.version) {
        Some(_) => Ok(()),
        None => Err(format!("{node} said that {name}@{} can be read, but shows {value:?}", step.version)),
    }
}

/// Looks at the refs of one repository: forward, complete, whole batches.
fn look(known: &mut Known, trace: &Trace, node: &NodeId, project: &ProjectName) {
    let Known { facts, locals, .. } = known;
    let (Some(local), Some(key)) = (locals.get_mut(node), facts.projects.get(project)) else { return };
    if local.broken {
        return;
    }
    let shown = local.volume.refs(project);
    let said = |what: String| format!("{node}: {what}");
    let moved = match check::forward::advance(facts, key, &shown, &mut local.positions) {
        Ok(moved) => moved,
        Err(what) => return known.judge(trace, "forward", Err(said(what))),
    };
    let (mut objects, mut batches) = (Ok(()), Ok(()));
    for (name, version) in &moved {
        if let Some(oid) = shown.get(name) {
            objects = objects.and(check::objects::complete(local.volume.as_ref(), project, name, oid));
        }
        if local.ready {
            batches = batches.and(check::batches::in_refs(facts, key, (name, *version), &shown));
        }
    }
    known.judge(trace, "objects", objects.map_err(said));
    known.judge(trace, "batches", batches.map_err(said));
}

/// Judges the records that checkpoints cover now and did not before.
fn covered(facts: &Facts, mirror: &Mirror, local: &mut Local, changes: &Changes) -> Verdict {
    let store = local.volume.store();
    for (shard, at) in &changes.checkpoints {
        let key = (shard.site.clone(), shard.shard.clone());
        let empty = Vec::new();
        let records = mirror.records.get(&key).unwrap_or(&empty);
        let records = check::checkpoints::covered(records, at)?;
        let known = local.covered.insert(key, records.len()).unwrap_or(0).min(records.len());
        check::checkpoints::applied(facts, store.as_ref(), &records[known..])?;
    }
    Ok(())
}

/// Judges that the map holds the whole of each transaction of which it has just taken in a part.
fn whole(facts: &Facts, local: &Local, changes: &Changes) -> Verdict {
    let store = local.volume.store();
    let txns: BTreeSet<_> = changes.refs.iter().map(|(_, _, record)| &record.txn).collect();
    txns.into_iter().try_for_each(|txn| check::batches::in_map(facts, store.as_ref(), txn))
}

/// Judges a node that has just become ready: its map is whole, and its refs are at least where the map is.
fn recovered(facts: &Facts, local: &mut Local) -> Verdict {
    let store = local.volume.store();
    let projects: Vec<&ProjectKey> = facts.projects.values().collect();
    for project in projects {
        let shown = local.volume.refs(&project.name);
        for name in facts.names(project) {
            let key = RefKey::Ref(name.clone());
            let Some(record) = store.reference(project, &key).map_err(|error| error.to_string())? else { continue };
            check::batches::in_map(facts, store.as_ref(), &record.txn)?;
            let value = shown.get(&name).copied();
            if record.version > Version::NONE && facts.position(project, &name, value, record.version).is_none() {
                return Err(format!("{name} shows {value:?}, the version map says version {}", record.version));
            }
            let at = local.positions.entry((project.name.clone(), name)).or_default();
            *at = (*at).max(record.version);
        }
    }
    Ok(())
}
