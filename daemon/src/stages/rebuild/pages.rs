//! Serves this node's version map, page by page, in the order of the names of projects. A page is bounded in entries
//! and in bytes, and it is made from the map alone: the refdb need not answer.

use std::sync::Arc;

use lockstep_proto::rebuild::{VersionsCursor, VersionsEntry, VersionsHead, VersionsPage, VersionsRequest};
use lockstep_proto::{NodeId, ProjectKey, ProjectName, ProjectPhase, RefKey, RefValue, SiteId};

use crate::seams::volume::{NodeStore, RefRecord, StoreError};
use crate::state::bound_refdb::BoundRefdb;
use crate::state::context::{NodeContext, NodeState};
use crate::state::version_map::VersionMap;

/// The most entries of a page.
const ENTRIES: usize = 4_000;
/// About the most bytes of a page. An answer of a peer may have twice as many.
const BYTES: usize = 400 * 1024;
/// The bytes of an entry beside its names.
const ENTRY_BYTES: usize = 200;

/// Tells whether the node takes commits now.
pub(super) type TakesCommits = Arc<dyn Fn() -> bool + Send + Sync>;

/// Serves the version map of one node.
pub(super) struct VersionPages {
    site: SiteId,
    node: NodeId,
    store: Arc<dyn NodeStore>,
    versions: Arc<VersionMap>,
    bound: Arc<BoundRefdb>,
    commits: TakesCommits,
}

/// A page that is being filled.
#[derive(Default)]
struct Filling {
    entries: Vec<VersionsEntry>,
    bytes: usize,
}

impl Filling {
    fn put(&mut self, project: &ProjectKey, key: RefKey, record: RefRecord) {
        self.bytes += ENTRY_BYTES + project.name.as_str().len() + key.to_string().len();
        let RefRecord { version, value, txn } = record;
        self.entries.push(VersionsEntry { project: project.clone(), key, version, value, txn });
    }

    fn room(&self) -> usize {
        if self.bytes >= BYTES { 0 } else { ENTRIES.saturating_sub(self.entries.len()) }
    }

    /// Where the next page begins.
    fn last(&self) -> Option<VersionsCursor> {
        self.entries.last().map(|last| VersionsCursor { project: last.project.name.clone(), key: last.key.clone() })
    }
}

impl VersionPages {
    pub(super) fn new(context: &NodeContext, state: &NodeState, commits: TakesCommits) -> Self {
        let NodeContext { site, node, store, .. } = context.clone();
        let (versions, bound) = (Arc::clone(&state.versions), Arc::clone(&state.bound));
        Self { site, node, store, versions, bound, commits }
    }

    /// The page after a position.
    ///
    /// # Errors
    /// The store failed.
    pub(super) fn page(&self, request: &VersionsRequest) -> Result<VersionsPage, StoreError> {
        // The head is made first: a change of the map after that shows in the head of the next page.
        let head = self.head()?;
        let mut page = Filling::default();
        let after = request.after.as_ref();
        for (name, state) in self.versions.states(request.only.as_ref())? {
            if after.is_some_and(|after| name < after.project) {
                continue;
            }
            let after = after.filter(|after| name == after.project).map(|after| &after.key);
            if !self.put_project(&mut page, &name, &state, after)? {
                let next = page.last();
                return Ok(VersionsPage { head, entries: page.entries, next });
            }
        }
        Ok(VersionsPage { head, entries: page.entries, next: None })
    }

    /// Adds the entries of a project after a key. Returns false if the page is full before all of them are in it.
    fn put_project(
        &self,
        page: &mut Filling,
        name: &ProjectName,
        state: &RefRecord,
        after: Option<&RefKey>,
    ) -> Result<bool, StoreError> {
        let RefValue::State(found) = &state.value else { return Ok(true) };
        let project = ProjectKey::new(name, found.incarnation);
        if after.is_none() {
            if page.room() == 0 {
                return Ok(false);
            }
            page.put(&project, RefKey::State, state.clone());
        }
        if found.phase == ProjectPhase::Deleted {
            return Ok(true);
        }
        let mut after = after.cloned();
        loop {
            let room = page.room();
            if room == 0 {
                return Ok(false);
            }
            // The map may give a few more than it is asked for.
            let some = self.versions.page(&project, after.as_ref(), room.min(500))?;
            let is_last = some.len() < room.min(500);
            after = some.last().map(|(key, _)| key.clone()).or(after);
            for (key, record) in some {
                // The names may be long: an answer that is too large would never arrive.
                if page.room() == 0 {
                    return Ok(false);
                }
                page.put(&project, key, record);
            }
            if is_last {
                return Ok(true);
            }
        }
    }

    fn head(&self) -> Result<VersionsHead, StoreError> {
        let moves = self.versions.changes();
        let (facts, registered) = (self.store.facts()?, self.store.registered()?);
        let lanes = self.store.low_water()?.into_keys().map(|lane| lane.incarnation.number.0);
        let highest = lanes.chain([registered.tried, registered.opened]).max().unwrap_or(0);
        let (parked, quarantined) = self.store.held_counts()?;
        Ok(VersionsHead {
            site: self.site.clone(),
            node: self.node.clone(),
            refdb: self.bound.refdb(),
            volume: facts.id,
            start: facts.starts,
            moves,
            commits: (self.commits)(),
            reconciles: self.versions.is_incomplete()?,
            highest_incarnation: highest,
            sites: self.bound.sites(),
            parked,
            quarantined,
            debts: self.store.debts()?.len() as u64,
        })
    }
}
