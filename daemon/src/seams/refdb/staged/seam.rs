//! The implementation of [`RefDb`]: commits of any size, and reads in which no lock hides a committed value. All other
//! calls pass through.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, Seq, SiteId, Slot, Transaction, TxnId};

use super::StagedRefDb;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::{
    CommitAnswer, CommitRequest, GerritRecord, IncarnationRecord, MarkAnswer, NodeAnswer, NodeRecord, OpenAnswer, Part,
    RefDb, RefDbError, RefItem, Role, SiteRecord, SlotState,
};

macro_rules! passed_on {
    ($($call:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl RefDb for StagedRefDb {
            async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
                self.commit_any(request).await
            }

            async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
                loop {
                    let found = self.inner.read(project, keys).await?;
                    let items: Vec<&RefItem> = found.iter().flatten().collect();
                    if self.bugs.has(InjectedBug::LockNotRead) || !self.free(project, &items).await? {
                        return Ok(found);
                    }
                }
            }

            async fn scan(
                &self,
                project: &ProjectKey,
                after: Option<&RefKey>,
                limit: usize,
            ) -> Result<Vec<RefItem>, RefDbError> {
                loop {
                    let found = self.inner.scan(project, after, limit).await?;
                    if !self.free(project, &found.iter().collect::<Vec<_>>()).await? {
                        return Ok(found);
                    }
                }
            }

            async fn projects(
                &self,
                after: Option<&ProjectName>,
                limit: usize,
            ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
                loop {
                    let found = self.inner.projects(after, limit).await?;
                    let mut freed = false;
                    for (name, item) in found.iter().filter(|(_, item)| item.lock.is_some()) {
                        // The item belongs to the name, so the incarnation does not matter.
                        freed |= self.free(&ProjectKey { name: name.clone(), incarnation: 0 }, &[item]).await?;
                    }
                    if !freed {
                        return Ok(found);
                    }
                }
            }

            fn commits_in_steps(&self, transaction: &Transaction) -> bool {
                self.is_staged(transaction)
            }

            $(async fn $call(&self, $($argument: $type),*) -> Result<$answer, RefDbError> {
                self.inner.$call($($argument),*).await
            })*
        }
    };
}

passed_on! {
    prepare() -> ();
    lock(part: &Part) -> CommitAnswer;
    seal(txn: &TxnId, encoded: &Bytes) -> SlotState;
    flip(part: &Part) -> ();
    release(project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> ();
    slot(slot: &Slot) -> SlotState;
    poison(slot: &Slot) -> SlotState;
    collect(slots: &[Slot]) -> ();
    enroll_site(site: &SiteId, role: Role) -> SiteRecord;
    sites() -> Vec<SiteRecord>;
    change_role(from: &SiteRecord, role: Role) -> SiteRecord;
    open_incarnation(record: &IncarnationRecord) -> OpenAnswer;
    incarnations(site: &SiteId) -> Vec<IncarnationRecord>;
    last_incarnation(site: &SiteId, node: &NodeId) -> u64;
    mark(site: &SiteId, id: &IncarnationId, settled: &[Seq], published: &[Seq]) -> MarkAnswer;
    freeze(site: &SiteId, id: &IncarnationId) -> IncarnationRecord;
    drained(site: &SiteId, id: &IncarnationId, published: &[Seq]) -> ();
    nodes() -> Vec<NodeRecord>;
    put_node(record: &NodeRecord, previous: Option<&NodeRecord>) -> NodeAnswer;
    forget_incarnations(site: &SiteId, ids: &[IncarnationId]) -> ();
    gerrit() -> Option<GerritRecord>;
    enroll_gerrit(record: &GerritRecord) -> GerritRecord;
    instances() -> BTreeMap<String, NodeId>;
    claim_instance(instance: &str, node: &NodeId, from: Option<&NodeId>) -> NodeId;
    release_instance(instance: &str, node: &NodeId) -> ();
}
