//! Sites, incarnations, nodes and the installation's Gerrit in memory.

use std::collections::BTreeMap;

use lockstep_proto::rebuild::KnownSite;
use lockstep_proto::{IncarnationId, NodeId, Seq, SiteId};

use crate::seams::refdb::rules;
use crate::seams::refdb::{
    DigestRecord, Document, DocumentRecord, GerritRecord, IncarnationRecord, IncarnationState, MarkAnswer, NodeAnswer,
    NodeRecord, OpenAnswer, RefDbError, Role, SiteAnswer, SiteRecord, WentBackRecord,
};

/// All records. `highest` outlives the incarnations that it counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    sites: BTreeMap<SiteId, SiteRecord>,
    incarnations: BTreeMap<(SiteId, IncarnationId), IncarnationRecord>,
    highest: BTreeMap<(SiteId, NodeId), u64>,
    nodes: BTreeMap<NodeId, NodeRecord>,
    gerrit: Option<GerritRecord>,
    instances: BTreeMap<String, NodeId>,
    went_back: Option<WentBackRecord>,
    documents: BTreeMap<Document, DocumentRecord>,
    digests: BTreeMap<NodeId, DigestRecord>,
}

impl Records {
    pub(super) fn enroll_site(&mut self, site: &SiteId, role: Role) -> SiteRecord {
        let new = || SiteRecord::new(site.clone(), role, 1);
        self.sites.entry(site.clone()).or_insert_with(new).clone()
    }

    /// Writes the record of a rebuild, unless the site has a higher epoch.
    pub(super) fn rebuild_site(&mut self, site: &KnownSite) {
        let new = SiteRecord::from(site);
        let stored = self.sites.entry(site.site.clone()).or_insert_with(|| new.clone());
        if stored.epoch <= new.epoch {
            *stored = new;
        }
    }

    /// Writes the document of a rebuild, unless there is one with a higher revision.
    pub(super) fn rebuild_document(&mut self, which: Document, record: &DocumentRecord) {
        if self.revision(which) <= record.revision {
            self.documents.insert(which, record.clone());
        }
    }

    pub(super) fn sites(&self) -> Vec<SiteRecord> {
        self.sites.values().cloned().collect()
    }

    pub(super) fn change_role(&mut self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError> {
        let stored = self.sites.get_mut(&from.site).ok_or_else(|| rules::no_site(&from.site))?;
        if stored.epoch == from.epoch {
            stored.role = role;
            stored.epoch += 1;
        }
        Ok(stored.clone())
    }

    pub(super) fn change_site(
        &mut self,
        from: Option<&SiteRecord>,
        to: &SiteRecord,
        failover: u64,
    ) -> Result<SiteAnswer, RefDbError> {
        match (self.sites.get(&to.site), from) {
            (None, Some(_)) => return Err(rules::no_site(&to.site)),
            (Some(stored), from) if from.is_none_or(|from| from.epoch != stored.epoch) => {
                return Ok(SiteAnswer::Differs(stored.clone()));
            }
            _ => {}
        }
        if self.revision(Document::Failover) != failover {
            return Ok(SiteAnswer::FailoverMoved);
        }
        self.sites.insert(to.site.clone(), to.clone());
        Ok(SiteAnswer::Changed)
    }

    pub(super) fn begin_failover(
        &mut self,
        record: &DocumentRecord,
        sites: &[SiteRecord],
    ) -> Result<Option<DocumentRecord>, RefDbError> {
        let is_as_seen = |seen: &SiteRecord| self.sites.get(&seen.site).is_some_and(|one| one.epoch == seen.epoch);
        if !sites.iter().all(is_as_seen) {
            return Ok(None);
        }
        self.put_document(Document::Failover, record).map(Some)
    }

    fn revision(&self, which: Document) -> u64 {
        self.documents.get(&which).map_or(0, |stored| stored.revision)
    }

    pub(super) fn open_incarnation(&mut self, record: &IncarnationRecord) -> Result<OpenAnswer, RefDbError> {
        rules::opened_well(record)?;
        let site = self.sites.get(&record.site).ok_or_else(|| rules::no_site(&record.site))?;
        if !rules::may_open(site, record) {
            return Ok(OpenAnswer::NotAllowed(site.clone()));
        }
        let identity = self.documents.get(&Document::Identity);
        if identity.is_some_and(|record| rules::closes(Document::Identity, record)) {
            return Err(rules::closed());
        }
        let highest = self.highest.entry((record.site.clone(), record.id.node.clone())).or_default();
        if record.id.number.0 <= *highest {
            return Ok(OpenAnswer::Exists);
        }
        *highest = record.id.number.0;
        self.incarnations.insert((record.site.clone(), record.id.clone()), record.clone());
        Ok(OpenAnswer::Opened)
    }

    pub(super) fn incarnations(&self, site: &SiteId) -> Vec<IncarnationRecord> {
        let of_site = self.incarnations.values().filter(|record| record.site == *site);
        of_site.cloned().collect()
    }

    pub(super) fn last_incarnation(&self, site: &SiteId, node: &NodeId) -> u64 {
        self.highest.get(&(site.clone(), node.clone())).copied().unwrap_or(0)
    }

    pub(super) fn mark(
        &mut self,
        site: &SiteId,
        id: &IncarnationId,
        settled: &[Seq],
        published: &[Seq],
    ) -> Result<MarkAnswer, RefDbError> {
        rules::raise_marks(self.record(site, id)?, settled, published)
    }

    pub(super) fn touch(&mut self, site: &SiteId, id: &IncarnationId) -> Result<MarkAnswer, RefDbError> {
        Ok(rules::touched(self.record(site, id)?))
    }

    pub(super) fn freeze(&mut self, site: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError> {
        let record = self.record(site, id)?;
        rules::freeze(record);
        Ok(record.clone())
    }

    pub(super) fn poisoned(&mut self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        rules::poison(self.record(site, id)?)
    }

    pub(super) fn raise_published(
        &mut self,
        site: &SiteId,
        id: &IncarnationId,
        published: &[Seq],
    ) -> Result<(), RefDbError> {
        rules::raise_published(self.record(site, id)?, published)
    }

    pub(super) fn drained(&mut self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        rules::drain(self.record(site, id)?, published)
    }

    fn record(&mut self, site: &SiteId, id: &IncarnationId) -> Result<&mut IncarnationRecord, RefDbError> {
        self.incarnations.get_mut(&(site.clone(), id.clone())).ok_or_else(|| rules::no_incarnation(site, id))
    }

    pub(super) fn nodes(&self) -> Vec<NodeRecord> {
        self.nodes.values().cloned().collect()
    }

    pub(super) fn put_node(
        &mut self,
        record: &NodeRecord,
        previous: Option<&NodeRecord>,
    ) -> Result<NodeAnswer, RefDbError> {
        match self.nodes.get(&record.node) {
            Some(stored) if !rules::same_node(stored, previous) => return Ok(NodeAnswer::Differs(stored.clone())),
            None if previous.is_some() => return Ok(NodeAnswer::Gone),
            Some(_) | None => {}
        }
        self.nodes.insert(record.node.clone(), record.clone());
        Ok(NodeAnswer::Written)
    }

    pub(super) fn document(&self, which: Document) -> Option<DocumentRecord> {
        self.documents.get(&which).cloned()
    }

    pub(super) fn put_document(
        &mut self,
        which: Document,
        record: &DocumentRecord,
    ) -> Result<DocumentRecord, RefDbError> {
        if record.revision == self.revision(which) + 1 {
            self.documents.insert(which, record.clone());
        }
        self.document(which).ok_or_else(|| rules::no_document(which, record.revision))
    }

    pub(super) fn digests(&self) -> Vec<DigestRecord> {
        self.digests.values().cloned().collect()
    }

    pub(super) fn put_digest(&mut self, record: &DigestRecord) -> Result<(), RefDbError> {
        rules::digest_fits(record)?;
        self.digests.insert(record.node.clone(), record.clone());
        Ok(())
    }

    pub(super) fn went_back(&self) -> Option<WentBackRecord> {
        self.went_back.clone()
    }

    pub(super) fn declare_went_back(&mut self, record: &WentBackRecord) -> WentBackRecord {
        self.went_back.get_or_insert_with(|| record.clone()).clone()
    }

    pub(super) fn forget(&mut self, site: &SiteId, ids: &[IncarnationId]) -> Result<(), RefDbError> {
        for id in ids {
            let key = (site.clone(), id.clone());
            match self.incarnations.get(&key).map(|record| record.state) {
                None => {}
                Some(IncarnationState::Drained) => drop(self.incarnations.remove(&key)),
                Some(_) => return Err(rules::not_drained(id)),
            }
        }
        Ok(())
    }

    pub(super) fn gerrit(&self) -> Option<GerritRecord> {
        self.gerrit.clone()
    }

    pub(super) fn enroll_gerrit(&mut self, record: &GerritRecord) -> Result<GerritRecord, RefDbError> {
        rules::named("server_id", &record.server_id)?;
        Ok(self.gerrit.get_or_insert_with(|| record.clone()).clone())
    }

    pub(super) fn instances(&self) -> BTreeMap<String, NodeId> {
        self.instances.clone()
    }

    pub(super) fn claim_instance(
        &mut self,
        instance: &str,
        node: &NodeId,
        from: Option<&NodeId>,
    ) -> Result<NodeId, RefDbError> {
        rules::named("instance_id", instance)?;
        let owner = self.instances.entry(instance.to_owned()).or_insert_with(|| node.clone());
        if Some(&*owner) == from {
            *owner = node.clone();
        }
        Ok(owner.clone())
    }

    pub(super) fn release_instance(&mut self, instance: &str, node: &NodeId) {
        if self.instances.get(instance) == Some(node) {
            self.instances.remove(instance);
        }
    }
}
