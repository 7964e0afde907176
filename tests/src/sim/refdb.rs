//! The refdb of a simulated node: every call passes through the fault plan.

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::seams::refdb::memory::MemoryTables;
use lockstep::seams::refdb::{
    CommitAnswer, CommitRequest, DigestRecord, Document, DocumentRecord, Documents, GerritIdentity, GerritRecord,
    IncarnationRecord, Incarnations, JournalStore, MarkAnswer, NodeAnswer, NodeRecord, Nodes, OpenAnswer, Part,
    RebuildAnswer, Rebuilt, RefDb, RefDbError, RefItem, RefStore, Role, Setup, SiteAnswer, SiteRecord, Sites,
    SlotState, Tables, WentBackRecord,
};
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, Seq, SiteId, Slot, TxnId};
use std::collections::BTreeMap;

use super::faults::{Kind, NetworkError, Seam};
use super::link::Link;

impl NetworkError for RefDbError {
    fn not_now() -> Self {
        Self::NotNow("simulated throttling".into())
    }

    fn unknown() -> Self {
        Self::Unknown("simulated silence".into())
    }
}

/// A refdb behind faults.
pub struct FaultyRefDb {
    inner: RefDb,
    link: Link,
}

impl FaultyRefDb {
    /// Puts `link` in front of `inner`.
    #[must_use]
    pub fn new(inner: RefDb, link: Link) -> Self {
        Self { inner, link }
    }
}

/// The tables of a rebuild, behind faults.
pub struct FaultyTables {
    tables: MemoryTables,
    link: Link,
}

impl FaultyTables {
    /// Puts `link` in front of the refdbs that are opened.
    #[must_use]
    pub fn new(tables: MemoryTables, link: Link) -> Self {
        Self { tables, link }
    }
}

impl Tables for FaultyTables {
    fn current(&self) -> String {
        self.tables.current()
    }

    fn open(&self, prefix: &str) -> RefDb {
        RefDb::of(&std::sync::Arc::new(FaultyRefDb::new(self.tables.open(prefix), self.link.clone())))
    }
}

/// Sends `$op` with owned arguments through the link. `$pass` is how each argument is passed to the seam.
macro_rules! send {
    ($self:ident, $kind:ident, $part:ident.$op:ident, $what:expr, [$($arg:ident = $own:expr),*], ($($pass:expr),*)) => {
        send!($self, $kind, $part.$op, $what, [$($arg = $own),*], ($($pass),*), None)
    };
    (
        $self:ident, $kind:ident, $part:ident.$op:ident, $what:expr,
        [$($arg:ident = $own:expr),*], ($($pass:expr),*), $conflict:expr
    ) => {{
        let inner = $self.inner.clone();
        $(let $arg = $own;)*
        let what = format!("{} {}", stringify!($op), $what);
        let call = move || {
            let inner = inner.clone();
            $(let $arg = $arg.clone();)*
            async move { inner.$part.$op($($pass),*).await }
        };
        $self.link.remote(Kind::$kind, what, $conflict, call).await
    }};
}

#[async_trait]
impl RefStore for FaultyRefDb {
    fn write_items(&self) -> usize {
        self.inner.refs.write_items()
    }

    async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
        let what = commit_text(request);
        send!(self, Commit, refs.commit, what, [request = request.clone()], (&request), Some(CommitAnswer::Conflict))
    }

    async fn lock(&self, part: &Part) -> Result<CommitAnswer, RefDbError> {
        let what = format!("{} {:?} {:?}", part.txn, keys(part), part.directories);
        send!(self, Commit, refs.lock, what, [part = part.clone()], (&part), Some(CommitAnswer::Conflict))
    }

    async fn seal(&self, txn: &TxnId, encoded: &Bytes) -> Result<SlotState, RefDbError> {
        send!(self, Commit, refs.seal, txn, [txn = txn.clone(), encoded = encoded.clone()], (&txn, &encoded))
    }

    async fn seal_held(&self, txn: &TxnId, encoded: &Bytes, token: &str) -> Result<SlotState, RefDbError> {
        send!(
            self,
            Commit,
            refs.seal_held,
            txn,
            [txn = txn.clone(), encoded = encoded.clone(), token = token.to_owned()],
            (&txn, &encoded, &token)
        )
    }

    async fn flip(&self, part: &Part) -> Result<(), RefDbError> {
        let what = format!("{} {:?}", part.txn, keys(part));
        send!(self, Write, refs.flip, what, [part = part.clone()], (&part))
    }

    async fn release(&self, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Result<(), RefDbError> {
        let what = format!("{txn} {keys:?}");
        send!(
            self,
            Write,
            refs.release,
            what,
            [project = project.clone(), txn = txn.clone(), keys = keys.to_vec()],
            (&project, &txn, &keys)
        )
    }

    async fn read(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<Vec<Option<RefItem>>, RefDbError> {
        let what = format!("{project} {keys:?}");
        send!(self, Read, refs.read, what, [project = project.clone(), keys = keys.to_vec()], (&project, &keys))
    }

    async fn scan(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<RefItem>, RefDbError> {
        let what = format!("{project} after {after:?}");
        send!(
            self,
            Read,
            refs.scan,
            what,
            [project = project.clone(), after = after.cloned()],
            (&project, after.as_ref(), limit)
        )
    }

    async fn projects(
        &self,
        after: Option<&ProjectName>,
        limit: usize,
    ) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
        let what = format!("after {after:?}");
        send!(self, Read, refs.projects, what, [after = after.cloned()], (after.as_ref(), limit))
    }
}

#[async_trait]
impl JournalStore for FaultyRefDb {
    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        send!(self, Read, journal.slot, slot, [slot = slot.clone()], (&slot))
    }

    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        send!(self, Write, journal.poison, slot, [slot = slot.clone()], (&slot))
    }

    async fn collect(&self, slots: &[Slot]) -> Result<(), RefDbError> {
        let what = format!("{} slots", slots.len());
        let (rates, dice) = (self.link.faults().rates(Seam::RefDb), self.link.faults().dice());
        if rates.part > 0 && slots.len() > 1 && dice.chance(rates.part) {
            let some: Vec<Slot> = slots.iter().filter(|_| dice.chance(500)).cloned().collect();
            let what = format!("{what}, of which {} are removed", some.len());
            let removed: Result<(), RefDbError> = send!(self, Write, journal.collect, what, [slots = some], (&slots));
            return removed.and(Err(RefDbError::not_now()));
        }
        send!(self, Write, journal.collect, what, [slots = slots.to_vec()], (&slots))
    }
}

#[async_trait]
impl Setup for FaultyRefDb {
    async fn rebuild(&self, items: &[Rebuilt], revision: u64) -> Result<RebuildAnswer, RefDbError> {
        let what = format!("{} items at {revision}", items.len());
        send!(self, Write, setup.rebuild, what, [items = items.to_vec()], (&items, revision))
    }
}

#[async_trait]
impl Sites for FaultyRefDb {
    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError> {
        send!(self, Write, sites.enroll_site, site, [site = site.clone()], (&site, role))
    }

    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError> {
        send!(self, Read, sites.sites, "", [], ())
    }

    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError> {
        let what = format!("{} to {role:?}", from.site);
        send!(self, Write, sites.change_role, what, [from = from.clone()], (&from, role))
    }

    async fn change_site(
        &self,
        from: Option<&SiteRecord>,
        to: &SiteRecord,
        failover: u64,
    ) -> Result<SiteAnswer, RefDbError> {
        let what = format!("{} to {:?}, removed {}", to.site, to.role, to.removed);
        send!(
            self,
            Write,
            sites.change_site,
            what,
            [from = from.cloned(), to = to.clone()],
            (from.as_ref(), &to, failover)
        )
    }

    async fn begin_failover(
        &self,
        record: &DocumentRecord,
        sites: &[SiteRecord],
    ) -> Result<Option<DocumentRecord>, RefDbError> {
        send!(
            self,
            Write,
            sites.begin_failover,
            record.body,
            [record = record.clone(), sites = sites.to_vec()],
            (&record, &sites)
        )
    }

    async fn shut_out_earlier(&self, site: &SiteId) -> Result<(), RefDbError> {
        send!(self, Write, sites.shut_out_earlier, site, [site = site.clone()], (&site))
    }
}

#[async_trait]
impl Incarnations for FaultyRefDb {
    async fn open_incarnation(&self, record: &IncarnationRecord) -> Result<OpenAnswer, RefDbError> {
        send!(self, Write, incarnations.open_incarnation, record.id, [record = record.clone()], (&record))
    }

    async fn incarnations(&self, site: &SiteId) -> Result<Vec<IncarnationRecord>, RefDbError> {
        send!(self, Read, incarnations.incarnations, site, [site = site.clone()], (&site))
    }

    async fn last_incarnation(&self, site: &SiteId, node: &NodeId) -> Result<u64, RefDbError> {
        send!(
            self,
            Read,
            incarnations.last_incarnation,
            node,
            [site = site.clone(), node = node.clone()],
            (&site, &node)
        )
    }

    async fn mark(
        &self,
        site: &SiteId,
        id: &IncarnationId,
        settled: &[Seq],
        published: &[Seq],
    ) -> Result<MarkAnswer, RefDbError> {
        let what = format!("{id} settled {settled:?} published {published:?}");
        send!(
            self,
            Write,
            incarnations.mark,
            what,
            [site = site.clone(), id = id.clone(), settled = settled.to_vec(), published = published.to_vec()],
            (&site, &id, &settled, &published)
        )
    }

    async fn touch(&self, site: &SiteId, id: &IncarnationId) -> Result<MarkAnswer, RefDbError> {
        send!(self, Write, incarnations.touch, id, [site = site.clone(), id = id.clone()], (&site, &id))
    }

    async fn freeze(&self, site: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError> {
        send!(self, Write, incarnations.freeze, id, [site = site.clone(), id = id.clone()], (&site, &id))
    }

    async fn poisoned(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        send!(self, Write, incarnations.poisoned, id, [site = site.clone(), id = id.clone()], (&site, &id))
    }

    async fn raise_published(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        let what = format!("{id} published {published:?}");
        send!(
            self,
            Write,
            incarnations.raise_published,
            what,
            [site = site.clone(), id = id.clone(), published = published.to_vec()],
            (&site, &id, &published)
        )
    }

    async fn drained(&self, site: &SiteId, id: &IncarnationId, published: &[Seq]) -> Result<(), RefDbError> {
        let what = format!("{id} published {published:?}");
        send!(
            self,
            Write,
            incarnations.drained,
            what,
            [site = site.clone(), id = id.clone(), published = published.to_vec()],
            (&site, &id, &published)
        )
    }

    async fn forget_incarnations(&self, site: &SiteId, ids: &[IncarnationId]) -> Result<(), RefDbError> {
        let what = format!("{ids:?}");
        send!(
            self,
            Write,
            incarnations.forget_incarnations,
            what,
            [site = site.clone(), ids = ids.to_vec()],
            (&site, &ids)
        )
    }
}

#[async_trait]
impl Nodes for FaultyRefDb {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError> {
        send!(self, Read, nodes.nodes, "", [], ())
    }

    async fn put_node(&self, record: &NodeRecord, previous: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError> {
        let what = format!("{} beat {}", record.node, record.beat);
        send!(
            self,
            Write,
            nodes.put_node,
            what,
            [record = record.clone(), previous = previous.cloned()],
            (&record, previous.as_ref())
        )
    }

    async fn digests(&self) -> Result<Vec<DigestRecord>, RefDbError> {
        send!(self, Read, nodes.digests, "", [], ())
    }

    async fn put_digest(&self, record: &DigestRecord) -> Result<(), RefDbError> {
        send!(self, Write, nodes.put_digest, record.body, [record = record.clone()], (&record))
    }
}

#[async_trait]
impl Documents for FaultyRefDb {
    async fn document(&self, which: Document) -> Result<Option<DocumentRecord>, RefDbError> {
        send!(self, Read, documents.document, format!("{which:?}"), [], (which))
    }

    async fn put_document(&self, which: Document, record: &DocumentRecord) -> Result<DocumentRecord, RefDbError> {
        let what = format!("{which:?} {}", record.body);
        let answer = send!(self, Write, documents.put_document, what, [record = record.clone()], (which, &record));
        if which == Document::Failover
            && answer.as_ref().is_ok_and(|stored| stored == record)
            && let Ok(failover) = serde_json::from_str(&record.body)
        {
            self.link.faults().wrote(self.link.node(), &failover);
        }
        answer
    }

    async fn went_back(&self) -> Result<Option<WentBackRecord>, RefDbError> {
        send!(self, Read, documents.went_back, "", [], ())
    }

    async fn declare_went_back(&self, record: &WentBackRecord) -> Result<WentBackRecord, RefDbError> {
        send!(self, Write, documents.declare_went_back, record.why, [record = record.clone()], (&record))
    }
}

#[async_trait]
impl GerritIdentity for FaultyRefDb {
    async fn gerrit(&self) -> Result<Option<GerritRecord>, RefDbError> {
        send!(self, Read, gerrit.gerrit, "", [], ())
    }

    async fn enroll_gerrit(&self, record: &GerritRecord) -> Result<GerritRecord, RefDbError> {
        send!(self, Write, gerrit.enroll_gerrit, record.server_id, [record = record.clone()], (&record))
    }

    async fn instances(&self) -> Result<BTreeMap<String, NodeId>, RefDbError> {
        send!(self, Read, gerrit.instances, "", [], ())
    }

    async fn claim_instance(&self, instance: &str, node: &NodeId, from: Option<&NodeId>) -> Result<NodeId, RefDbError> {
        let what = format!("{instance} for {node}");
        send!(
            self,
            Write,
            gerrit.claim_instance,
            what,
            [instance = instance.to_owned(), node = node.clone(), from = from.cloned()],
            (&instance, &node, from.as_ref())
        )
    }

    async fn release_instance(&self, instance: &str, node: &NodeId) -> Result<(), RefDbError> {
        let what = format!("{instance} of {node}");
        send!(
            self,
            Write,
            gerrit.release_instance,
            what,
            [instance = instance.to_owned(), node = node.clone()],
            (&instance, &node)
        )
    }
}

fn keys(part: &Part) -> Vec<&RefKey> {
    part.commands.iter().map(|command| &command.key).collect()
}

fn commit_text(request: &CommitRequest) -> String {
    let transaction = &request.transaction;
    let steps = transaction.commands.iter().map(|c| format!(" {}@{} {}>{}", c.key, c.version, c.old, c.new));
    format!("{} {}{}", transaction.id, transaction.project, steps.collect::<String>())
}
