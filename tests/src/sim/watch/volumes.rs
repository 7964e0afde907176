//! What the watch hears from the volumes, at the moment at which something there has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep::git::RefMove;
use lockstep::volume::Changes;
use lockstep_proto::{NodeId, ProjectKey, ProjectName, RefKey, SiteId, Version};

use super::{Known, Local, Watch};
use crate::sim::backend::Volume;
use crate::sim::check::durability::Ledger;
use crate::sim::check::forward::Positions;
use crate::sim::check::{self, Verdict};
use crate::sim::facts::Facts;
use crate::sim::mirror::Mirror;
use crate::sim::trace::Trace;

impl Watch {
    /// A node has this volume.
    pub fn volume(&self, node: &NodeId, volume: Arc<dyn Volume>) {
        let local = Local {
            volume,
            positions: Positions::new(),
            ledger: Ledger::default(),
            ended: BTreeSet::new(),
            covered: BTreeMap::new(),
            low_water: BTreeMap::new(),
            ready: false,
            broken: false,
            reconciles: false,
            lost: false,
        };
        self.known().locals.insert(node.clone(), local);
    }

    /// A node was expelled: what it lacks it does not take from the journal, until it is ready again. A collector that
    /// saw it expelled may go on while it comes back.
    pub fn expelled(&self, node: &NodeId) {
        if let Some(local) = self.known().locals.get_mut(node) {
            local.reconciles = true;
        }
    }

    /// A node's life begins or ends.
    pub fn life(&self, node: &NodeId) {
        if let Some(local) = self.known().locals.get_mut(node) {
            local.ready = false;
            local.ended.clear();
            local.covered.clear();
            local.low_water.clear();
        }
    }

    /// A node's volume lost what was not synced, or everything (`lost`).
    pub fn damaged(&self, node: &NodeId, lost: bool) {
        let mut known = self.known();
        let Known { facts, locals, .. } = &mut *known;
        let Some(local) = locals.get_mut(node) else { return };
        local.broken = true;
        local.lost |= lost;
        local.positions.clear();
        for project in facts.projects.keys() {
            local.ledger.reset(project, &local.volume.refs(project));
        }
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
        let covered = if local.broken { Ok(()) } else { covered(facts, mirror, local, changes) };
        let whole = if local.ready { whole(facts, local, changes) } else { Ok(()) };
        known.judge(&self.trace, "checkpoints", covered.map_err(|what| format!("{node}: {what}")));
        known.judge(&self.trace, "batches", whole.map_err(|what| format!("{node}: {what}")));
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

    /// Looks at every ref of a node; `ready` is what the node says of itself.
    pub fn tick(&self, node: &NodeId, ready: bool) {
        let mut known = self.known();
        if ready {
            known.logged();
        }
        let Known { facts, mirror, locals, .. } = &mut *known;
        let Some(local) = locals.get_mut(node) else { return };
        let became_ready = ready && !local.ready;
        local.ready = ready;
        let mut verdict = Ok(());
        if became_ready {
            local.broken = false;
            local.reconciles = false;
            verdict = recovered(facts, local).and(everything_covered(facts, mirror, local));
        }
        let projects: Vec<ProjectName> = facts.projects.keys().cloned().collect();
        known.judge(&self.trace, "batches", verdict.map_err(|what| format!("{node}: {what}")));
        for project in &projects {
            look(&mut known, &self.trace, node, project);
        }
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

/// Judges the records that checkpoints, and the slots that low-water marks, cover now and did not before.
fn covered(facts: &Facts, mirror: &Mirror, local: &mut Local, changes: &Changes) -> Verdict {
    let store = local.volume.store();
    for (lane, mark) in &changes.low_water {
        let from = local.low_water.insert(lane.clone(), *mark).unwrap_or_default();
        check::marks::low_water(facts, store.as_ref(), lane, from, *mark)?;
    }
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

/// Judges every checkpoint and every low-water mark of a node that has just become ready.
fn everything_covered(facts: &Facts, mirror: &Mirror, local: &mut Local) -> Verdict {
    let store = local.volume.store();
    let checkpoints = store.checkpoints().map_err(|error| error.to_string())?;
    let low_water = store.low_water().map_err(|error| error.to_string())?;
    local.covered.clear();
    local.low_water.clear();
    let changes = Changes {
        checkpoints: checkpoints.into_iter().collect(),
        low_water: low_water.into_iter().collect(),
        ..Changes::default()
    };
    covered(facts, mirror, local, &changes)
}
