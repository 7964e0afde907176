//! Picks the highest version of each ref among the entries of all nodes. Pure: the entries come in, in their order.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::rebuild::{Contradiction, LEAP, MOST_LISTED, Rebuild, RebuildSource, VersionsEntry, VersionsHead};
use lockstep_proto::{NodeId, ProjectKey, ProjectPhase, RefKey, RefName, RefValue, SiteId, TxnId, Version};

use crate::base::ref_names::{self, RefClass};
use crate::seams::refdb::{Rebuilt, RefItem};

/// Merges the version maps of some nodes.
pub(super) struct Merge {
    /// The nodes, by their index in the entries.
    nodes: Vec<RebuildSource>,
    /// The project whose refs come next, if it lives.
    project: Option<ProjectKey>,
    /// The directories of the ref before, which are marked already.
    marked: Vec<RefName>,
}

impl Merge {
    pub(super) fn new(heads: &[&VersionsHead]) -> Self {
        let source = |head: &&VersionsHead| RebuildSource {
            site: head.site.clone(),
            node: head.node.clone(),
            refs: 0,
            behind: 0,
            alone: 0,
            unapplied: head.parked + head.quarantined + head.debts,
            reconciles: head.reconciles,
        };
        Self { nodes: heads.iter().map(source).collect(), project: None, marked: Vec::new() }
    }

    /// Takes the refs of one refdb, in place of those of nodes.
    pub(super) fn of_refdb(site: &SiteId, node: &NodeId) -> Self {
        let (site, node) = (site.clone(), node.clone());
        let source = RebuildSource { site, node, refs: 0, behind: 0, alone: 0, unapplied: 0, reconciles: false };
        Self { nodes: vec![source], project: None, marked: Vec::new() }
    }

    /// The nodes with their counts.
    pub(super) fn sources(&self) -> Vec<RebuildSource> {
        self.nodes.clone()
    }

    /// Takes the entries that all nodes have of one ref, each with the index of its node. All of them have the same
    /// project name and key. Returns the items of the new refdb, and counts in the report.
    pub(super) fn step(&mut self, mut entries: Vec<(usize, VersionsEntry)>, report: &mut Rebuild) -> Vec<Rebuilt> {
        if entries.first().is_some_and(|(_, entry)| entry.key != RefKey::State) {
            // Another creation of the project may have refs of the same names.
            entries.retain(|(_, entry)| Some(&entry.project) == self.project.as_ref());
        }
        let Some(best) = self.best(&entries) else { return Vec::new() };
        self.count(&entries, &best);
        self.contradiction(&entries, &best, report);
        match &best.value {
            RefValue::State(state) => {
                let lives = state.phase != ProjectPhase::Deleted;
                self.project = lives.then(|| best.project.clone());
                self.marked.clear();
                if lives { report.projects += 1 } else { report.tombstones += 1 }
            }
            RefValue::Absent => report.tombstones += 1,
            RefValue::Oid(_) | RefValue::Symref(_) => report.refs += 1,
        }
        self.items(best)
    }

    /// The entry with the highest version. Of two transactions with one version, the one that more sites have, and then
    /// the one with the higher id: every run picks the same.
    fn best(&self, entries: &[(usize, VersionsEntry)]) -> Option<VersionsEntry> {
        let mut sites: BTreeMap<(Version, &TxnId), BTreeSet<&SiteId>> = BTreeMap::new();
        for (node, entry) in entries {
            sites.entry((entry.version, &entry.txn)).or_default().insert(&self.nodes[*node].site);
        }
        let ((version, txn), _) = sites.iter().max_by_key(|((version, txn), sites)| (*version, sites.len(), *txn))?;
        let is_best = |entry: &&VersionsEntry| entry.version == *version && entry.txn == **txn;
        entries.iter().map(|(_, entry)| entry).find(is_best).cloned()
    }

    fn count(&mut self, entries: &[(usize, VersionsEntry)], best: &VersionsEntry) {
        let has_best = |entry: &VersionsEntry| entry.version == best.version && entry.txn == best.txn;
        let holders = entries.iter().filter(|(_, entry)| has_best(entry));
        let sites: BTreeSet<SiteId> = holders.map(|(node, _)| self.nodes[*node].site.clone()).collect();
        for (node, entry) in entries {
            let source = &mut self.nodes[*node];
            source.refs += 1;
            source.behind += u64::from(entry.version < best.version);
            source.alone += u64::from(sites.len() == 1 && has_best(entry));
        }
    }

    fn contradiction(&self, entries: &[(usize, VersionsEntry)], best: &VersionsEntry, report: &mut Rebuild) {
        let mut values: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (node, entry) in entries.iter().filter(|(_, entry)| entry.version == best.version) {
            let text = format!("{} ({})", entry.value, entry.txn);
            values.entry(text).or_default().push(self.nodes[*node].node.as_str());
        }
        if values.len() < 2 {
            return;
        }
        report.contradicted += 1;
        if report.contradictions.len() < MOST_LISTED {
            let taken = format!("{} ({})", best.value, best.txn);
            let with = |(text, nodes): (&String, &Vec<&str>)| format!("{text} at {}", nodes.join(", "));
            let (own, others): (Vec<_>, Vec<_>) = values.iter().partition(|(text, _)| **text == taken);
            report.contradictions.push(Contradiction {
                project: best.project.clone(),
                key: best.key.clone(),
                version: best.version,
                taken: own.into_iter().map(with).collect(),
                others: others.into_iter().map(with).collect(),
            });
        }
    }

    /// The items of a ref: itself, and the marks of the folders in which it lies.
    fn items(&mut self, best: VersionsEntry) -> Vec<Rebuilt> {
        let VersionsEntry { project, key, version, value, txn } = best;
        let mut items = Vec::new();
        let is_live = !value.is_absent();
        if let (true, Some(name)) = (is_live, key.as_ref_name())
            && ref_names::classify(name) == Ok(RefClass::Mutable)
        {
            let folders = ref_names::directories(name);
            let new = folders.iter().filter(|folder| !self.marked.contains(folder));
            items.extend(new.map(|folder| Rebuilt::Directory(project.clone(), folder.clone())));
            self.marked = folders;
        }
        let version = Version(version.0.saturating_add(LEAP));
        let item = RefItem { key, version, value, txn: Some(txn), directory: false, loosened: None, lock: None };
        items.push(Rebuilt::Ref(project, item));
        items
    }
}
