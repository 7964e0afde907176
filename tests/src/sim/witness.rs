//! The witness: a decorator between the raw refdb and all faults. It tells the watch about every effect.
//!
//! The raw refdb answers without waiting, so the witness sees the effects in the refdb's own order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::seams::refdb::{
    CommitAnswer, CommitRequest, GerritRecord, IncarnationRecord, MarkAnswer, NodeAnswer, NodeRecord, OpenAnswer, Part,
    RefDb, RefDbError, RefItem, Role, SiteRecord, SlotState,
};
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, Seq, SiteId, Slot, Transaction, TxnId};

use super::watch::Watch;

/// A refdb whose effects are witnessed.
pub struct WitnessedRefDb {
    inner: Arc<dyn RefDb>,
    watch: Arc<Watch>,
}

impl WitnessedRefDb {
    /// Witnesses `inner` for `watch`.
    #[must_use]
    pub fn new(inner: Arc<dyn RefDb>, watch: Arc<Watch>) -> Self {
        Self { inner, watch }
    }
}

impl WitnessedRefDb {
    /// Checks that a transaction whose slot is about to be collected holds no lock. Such a lock could no longer be
    /// decided.
    async fn no_lock_names(&self, encoded: &Bytes) -> Result<(), RefDbError> {
        let Ok(transaction) = Transaction::decode(encoded) else { return Ok(()) };
        let keys: Vec<RefKey> = transaction.commands.iter().map(|command| command.key.clone()).collect();
        for item in self.inner.read(&transaction.project, &keys).await?.into_iter().flatten() {
            if item.lock.as_ref() == Some(&transaction.id) {
                let what = format!("the slot of {} is collected, which has {} locked", transaction.id, item.key);
                self.watch.violated("collection", what);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl RefDb for WitnessedRefDb {
    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        let answer = self.inner.commit(request).await?;
        if answer == CommitAnswer::Committed {
            self.watch.committed(&request.transaction);
        }
        Ok(answer)
    }

    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        self.inner.lock(part).await
    }

    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError> {
        let before = self.inner.slot(&txn.slot).await?;
        let state = self.inner.seal(txn, encoded).await?;
        if before == SlotState::Empty {
            match Transaction::decode(encoded) {
                Ok(transaction) => self.watch.sealed(&transaction),
                Err(error) => self.watch.violated("slots", format!("{txn} is sealed and cannot be read: {error}")),
            }
        }
        Ok(state)
    }

    async fn flip(&self, part: &Part) -> Result<(), RefDbError> {
        self.inner.flip(part).await
    }

    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError> {
        self.inner.release(project, txn, keys).await
    }

    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
        self.inner.read(project, keys).await
    }

    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError> {
        self.inner.scan(project, after, limit).await
    }

    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
        self.inner.projects(after, limit).await
    }

    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        self.inner.slot(slot).await
    }

    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        let state = self.inner.poison(slot).await?;
        if state == SlotState::Poisoned {
            self.watch.poisoned(slot);
        }
        Ok(state)
    }

    async fn collect(&self, slots: &[Slot]) -> Result<(), RefDbError> {
        let nodes = self.inner.nodes().await?;
        let expelled: BTreeSet<NodeId> = nodes.into_iter().filter(|node| node.expelled).map(|node| node.node).collect();
        let mut committed = Vec::new();
        for slot in slots {
            if let SlotState::Committed(_, bytes) = self.inner.slot(slot).await? {
                committed.push(slot.clone());
                self.no_lock_names(&bytes).await?;
            }
        }
        self.watch.collecting(&committed, &expelled);
        self.inner.collect(slots).await
    }

    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError> {
        let record = self.inner.enroll_site(site, role).await?;
        self.watch.site(&record);
        Ok(record)
    }

    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError> {
        self.inner.sites().await
    }

    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError> {
        let record = self.inner.change_role(from, role).await?;
        self.watch.site(&record);
        Ok(record)
    }

    async fn open_incarnation(&self, record: &IncarnationRecord) -> Result<OpenAnswer, RefDbError> {
        let answer = self.inner.open_incarnation(record).await?;
        if answer == OpenAnswer::Opened {
            self.watch.born(record);
        }
        Ok(answer)
    }

    async fn incarnations(&self, site: &SiteId) -> Result<Vec<IncarnationRecord>, RefDbError> {
        self.inner.incarnations(site).await
    }

    async fn last_incarnation(&self, site: &SiteId, node: &NodeId) -> Result<u64, RefDbError> {
        self.inner.last_incarnation(site, node).await
    }

    async fn mark(
        &self,
        site: &SiteId,
        id: &IncarnationId,
        settled: &[Seq],
        published: &[Seq],
    ) -> Result<MarkAnswer, RefDbError> {
        let answer = self.inner.mark(site, id, settled, published).await?;
        if answer == MarkAnswer::Written {
            self.watch.marked(id, settled, published);
        }
        Ok(answer)
    }

    async fn freeze(&self, site: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError> {
        let record = self.inner.freeze(site, id).await?;
        self.watch.frozen(&record);
        Ok(record)
    }

    async fn drained(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        self.inner.drained(site, id, published).await?;
        self.watch.drained(id, published);
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError> {
        self.inner.nodes().await
    }

    async fn put_node(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError> {
        let answer = self.inner.put_node(record, previous).await?;
        if answer == NodeAnswer::Written {
            self.watch.node(record);
        }
        if record.expelled && answer == NodeAnswer::Written {
            self.watch.expelled(&record.node);
        }
        Ok(answer)
    }

    async fn forget_incarnations(&self, site: &SiteId, ids: &[IncarnationId]) -> Result<(), RefDbError> {
        self.inner.forget_incarnations(site, ids).await?;
        self.watch.forgotten(ids);
        Ok(())
    }

    async fn gerrit(&self) -> Result<Option<GerritRecord>, RefDbError> {
        self.inner.gerrit().await
    }

    async fn enroll_gerrit(&self, record: &GerritRecord) -> Result<GerritRecord, RefDbError> {
        self.inner.enroll_gerrit(record).await
    }

    async fn instances(&self) -> Result<BTreeMap<String, NodeId>, RefDbError> {
        self.inner.instances().await
    }

    async fn claim_instance(&self, instance: &str, node: &NodeId, from: Option<&NodeId>) -> Result<NodeId, RefDbError> {
        self.inner.claim_instance(instance, node, from).await
    }

    async fn release_instance(&self, instance: &str, node: &NodeId) -> Result<(), RefDbError> {
        self.inner.release_instance(instance, node).await
    }
}
