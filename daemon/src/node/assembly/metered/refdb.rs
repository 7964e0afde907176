//! A decorator of the refdb that measures each call.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, Seq, SiteId, Slot, TxnId};
use tokio::time::Instant;

use crate::seams::refdb::{
    CommitAnswer, CommitRequest, DigestRecord, Document, DocumentRecord, Documents, GerritIdentity, GerritRecord,
    IncarnationRecord, Incarnations, JournalStore, MarkAnswer, NodeAnswer, NodeRecord, Nodes, OpenAnswer, Part,
    RebuildAnswer, Rebuilt, RefDb, RefDbError, RefItem, RefStore, Role, Setup, SiteAnswer, SiteRecord, Sites,
    SlotState, WentBackRecord,
};
use crate::telemetry::metrics::{CallEnd, RefDbMetrics, RefDbOp};

/// The refdb with every call measured.
#[must_use]
pub fn metered(refdb: &RefDb, metrics: &RefDbMetrics) -> RefDb {
    RefDb {
        refs: Arc::new(Metered { inner: Arc::clone(&refdb.refs), metrics: metrics.clone() }),
        journal: Arc::new(Metered { inner: Arc::clone(&refdb.journal), metrics: metrics.clone() }),
        sites: Arc::new(Metered { inner: Arc::clone(&refdb.sites), metrics: metrics.clone() }),
        incarnations: Arc::new(Metered { inner: Arc::clone(&refdb.incarnations), metrics: metrics.clone() }),
        nodes: Arc::new(Metered { inner: Arc::clone(&refdb.nodes), metrics: metrics.clone() }),
        documents: Arc::new(Metered { inner: Arc::clone(&refdb.documents), metrics: metrics.clone() }),
        gerrit: Arc::new(Metered { inner: Arc::clone(&refdb.gerrit), metrics: metrics.clone() }),
        setup: Arc::new(Metered { inner: Arc::clone(&refdb.setup), metrics: metrics.clone() }),
    }
}

/// A part of the refdb whose calls are measured.
struct Metered<T: ?Sized> {
    inner: Arc<T>,
    metrics: RefDbMetrics,
}

impl<T: ?Sized> Metered<T> {
    fn note<A>(&self, op: RefDbOp, answer: &Result<A, RefDbError>, conflict: bool, started: Instant) {
        let end = match answer {
            Ok(_) if conflict => CallEnd::Conflict,
            Ok(_) => CallEnd::Answered,
            Err(RefDbError::NotNow(_)) => CallEnd::NotNow,
            Err(RefDbError::Unknown(_)) => CallEnd::Unknown,
            Err(RefDbError::Broken(_)) => CallEnd::Broken,
        };
        self.metrics.called(op, end, started.elapsed().as_secs_f64());
    }
}

/// Implements a part: first calls that are written out, then one line per call with the operation under which it is
/// counted.
macro_rules! measured {
    ($part:ident { $($written:tt)* }
        $($op:ident: $call:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $part for Metered<dyn $part> {
            $($written)*

            $(async fn $call(&self, $($argument: $type),*) -> Result<$answer, RefDbError> {
                let started = Instant::now();
                let answer = self.inner.$call($($argument),*).await;
                self.note(RefDbOp::$op, &answer, false, started);
                answer
            })*
        }
    };
}

measured! { RefStore {
        fn write_items(&self) -> usize {
            self.inner.write_items()
        }

        // A conflict is a result of its own.
        async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, RefDbError> {
            let started = Instant::now();
            let answer = self.inner.commit(request).await;
            self.note(RefDbOp::Commit, &answer, answer == Ok(CommitAnswer::Conflict), started);
            answer
        }
    }
    Lock: lock(part: &Part) -> CommitAnswer;
    Commit: seal(txn: &TxnId, encoded: &Bytes) -> SlotState;
    Commit: seal_held(txn: &TxnId, encoded: &Bytes, token: &str) -> SlotState;
    Lock: flip(part: &Part) -> ();
    Lock: release(project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> ();
    Read: read(project: &ProjectKey, keys: &[RefKey]) -> Vec<Option<RefItem>>;
    Scan: scan(project: &ProjectKey, after: Option<&RefKey>, limit: usize) -> Vec<RefItem>;
    Scan: projects(after: Option<&ProjectName>, limit: usize) -> Vec<(ProjectName, RefItem)>;
}

measured! { JournalStore {}
    Slot: slot(slot: &Slot) -> SlotState;
    Poison: poison(slot: &Slot) -> SlotState;
    Collect: collect(slots: &[Slot]) -> ();
}

measured! { Setup {}
    Site: prepare(may_create: bool) -> ();
    Site: rebuild(items: &[Rebuilt], revision: u64) -> RebuildAnswer;
}

measured! { Sites {
        fn is_in_several_regions(&self) -> bool {
            self.inner.is_in_several_regions()
        }
    }
    Site: enroll_site(site: &SiteId, role: Role) -> SiteRecord;
    Site: sites() -> Vec<SiteRecord>;
    Site: change_role(from: &SiteRecord, role: Role) -> SiteRecord;
    Site: change_site(from: Option<&SiteRecord>, to: &SiteRecord, failover: u64) -> SiteAnswer;
    Site: begin_failover(record: &DocumentRecord, sites: &[SiteRecord]) -> Option<DocumentRecord>;
    Site: shut_out_earlier(site: &SiteId) -> ();
}

measured! { Incarnations {}
    Incarnation: open_incarnation(record: &IncarnationRecord) -> OpenAnswer;
    Incarnation: incarnations(site: &SiteId) -> Vec<IncarnationRecord>;
    Incarnation: last_incarnation(site: &SiteId, node: &NodeId) -> u64;
    Mark: mark(site: &SiteId, id: &IncarnationId, settled: &[Seq], published: &[Seq]) -> MarkAnswer;
    Mark: touch(site: &SiteId, id: &IncarnationId) -> MarkAnswer;
    Incarnation: freeze(site: &SiteId, id: &IncarnationId) -> IncarnationRecord;
    Incarnation: poisoned(site: &SiteId, id: &IncarnationId) -> ();
    Mark: raise_published(site: &SiteId, id: &IncarnationId, published: &[Seq]) -> ();
    Incarnation: drained(site: &SiteId, id: &IncarnationId, published: &[Seq]) -> ();
    Incarnation: forget_incarnations(site: &SiteId, ids: &[IncarnationId]) -> ();
}

measured! { Nodes {}
    Node: nodes() -> Vec<NodeRecord>;
    Node: put_node(record: &NodeRecord, previous: Option<&NodeRecord>) -> NodeAnswer;
    Node: digests() -> Vec<DigestRecord>;
    Node: put_digest(record: &DigestRecord) -> ();
}

measured! { Documents {}
    Site: document(which: Document) -> Option<DocumentRecord>;
    Site: put_document(which: Document, record: &DocumentRecord) -> DocumentRecord;
    Site: went_back() -> Option<WentBackRecord>;
    Site: declare_went_back(record: &WentBackRecord) -> WentBackRecord;
}

measured! { GerritIdentity {}
    Site: gerrit() -> Option<GerritRecord>;
    Site: enroll_gerrit(record: &GerritRecord) -> GerritRecord;
    Node: instances() -> BTreeMap<String, NodeId>;
    Node: claim_instance(instance: &str, node: &NodeId, from: Option<&NodeId>) -> NodeId;
    Node: release_instance(instance: &str, node: &NodeId) -> ();
}
