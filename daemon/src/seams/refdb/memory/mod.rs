//! The refdb in memory: the model for the simulator, and the plainest form of the contract.
//!
//! It has no I/O, no time and no randomness. It is one mutex around ordered maps, so the same calls give the same
//! answers. A clone is another handle on the same data. Every call takes effect at once and returns an answer. A fault
//! layer around it adds lost answers and conflicts.

mod records;
mod refs;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, Seq, SiteId, Slot, TxnId};
use parking_lot::{Mutex, MutexGuard};

use super::rules;
use super::{
    CommitAnswer, CommitRequest, DigestRecord, Document, DocumentRecord, Documents, GerritIdentity, GerritRecord,
    IncarnationRecord, Incarnations, JournalStore, MarkAnswer, NodeAnswer, NodeRecord, Nodes, Obstacle, OpenAnswer,
    Part, RebuildAnswer, Rebuilt, RefDb, RefDbError, RefItem, RefStore, Role, Setup, SiteAnswer, SiteRecord, Sites,
    SlotState, WentBackRecord,
};
use crate::base::faults::injected_bug::InjectedBugs;
use records::Records;
use refs::Refs;
pub use tables::MemoryTables;

/// A refdb in memory. Clones share the data.
#[derive(Clone, Debug, Default)]
pub struct MemoryRefDb(Arc<Mutex<State>>);

/// The content of a refdb at one moment.
#[derive(Clone, Debug)]
pub struct Backup(State);

#[derive(Clone, Debug, Default)]
struct State {
    refs: Refs,
    records: Records,
}

impl State {
    /// The obstacle to a commit under an operator lock with this token.
    fn lock_obstacle(&self, token: Option<&str>) -> Option<Obstacle> {
        let list = self.records.document(Document::Locks);
        rules::lock_obstacle(token, list.as_ref().map(|list| list.body.as_str()))
    }

    /// Whether a seal may go ahead under the operator lock with this token. A write of one item cannot check it.
    fn may_seal(&self, token: &str) -> bool {
        self.refs.write_items() > 1 && self.lock_obstacle(Some(token)).is_none()
    }

    fn rebuild(&mut self, items: &[Rebuilt], revision: u64) -> Result<RebuildAnswer, RefDbError> {
        rules::rebuilt_fits(items)?;
        if self.records.document(Document::Identity).map(|stored| stored.revision) != Some(revision) {
            return Ok(RebuildAnswer::Superseded);
        }
        for item in items {
            if let Rebuilt::Directory(project, name) = item
                && self.refs.is_live(project, name)
            {
                return Ok(RebuildAnswer::NamesExclude(project.clone(), name.clone()));
            }
        }
        for item in items {
            match item {
                Rebuilt::Ref(project, item) => self.refs.rebuild(project, item),
                Rebuilt::Directory(project, name) => self.refs.rebuild_directory(project, name),
                Rebuilt::Site(site) => self.records.rebuild_site(site),
                Rebuilt::Document(which, record) => self.records.rebuild_document(*which, record),
            }
        }
        Ok(RebuildAnswer::Written)
    }
}

impl MemoryRefDb {
    /// Creates a refdb without sites, projects or refs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty refdb with an injected bug.
    #[must_use]
    pub fn injected(bugs: InjectedBugs) -> Self {
        let new = Self::default();
        new.state().refs.bugs = bugs;
        new
    }

    /// From now on, one write takes one item only, as in a table without transactions. Incarnations, sites and
    /// documents are still written with all their conditions at once.
    pub fn write_single_items(&self) {
        self.state().refs.is_single_item = true;
    }

    /// A copy of the present content, as a backup has it.
    #[must_use]
    pub fn backup(&self) -> Backup {
        Backup(self.state().clone())
    }

    /// Replaces the content by that of a backup. Every handle sees it.
    pub fn restore(&self, backup: &Backup) {
        *self.state() = backup.0.clone();
    }

    /// This store as a refdb.
    #[must_use]
    pub fn refdb(&self) -> RefDb {
        RefDb::of(&Arc::new(self.clone()))
    }

    /// Locks the state. No call leaves the maps half-written, so they are good even after a test thread has panicked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

#[async_trait]
impl RefStore for MemoryRefDb {
    fn write_items(&self) -> usize {
        self.state().refs.write_items()
    }

    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        let mut state = self.state();
        let lost = state.lock_obstacle(request.lock_token.as_deref());
        state.refs.commit(request, lost)
    }

    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        self.state().refs.lock(part)
    }

    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError> {
        Ok(self.state().refs.seal(txn, encoded))
    }

    async fn seal_held(&self, txn: &TxnId, encoded: &Bytes, token: &str) -> Result<SlotState, RefDbError> {
        let mut state = self.state();
        match state.may_seal(token) {
            true => Ok(state.refs.seal(txn, encoded)),
            false => Ok(state.refs.slot(&txn.slot)),
        }
    }

    async fn flip(&self, part: &Part) -> Result<(), RefDbError> {
        self.state().refs.flip(part);
        Ok(())
    }

    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError> {
        self.state().refs.release(project, txn, keys);
        Ok(())
    }

    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
        let state = self.state();
        Ok(keys.iter().map(|key| state.refs.item(project, key).cloned()).collect())
    }

    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError> {
        Ok(self.state().refs.scan(project, after, limit))
    }

    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
        Ok(self.state().refs.projects(after, limit))
    }
}

#[async_trait]
impl JournalStore for MemoryRefDb {
    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        Ok(self.state().refs.slot(slot))
    }

    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        Ok(self.state().refs.poison(slot))
    }

    async fn collect(&self, slots: &[Slot]) -> Result<(), RefDbError> {
        self.state().refs.collect(slots);
        Ok(())
    }
}

#[async_trait]
impl Setup for MemoryRefDb {
    async fn rebuild(&self, items: &[Rebuilt], revision: u64) -> Result<RebuildAnswer, RefDbError> {
        self.state().rebuild(items, revision)
    }
}

#[async_trait]
impl Sites for MemoryRefDb {
    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError> {
        Ok(self.state().records.enroll_site(site, role))
    }

    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError> {
        Ok(self.state().records.sites())
    }

    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError> {
        self.state().records.change_role(from, role)
    }

    async fn change_site(
        &self,
        from: Option<&SiteRecord>,
        to: &SiteRecord,
        failover: u64,
    ) -> Result<SiteAnswer, RefDbError> {
        self.state().records.change_site(from, to, failover)
    }

    async fn begin_failover(
        &self,
        record: &DocumentRecord,
        sites: &[SiteRecord],
    ) -> Result<Option<DocumentRecord>, RefDbError> {
        self.state().records.begin_failover(record, sites)
    }

    /// Every program that shares this memory is of this release.
    async fn shut_out_earlier(&self, _site: &SiteId) -> Result<(), RefDbError> {
        Ok(())
    }
}

#[async_trait]
impl Incarnations for MemoryRefDb {
    async fn open_incarnation(&self, record: &IncarnationRecord) -> Result<OpenAnswer, RefDbError> {
        self.state().records.open_incarnation(record)
    }

    async fn incarnations(&self, site: &SiteId) -> Result<Vec<IncarnationRecord>, RefDbError> {
        Ok(self.state().records.incarnations(site))
    }

    async fn last_incarnation(&self, site: &SiteId, node: &NodeId) -> Result<u64, RefDbError> {
        Ok(self.state().records.last_incarnation(site, node))
    }

    async fn mark(
        &self,
        site: &SiteId,
        id: &IncarnationId,
        settled: &[Seq],
        published: &[Seq],
    ) -> Result<MarkAnswer, RefDbError> {
        self.state().records.mark(site, id, settled, published)
    }

    async fn touch(&self, site: &SiteId, id: &IncarnationId) -> Result<MarkAnswer, RefDbError> {
        self.state().records.touch(site, id)
    }

    async fn freeze(&self, site: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError> {
        self.state().records.freeze(site, id)
    }

    async fn poisoned(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        self.state().records.poisoned(site, id)
    }

    async fn raise_published(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        self.state().records.raise_published(site, id, published)
    }

    async fn drained(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        self.state().records.drained(site, id, published)
    }

    async fn forget_incarnations(&self, site: &SiteId, ids: &[IncarnationId]) -> Result<(), RefDbError> {
        self.state().records.forget(site, ids)
    }
}

#[async_trait]
impl Nodes for MemoryRefDb {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError> {
        Ok(self.state().records.nodes())
    }

    async fn put_node(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError> {
        self.state().records.put_node(record, previous)
    }

    async fn digests(&self) -> Result<Vec<DigestRecord>, RefDbError> {
        Ok(self.state().records.digests())
    }

    async fn put_digest(&self, record: &DigestRecord) -> Result<(), RefDbError> {
        self.state().records.put_digest(record)
    }
}

#[async_trait]
impl Documents for MemoryRefDb {
    async fn document(&self, which: Document) -> Result<Option<DocumentRecord>, RefDbError> {
        Ok(self.state().records.document(which))
    }

    async fn put_document(&self, which: Document, record: &DocumentRecord) -> Result<DocumentRecord, RefDbError> {
        self.state().records.put_document(which, record)
    }

    async fn went_back(&self) -> Result<Option<WentBackRecord>, RefDbError> {
        Ok(self.state().records.went_back())
    }

    async fn declare_went_back(&self, record: &WentBackRecord) -> Result<WentBackRecord, RefDbError> {
        Ok(self.state().records.declare_went_back(record))
    }
}

#[async_trait]
impl GerritIdentity for MemoryRefDb {
    async fn gerrit(&self) -> Result<Option<GerritRecord>, RefDbError> {
        Ok(self.state().records.gerrit())
    }

    async fn enroll_gerrit(&self, record: &GerritRecord) -> Result<GerritRecord, RefDbError> {
        self.state().records.enroll_gerrit(record)
    }

    async fn instances(&self) -> Result<BTreeMap<String, NodeId>, RefDbError> {
        Ok(self.state().records.instances())
    }

    async fn claim_instance(&self, instance: &str, node: &NodeId, from: Option<&NodeId>) -> Result<NodeId, RefDbError> {
        self.state().records.claim_instance(instance, node, from)
    }

    async fn release_instance(&self, instance: &str, node: &NodeId) -> Result<(), RefDbError> {
        self.state().records.release_instance(instance, node);
        Ok(())
    }
}
