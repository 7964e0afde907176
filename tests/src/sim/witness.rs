//! The witness: a decorator between the raw refdb and all faults. It tells the watch about every effect.
//!
//! The raw refdb answers without waiting, so the witness sees the effects in the refdb's own order.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::seams::blob::BlobStore;
use lockstep::seams::blob::long_form::LongForms;
use lockstep::seams::refdb::{
    CommitAnswer, CommitRequest, DigestRecord, Document, DocumentRecord, Documents, IncarnationRecord, Incarnations,
    JournalStore, MarkAnswer, NodeAnswer, NodeRecord, Nodes, OpenAnswer, Part, RefDb, RefDbError, RefItem, RefStore,
    Role, SiteAnswer, SiteRecord, Sites, SlotState, WentBackRecord,
};
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, Seq, SiteId, Slot, TxnId};

use super::watch::Watch;

/// A refdb whose effects are witnessed.
pub struct WitnessedRefDb {
    inner: RefDb,
    long_forms: LongForms,
    watch: Arc<Watch>,
}

impl WitnessedRefDb {
    /// Witnesses `inner` for `watch`. The parts that the watch learns nothing from stay those of `inner`: the setup,
    /// and the identity of Gerrit.
    #[must_use]
    pub fn over(inner: RefDb, blobs: Arc<dyn BlobStore>, watch: Arc<Watch>) -> RefDb {
        let long_forms = LongForms::new(blobs, "no-spill".into(), usize::MAX);
        let witness = Arc::new(Self { inner: inner.clone(), long_forms, watch });
        RefDb {
            refs: Arc::clone(&witness) as _,
            journal: Arc::clone(&witness) as _,
            sites: Arc::clone(&witness) as _,
            incarnations: Arc::clone(&witness) as _,
            nodes: Arc::clone(&witness) as _,
            documents: witness,
            ..inner
        }
    }

    /// Checks that a transaction whose slot is about to be collected holds no lock. Such a lock could no longer be
    /// decided. The transaction comes from the facts, because its long form is deleted before its slot.
    async fn no_lock_names(&self, txn: &TxnId) -> Result<(), RefDbError> {
        let known = self.watch.known().facts.transactions.get(txn).cloned();
        let Some(transaction) = known else { return Ok(()) };
        let keys: Vec<RefKey> = transaction.commands.iter().map(|command| command.key.clone()).collect();
        for item in self.inner.refs.read(&transaction.project, &keys).await?.into_iter().flatten() {
            if item.lock.as_ref() == Some(&transaction.id) {
                let what = format!("the slot of {} is collected, which has {} locked", transaction.id, item.key);
                self.watch.violated("collection", what);
            }
        }
        Ok(())
    }
}

impl WitnessedRefDb {
    /// Notes a transaction that was sealed, if its slot was empty before.
    async fn sealed(&self, txn: &TxnId, encoded: &Bytes, before: &SlotState) {
        if *before != SlotState::Empty {
            return;
        }
        match self.long_forms.read(encoded).await {
            Ok(transaction) => {
                self.watch.known().facts.encoded.insert(txn.clone(), encoded.clone());
                self.watch.sealed(&transaction);
            }
            // A late copy of the call sealed the slot again after it was collected, with the blob that it names.
            Err(_) if self.watch.known().facts.encoded.contains_key(txn) => {}
            Err(error) => self.watch.violated("slots", format!("{txn} is sealed and cannot be read: {error}")),
        }
    }
}

#[async_trait]
impl RefStore for WitnessedRefDb {
    fn write_items(&self) -> usize {
        self.inner.refs.write_items()
    }

    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        let answer = self.inner.refs.commit(request).await?;
        if answer == CommitAnswer::Committed {
            let id = request.transaction.id.clone();
            self.watch.known().facts.encoded.insert(id, request.encoded.clone());
            self.watch.committed(&request.transaction);
        }
        Ok(answer)
    }

    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        self.inner.refs.lock(part).await
    }

    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError> {
        let before = self.inner.journal.slot(&txn.slot).await?;
        let state = self.inner.refs.seal(txn, encoded).await?;
        self.sealed(txn, encoded, &before).await;
        Ok(state)
    }

    async fn seal_held(&self, txn: &TxnId, encoded: &Bytes, token: &str) -> Result<SlotState, RefDbError> {
        let before = self.inner.journal.slot(&txn.slot).await?;
        let state = self.inner.refs.seal_held(txn, encoded, token).await?;
        if state != SlotState::Empty {
            self.sealed(txn, encoded, &before).await;
        }
        Ok(state)
    }

    async fn flip(&self, part: &Part) -> Result<(), RefDbError> {
        self.inner.refs.flip(part).await
    }

    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError> {
        self.inner.refs.release(project, txn, keys).await
    }

    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
        self.inner.refs.read(project, keys).await
    }

    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError> {
        self.inner.refs.scan(project, after, limit).await
    }

    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
        self.inner.refs.projects(after, limit).await
    }
}

#[async_trait]
impl JournalStore for WitnessedRefDb {
    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        self.inner.journal.slot(slot).await
    }

    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        let state = self.inner.journal.poison(slot).await?;
        if state == SlotState::Poisoned {
            self.watch.poisoned(slot);
        }
        Ok(state)
    }

    async fn collect(&self, slots: &[Slot]) -> Result<(), RefDbError> {
        let nodes = self.inner.nodes.nodes().await?;
        let expelled: BTreeSet<NodeId> = nodes.into_iter().filter(|node| node.expelled).map(|node| node.node).collect();
        let mut committed = Vec::new();
        for slot in slots {
            if let SlotState::Committed(txn, _) = self.inner.journal.slot(slot).await? {
                committed.push(slot.clone());
                self.no_lock_names(&txn).await?;
            }
        }
        self.watch.collecting(&committed, &expelled);
        self.inner.journal.collect(slots).await
    }
}

#[async_trait]
impl Sites for WitnessedRefDb {
    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError> {
        let record = self.inner.sites.enroll_site(site, role).await?;
        self.watch.site(&record);
        Ok(record)
    }

    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError> {
        self.inner.sites.sites().await
    }

    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError> {
        let record = self.inner.sites.change_role(from, role).await?;
        self.watch.site(&record);
        Ok(record)
    }

    async fn change_site(
        &self,
        from: Option<&SiteRecord>,
        to: &SiteRecord,
        failover: u64,
    ) -> Result<SiteAnswer, RefDbError> {
        let answer = self.inner.sites.change_site(from, to, failover).await?;
        if answer == SiteAnswer::Changed {
            self.watch.site(to);
        }
        Ok(answer)
    }

    async fn begin_failover(
        &self,
        record: &DocumentRecord,
        sites: &[SiteRecord],
    ) -> Result<Option<DocumentRecord>, RefDbError> {
        self.inner.sites.begin_failover(record, sites).await
    }

    async fn shut_out_earlier(&self, site: &SiteId) -> Result<(), RefDbError> {
        self.inner.sites.shut_out_earlier(site).await
    }
}

#[async_trait]
impl Incarnations for WitnessedRefDb {
    async fn open_incarnation(&self, record: &IncarnationRecord) -> Result<OpenAnswer, RefDbError> {
        let answer = self.inner.incarnations.open_incarnation(record).await?;
        if answer == OpenAnswer::Opened {
            self.watch.opened(record);
        }
        Ok(answer)
    }

    async fn incarnations(&self, site: &SiteId) -> Result<Vec<IncarnationRecord>, RefDbError> {
        self.inner.incarnations.incarnations(site).await
    }

    async fn last_incarnation(&self, site: &SiteId, node: &NodeId) -> Result<u64, RefDbError> {
        self.inner.incarnations.last_incarnation(site, node).await
    }

    async fn mark(
        &self,
        site: &SiteId,
        id: &IncarnationId,
        settled: &[Seq],
        published: &[Seq],
    ) -> Result<MarkAnswer, RefDbError> {
        let answer = self.inner.incarnations.mark(site, id, settled, published).await?;
        if answer == MarkAnswer::Written {
            self.watch.marked(id, settled, published);
        }
        Ok(answer)
    }

    async fn touch(&self, site: &SiteId, id: &IncarnationId) -> Result<MarkAnswer, RefDbError> {
        self.inner.incarnations.touch(site, id).await
    }

    async fn freeze(&self, site: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError> {
        let record = self.inner.incarnations.freeze(site, id).await?;
        self.watch.frozen(&record);
        Ok(record)
    }

    async fn poisoned(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        self.inner.incarnations.poisoned(site, id).await?;
        self.watch.incarnation_poisoned(id);
        Ok(())
    }

    async fn raise_published(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        self.inner.incarnations.raise_published(site, id, published).await?;
        self.watch.raised(id, published);
        Ok(())
    }

    async fn drained(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        self.inner.incarnations.drained(site, id, published).await?;
        self.watch.drained(id, published);
        Ok(())
    }

    async fn forget_incarnations(&self, site: &SiteId, ids: &[IncarnationId]) -> Result<(), RefDbError> {
        self.inner.incarnations.forget_incarnations(site, ids).await?;
        self.watch.forgotten(ids);
        Ok(())
    }
}

#[async_trait]
impl Nodes for WitnessedRefDb {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError> {
        self.inner.nodes.nodes().await
    }

    async fn put_node(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError> {
        let answer = self.inner.nodes.put_node(record, previous).await?;
        if answer == NodeAnswer::Written {
            self.watch.node(record);
        }
        if record.expelled && answer == NodeAnswer::Written {
            self.watch.expelled(&record.node);
        }
        Ok(answer)
    }

    async fn digests(&self) -> Result<Vec<DigestRecord>, RefDbError> {
        self.inner.nodes.digests().await
    }

    async fn put_digest(&self, record: &DigestRecord) -> Result<(), RefDbError> {
        self.inner.nodes.put_digest(record).await
    }
}

#[async_trait]
impl Documents for WitnessedRefDb {
    async fn document(&self, which: Document) -> Result<Option<DocumentRecord>, RefDbError> {
        self.inner.documents.document(which).await
    }

    async fn put_document(&self, which: Document, record: &DocumentRecord) -> Result<DocumentRecord, RefDbError> {
        let stored = self.inner.documents.put_document(which, record).await?;
        if which == Document::Capacity && stored == *record {
            self.watch.capacity_stored(&stored.body);
        }
        Ok(stored)
    }

    async fn went_back(&self) -> Result<Option<WentBackRecord>, RefDbError> {
        self.inner.documents.went_back().await
    }

    async fn declare_went_back(&self, record: &WentBackRecord) -> Result<WentBackRecord, RefDbError> {
        let declared = self.inner.documents.declare_went_back(record).await?;
        self.watch.declared_went_back(&declared);
        Ok(declared)
    }
}
