//! The reports of the volumes to the watch, each at the moment of the change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep::seams::git::RefMove;
use lockstep::seams::volume::{Changes, NodeStore};
use lockstep::stages::ports::{PeerRefs, Rebuilds};
use lockstep_proto::{NodeId, Oid, ProjectKey, ProjectName, ProjectPhase, RefKey, RefName, RefValue, SiteId, Version};

use super::{Known, Local, Watch};
use crate::sim::backend::Volume;
use crate::sim::check::checkpoints::Logged;
use crate::sim::check::durability::Ledger;
use crate::sim::check::events::{Deliveries, Events};
use crate::sim::check::forward::Shown;
use crate::sim::check::{self, Verdict};
use crate::sim::facts::Facts;
use crate::sim::mirror::Mirror;
use crate::sim::trace::Trace;

/// The time after which everything that a node had applied is durable, in virtual milliseconds.
const DURABLE_MS: u64 = 400;

/// A snapshot of a node's volume.
pub struct Snapshot {
    restore: Box<dyn Fn() + Send + Sync>,
    /// The stream events that the volume knows as delivered.
    deliveries: Deliveries,
}

impl Watch {
    /// A node has this volume.
    pub fn volume(&self, node: &NodeId, volume: Arc<dyn Volume>) {
        let local = Local {
            since: 0,
            volume,
            positions: BTreeMap::new(),
            shown: Shown::default(),
            behind: BTreeMap::new(),
            ledger: Ledger::default(),
            ended: BTreeSet::new(),
            covered: BTreeMap::new(),
            low_water: BTreeMap::new(),
            at_start: BTreeMap::new(),
            ready_since: None,
            ready: false,
            broken: false,
            reconciles: false,
            lost: false,
            missed: false,
        };
        self.known().locals.insert(node.clone(), local);
    }

    /// A node of a site that joins has this empty volume. Until it is ready, it needs no journal.
    pub fn joins(&self, node: &NodeId, volume: Arc<dyn Volume>) {
        self.volume(node, volume);
        self.expelled(node);
        self.known().availability.forget(node);
    }

    /// The site of a node was removed from the list of sites: its volume counts for nothing any more.
    pub fn leaves(&self, node: &NodeId) {
        let mut known = self.known();
        known.locals.remove(node);
        known.availability.forget(node);
    }

    /// A node was expelled. Until it is ready again, it needs no journal. A collector that saw it expelled may continue
    /// while it comes back.
    pub fn expelled(&self, node: &NodeId) {
        if let Some(local) = self.known().locals.get_mut(node) {
            local.reconciles = true;
        }
    }

    /// A test wrote into a repository behind the node's back, or removed it.
    pub fn written_behind(&self, node: &NodeId, project: &ProjectName) {
        let mut known = self.known();
        let Some(local) = known.locals.get_mut(node) else { return };
        let shown = local.volume.refs(project);
        local.positions.remove(project);
        local.ledger.reset(project, &shown);
        local.behind.retain(|(other, _), _| other != project);
        local.behind.extend(shown.into_iter().map(|(name, oid)| ((project.clone(), name), oid)));
    }

    /// A life of a node begins or ends.
    pub fn life(&self, node: &NodeId) {
        let now = self.trace.now_ms();
        let mut known = self.known();
        known.read_streams();
        let at_start = known.mirror.records.iter().map(|(shard, records)| (shard.clone(), records.len())).collect();
        if let Some(local) = known.locals.get_mut(node) {
            local.since = now;
            local.at_start = at_start;
            local.ready_since = None;
            local.ready = false;
            local.ended.clear();
            local.covered.clear();
            local.low_water.clear();
        }
    }

    /// A node's volume lost its unsynced changes, or everything (`lost`).
    pub fn damaged(&self, node: &NodeId, lost: bool) {
        let mut known = self.known();
        if lost {
            known.read_streams();
        }
        let Known { facts, locals, events, mirror, .. } = &mut *known;
        if lost {
            let logged: BTreeSet<&String> = mirror.announced.values().collect();
            events.volume_lost(node, |id| logged.contains(&id.to_owned()));
        }
        let Some(local) = locals.get_mut(node) else { return };
        local.broken = true;
        local.lost |= lost;
        local.positions.clear();
        local.shown.clear();
        for project in facts.projects.keys() {
            local.ledger.reset(project, &local.volume.refs(project));
        }
    }

    /// Takes a snapshot of a node's volume. None if there is no such node, or its volume has no snapshots.
    #[must_use]
    pub fn snapshot(&self, node: &NodeId) -> Option<Snapshot> {
        let known = self.known();
        let restore = known.locals.get(node)?.volume.snapshot()?;
        Some(Snapshot { restore, deliveries: known.events.deliveries(node) })
    }

    /// Puts a node's volume back to a snapshot. Everything that came later is lost.
    pub fn put_back(&self, node: &NodeId, snapshot: &Snapshot) {
        (snapshot.restore)();
        self.damaged(node, true);
        self.known().events.put_back(node, &snapshot.deliveries);
    }

    /// A volume was repaired at a start.
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
            local.positions.remove(project);
            // A node that is ready has no state transfer that failed in the middle.
            let mapped = if local.ready { u32::MAX } else { mapped(local.volume.store().as_ref(), project) };
            local.shown.removed(project, mapped);
        }
    }

    /// The refs of a repository have moved.
    pub fn refs_moved(&self, node: &NodeId, project: &ProjectName, moves: &[RefMove]) {
        let mut known = self.known();
        if let Some(local) = known.locals.get_mut(node) {
            for step in moves {
                local.ledger.moved(project, &step.name, step.new);
            }
        }
        look(&mut known, &self.trace, node, project);
    }

    /// A sync begins. The result is the mark for [`Watch::synced`].
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
        let signed = facts.sites.values().any(|site| site.signed && !site.removed);
        let held = check::held::quarantined(facts, &known.mirror.forged, signed, changes);
        let late = check::projects::parked(store.as_ref(), &changes.park);
        known.judge(&self.trace, "durability", durable.map_err(|what| format!("{node}: {what}")));
        known.judge(&self.trace, "held", held.map_err(|what| format!("{node}: {what}")));
        known.judge(&self.trace, "projects", late.map_err(|what| format!("{node}: {what}")));
    }

    /// A node's store has committed.
    pub fn store_committed(&self, node: &NodeId, changes: &Changes) {
        let mut known = self.known();
        for (shard, _) in &changes.checkpoints {
            known.mirror.refresh(&shard.site);
        }
        let Known { facts, events, mirror, locals, .. } = &mut *known;
        let Some(local) = locals.get_mut(node) else { return };
        let judge = Judge { facts, events, mirror, node };
        let low_water = low_water(facts, local, changes);
        let covered = if local.broken { Ok(()) } else { judge.covered(local, changes) };
        let whole = if local.ready { whole(facts, local, changes) } else { Ok(()) };
        let digests = check::digests::stored(local.volume.store().as_ref(), changes);
        known.judge(&self.trace, "marks", low_water.map_err(|what| format!("{node}: {what}")));
        known.judge(&self.trace, "checkpoints", covered.map_err(|what| format!("{node}: {what}")));
        known.judge(&self.trace, "batches", whole.map_err(|what| format!("{node}: {what}")));
        known.judge(&self.trace, "digests", digests.map_err(|what| format!("{node}: {what}")));
    }

    /// A node tells its peers digests and records.
    pub fn tells(&self, node: &NodeId, peer_refs: &dyn PeerRefs, rebuilds: &dyn Rebuilds) {
        let told = check::digests::told(peer_refs, rebuilds);
        self.known().judge(&self.trace, "digests", told.map_err(|what| format!("{node}: {what}")));
    }

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

    /// Judges every ref of a node. `ready` is the node's own readiness.
    pub fn tick(&self, node: &NodeId, ready: bool) {
        let mut known = self.known();
        if ready {
            known.read_streams();
        }
        let Known { facts, events, mirror, locals, .. } = &mut *known;
        let Some(local) = locals.get_mut(node) else { return };
        let judge = Judge { facts, events, mirror, node };
        let became_ready = ready && !local.ready;
        local.ready = ready;
        let mut verdict = Ok(());
        let readiness = judge.readiness(local, became_ready, self.trace.now_ms());
        if became_ready {
            local.broken = false;
            local.reconciles = false;
            verdict = recovered(facts, local).and(judge.everything_covered(local));
        }
        let projects: Vec<ProjectName> = facts.projects.keys().cloned().collect();
        known.judge(&self.trace, "batches", verdict.map_err(|what| format!("{node}: {what}")));
        known.judge(&self.trace, "readiness", readiness.map_err(|what| format!("{node}: {what}")));
        for project in &projects {
            look(&mut known, &self.trace, node, project);
        }
    }
}

/// Judges the refs of one repository: they move forward, are complete, and show whole batches.
fn look(known: &mut Known, trace: &Trace, node: &NodeId, project: &ProjectName) {
    let Known { facts, locals, .. } = known;
    let Some(local) = locals.get_mut(node).filter(|local| !local.broken) else { return };
    let shown = local.volume.refs(project);
    let said = |what: String| format!("{node}: {what}");
    let (key, moved) = match advance(facts, local, project, &shown) {
        Ok(Some(moved)) => moved,
        Ok(None) => return,
        Err(what) => return known.judge(trace, "forward", Err(said(what))),
    };
    let key = &key;
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

/// Refs that moved, and the project's incarnation that they belong to.
type Moved = (ProjectKey, Vec<(RefName, Version)>);

/// Finds the incarnation whose refs a repository shows, and moves its positions on. None if it shows only values that
/// were written behind the node's back.
fn advance(
    facts: &Facts,
    local: &mut Local,
    project: &ProjectName,
    shown: &BTreeMap<RefName, Oid>,
) -> Result<Option<Moved>, String> {
    let mut differs = None;
    for key in local.shown.candidates(facts, project) {
        let mut positions = local.positions.get(project).cloned().unwrap_or_default();
        // A value that was written behind the node's back counts only from its commit on.
        let is_own = |(name, oid): &(&RefName, &Oid)| {
            let is_written = local.behind.get(&(project.clone(), (*name).clone())) == Some(*oid);
            !is_written || facts.position(&key, name, Some(**oid), Version::NONE).is_some()
        };
        let shown: BTreeMap<RefName, Oid> =
            shown.iter().filter(is_own).map(|(name, oid)| (name.clone(), *oid)).collect();
        match check::forward::advance(facts, &key, &shown, &mut positions) {
            Ok(moved) => {
                local.positions.insert(project.clone(), positions);
                if !shown.is_empty() {
                    local.shown.is_of(&key);
                }
                return Ok(Some((key, moved)));
            }
            Err(what) => differs = differs.or(Some(what)),
        }
    }
    let is_written = |(name, oid)| local.behind.get(&(project.clone(), RefName::clone(name))) == Some(oid);
    if shown.iter().all(is_written) {
        Ok(None)
    } else {
        Err(differs.unwrap_or_else(|| format!("{project} shows {shown:?}")))
    }
}

/// Judges the slots that low-water marks cover now and did not before.
fn low_water(facts: &Facts, local: &mut Local, changes: &Changes) -> Verdict {
    let store = local.volume.store();
    for (lane, mark) in &changes.low_water {
        let from = local.low_water.insert(lane.clone(), *mark).unwrap_or_default();
        check::marks::low_water(facts, store.as_ref(), lane, from, *mark)?;
    }
    Ok(())
}

/// The facts by which a node's checkpoints are judged.
struct Judge<'a> {
    facts: &'a Facts,
    events: &'a Events,
    mirror: &'a Mirror,
    node: &'a NodeId,
}

impl Judge<'_> {
    /// Judges the records that checkpoints cover now and did not before.
    fn covered(&self, local: &mut Local, changes: &Changes) -> Verdict {
        let store = local.volume.store();
        for (shard, at) in &changes.checkpoints {
            let key = (shard.site.clone(), shard.shard.clone());
            let empty = Vec::new();
            let records = self.mirror.records.get(&key).unwrap_or(&empty);
            let records = check::checkpoints::covered(records, at)?;
            let known = local.covered.insert(key, records.len()).unwrap_or(0).min(records.len());
            check::checkpoints::applied(self.facts, store.as_ref(), &records[known..])?;
            self.received(store.as_ref(), &records[known..])?;
        }
        Ok(())
    }

    /// Judges the announcements among covered records.
    fn received(&self, store: &dyn NodeStore, records: &[Logged]) -> Verdict {
        let announced = |(_, txn): &Logged| self.mirror.announced.get(txn.as_ref()?);
        let ids: Vec<&String> = records.iter().filter_map(announced).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let inbox = super::events::inbox(store)?;
        ids.into_iter().try_for_each(|id| self.events.covered(self.node, id, &inbox))
    }

    /// Judges a node once per life, when what it had when it became ready is durable.
    fn readiness(&self, local: &mut Local, became_ready: bool, now_ms: u64) -> Verdict {
        if became_ready && local.ready_since.is_none() && !local.at_start.is_empty() {
            local.ready_since = Some(now_ms);
        }
        if local.ready_since.is_none_or(|since| now_ms < since + DURABLE_MS) {
            return Ok(());
        }
        local.ready_since = None;
        let at_start = std::mem::take(&mut local.at_start);
        let store = local.volume.store();
        check::readiness::has_all_of_the_start(self.facts, store.as_ref(), &self.mirror.records, &at_start)
    }

    /// Judges every checkpoint and every low-water mark of a node that has just become ready.
    fn everything_covered(&self, local: &mut Local) -> Verdict {
        let store = local.volume.store();
        let checkpoints = store.checkpoints().map_err(|error| error.to_string())?;
        let marks = store.low_water().map_err(|error| error.to_string())?;
        local.covered.clear();
        local.low_water.clear();
        let changes = Changes {
            checkpoints: checkpoints.into_iter().collect(),
            low_water: marks.into_iter().collect(),
            ..Changes::default()
        };
        low_water(self.facts, local, &changes)?;
        self.covered(local, &changes)
    }
}

/// Judges that the map holds the whole of each transaction of which it has just taken in a part.
fn whole(facts: &Facts, local: &Local, changes: &Changes) -> Verdict {
    let store = local.volume.store();
    let txns: BTreeSet<_> = changes.refs.iter().map(|(_, _, record)| &record.txn).collect();
    txns.into_iter().try_for_each(|txn| check::batches::in_map(facts, store.as_ref(), txn))
}

/// Judges a node that has just become ready: its map has only whole transactions, and its refs are at least as new as
/// the map, apart from those that were written behind the node's back.
fn recovered(facts: &Facts, local: &mut Local) -> Verdict {
    let store = local.volume.store();
    for project in facts.projects.keys().filter_map(|name| here(store.as_ref(), name)) {
        let project = &project;
        if facts.is_past(project) || !local.shown.candidates(facts, &project.name).contains(project) {
            // The disk is, or may be, at a later incarnation already.
            continue;
        }
        let shown = local.volume.refs(&project.name);
        for name in facts.names(project) {
            let key = RefKey::Ref(name.clone());
            let Some(record) = store.reference(project, &key).map_err(|error| error.to_string())? else { continue };
            check::batches::in_map(facts, store.as_ref(), &record.txn)?;
            let value = shown.get(&name).copied();
            let written =
                local.behind.get(&(project.name.clone(), name.clone())).copied().filter(|it| Some(*it) == value);
            if written.is_some() && facts.position(project, &name, value, Version::NONE).is_none() {
                continue;
            }
            if record.version > Version::NONE && facts.position(project, &name, value, record.version).is_none() {
                return Err(format!("{name} shows {value:?}, the version map says version {}", record.version));
            }
            // A repository without refs may already belong to the next incarnation.
            if !shown.is_empty() {
                let at = local.positions.entry(project.name.clone()).or_default().entry(name).or_default();
                *at = (*at).max(record.version);
            }
        }
    }
    Ok(())
}

/// The incarnation of a project in a node's version map, deleted or not. Zero if the map does not know it.
fn mapped(store: &dyn NodeStore, name: &ProjectName) -> u32 {
    let record = store.reference(&ProjectKey::of_name(name), &RefKey::State).ok().flatten();
    match record.map(|record| record.value) {
        Some(RefValue::State(state)) => state.incarnation,
        _ => 0,
    }
}

/// The incarnation of a project in a node's version map, if it is not deleted.
fn here(store: &dyn NodeStore, name: &ProjectName) -> Option<ProjectKey> {
    match store.reference(&ProjectKey::of_name(name), &RefKey::State).ok()??.value {
        RefValue::State(state) if state.phase != ProjectPhase::Deleted => {
            Some(ProjectKey::new(name, state.incarnation))
        }
        _ => None,
    }
}
