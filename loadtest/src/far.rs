//! A simulated distance to AWS: half of a round trip passes before each call, and the other half after it.
//!
//! Timers of tokio end up to a millisecond late. The second half is shortened by the delay of the first half.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::seams::eventlog::{Batch, EventLog, EventLogError, Position, Record, ShardReader, StreamInfo};
use lockstep::seams::refdb::{
    CommitAnswer, CommitRequest, DigestRecord, Document, DocumentRecord, Documents, GerritIdentity, GerritRecord,
    IncarnationRecord, Incarnations, JournalStore, MarkAnswer, NodeAnswer, NodeRecord, Nodes, OpenAnswer, Part,
    RebuildAnswer, Rebuilt, RefDb, RefDbError, RefItem, RefStore, Role, Setup, SiteAnswer, SiteRecord, Sites,
    SlotState, WentBackRecord,
};
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, Seq, SiteId, Slot, TxnId};
use tokio::time::{Instant, sleep, sleep_until};

/// A seam that is a round trip away.
#[derive(Clone)]
pub struct Far<T: ?Sized> {
    near: Arc<T>,
    round_trip: Duration,
}

impl<T: ?Sized> Far<T> {
    /// Puts a round trip in front of `near`.
    pub fn new(near: Arc<T>, round_trip: Duration) -> Self {
        Self { near, round_trip }
    }
}

/// A refdb that is a round trip away.
pub fn far_refdb(near: &RefDb, round_trip: Duration) -> RefDb {
    RefDb {
        refs: Arc::new(Far::new(Arc::clone(&near.refs), round_trip)),
        journal: Arc::new(Far::new(Arc::clone(&near.journal), round_trip)),
        sites: Arc::new(Far::new(Arc::clone(&near.sites), round_trip)),
        incarnations: Arc::new(Far::new(Arc::clone(&near.incarnations), round_trip)),
        nodes: Arc::new(Far::new(Arc::clone(&near.nodes), round_trip)),
        documents: Arc::new(Far::new(Arc::clone(&near.documents), round_trip)),
        gerrit: Arc::new(Far::new(Arc::clone(&near.gerrit), round_trip)),
        setup: Arc::new(Far::new(Arc::clone(&near.setup), round_trip)),
    }
}

/// Makes a call that is a round trip away.
pub async fn travel<T>(round_trip: Duration, call: impl Future<Output = T>) -> T {
    let start = Instant::now();
    sleep(round_trip / 2).await;
    let arrived = Instant::now();
    let answer = call.await;
    sleep_until(start + round_trip + arrived.elapsed()).await;
    answer
}

/// Implements a seam for [`Far`]: first the methods without a call, then one call per line, with its name, arguments
/// and answer.
macro_rules! far {
    ($seam:ident, $error:ident: $($calls:tt)*) => {
        far!($seam, $error, {} $($calls)*);
    };
    ($seam:ident, $error:ident, { $($near:tt)* } $($name:ident($($arg:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl $seam for Far<dyn $seam> {
            $($near)*

            $(async fn $name(&self, $($arg: $kind),*) -> Result<$answer, $error> {
                travel(self.round_trip, self.near.$name($($arg),*)).await
            })*
        }
    };
}

far!(RefStore, RefDbError, {
        fn write_items(&self) -> usize {
            self.near.write_items()
        }
    }
    commit(request: &CommitRequest) -> CommitAnswer;
    lock(part: &Part) -> CommitAnswer;
    seal(txn: &TxnId, encoded: &Bytes) -> SlotState;
    seal_held(txn: &TxnId, encoded: &Bytes, token: &str) -> SlotState;
    flip(part: &Part) -> ();
    release(project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> ();
    read(project: &ProjectKey, keys: &[RefKey]) -> Vec<Option<RefItem>>;
    scan(project: &ProjectKey, after: Option<&RefKey>, limit: usize) -> Vec<RefItem>;
    projects(after: Option<&ProjectName>, limit: usize) -> Vec<(ProjectName, RefItem)>;
);

far!(JournalStore, RefDbError:
    slot(slot: &Slot) -> SlotState;
    poison(slot: &Slot) -> SlotState;
    collect(slots: &[Slot]) -> ();
);

far!(Setup, RefDbError:
    prepare(may_create: bool) -> ();
    rebuild(items: &[Rebuilt], revision: u64) -> RebuildAnswer;
);

far!(Sites, RefDbError:
    enroll_site(site: &SiteId, role: Role) -> SiteRecord;
    sites() -> Vec<SiteRecord>;
    change_role(from: &SiteRecord, role: Role) -> SiteRecord;
    change_site(from: Option<&SiteRecord>, to: &SiteRecord, failover: u64) -> SiteAnswer;
    begin_failover(record: &DocumentRecord, sites: &[SiteRecord]) -> Option<DocumentRecord>;
    shut_out_earlier(site: &SiteId) -> ();
);

far!(Incarnations, RefDbError:
    open_incarnation(record: &IncarnationRecord) -> OpenAnswer;
    incarnations(site: &SiteId) -> Vec<IncarnationRecord>;
    last_incarnation(site: &SiteId, node: &NodeId) -> u64;
    mark(site: &SiteId, id: &IncarnationId, settled: &[Seq], published: &[Seq]) -> MarkAnswer;
    touch(site: &SiteId, id: &IncarnationId) -> MarkAnswer;
    freeze(site: &SiteId, id: &IncarnationId) -> IncarnationRecord;
    poisoned(site: &SiteId, id: &IncarnationId) -> ();
    raise_published(site: &SiteId, id: &IncarnationId, published: &[Seq]) -> ();
    drained(site: &SiteId, id: &IncarnationId, published: &[Seq]) -> ();
    forget_incarnations(site: &SiteId, ids: &[IncarnationId]) -> ();
);

far!(Nodes, RefDbError:
    nodes() -> Vec<NodeRecord>;
    put_node(record: &NodeRecord, previous: Option<&NodeRecord>) -> NodeAnswer;
    digests() -> Vec<DigestRecord>;
    put_digest(record: &DigestRecord) -> ();
);

far!(Documents, RefDbError:
    document(which: Document) -> Option<DocumentRecord>;
    put_document(which: Document, record: &DocumentRecord) -> DocumentRecord;
    went_back() -> Option<WentBackRecord>;
    declare_went_back(record: &WentBackRecord) -> WentBackRecord;
);

far!(GerritIdentity, RefDbError:
    gerrit() -> Option<GerritRecord>;
    enroll_gerrit(record: &GerritRecord) -> GerritRecord;
    instances() -> BTreeMap<String, NodeId>;
    claim_instance(instance: &str, node: &NodeId, from: Option<&NodeId>) -> NodeId;
    release_instance(instance: &str, node: &NodeId) -> ();
);

#[async_trait]
impl EventLog for Far<dyn EventLog> {
    async fn ensure(&self, site: &SiteId) -> Result<(), EventLogError> {
        travel(self.round_trip, self.near.ensure(site)).await
    }

    async fn describe(&self, site: &SiteId) -> Result<StreamInfo, EventLogError> {
        travel(self.round_trip, self.near.describe(site)).await
    }

    async fn append(&self, site: &SiteId, records: &[Record]) -> Result<Vec<Result<(), EventLogError>>, EventLogError> {
        travel(self.round_trip, self.near.append(site, records)).await
    }

    async fn open(&self, site: &SiteId, shard: &str, from: &Position) -> Result<Box<dyn ShardReader>, EventLogError> {
        let near = travel(self.round_trip, self.near.open(site, shard, from)).await?;
        Ok(Box::new(FarReader { near, round_trip: self.round_trip }))
    }

    async fn open_since(&self, site: &SiteId, shard: &str, ms: u64) -> Result<Box<dyn ShardReader>, EventLogError> {
        let near = travel(self.round_trip, self.near.open_since(site, shard, ms)).await?;
        Ok(Box::new(FarReader { near, round_trip: self.round_trip }))
    }
}

struct FarReader {
    near: Box<dyn ShardReader>,
    round_trip: Duration,
}

#[async_trait]
impl ShardReader for FarReader {
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        travel(self.round_trip, self.near.next(limit)).await
    }
}
