//! The store of a simulated node: calls are delayed, paused, and watched. The store does not fail, because a node must
//! stop if its store fails, and the world already has crashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::seams::eventlog::Position;
use lockstep::seams::volume::{
    BlobsUnderWay, BoundTo, Changes, CommittedRequest, Debt, DigestAt, Held, Mailbox, MoveIntent, NodeStore, RefRecord,
    RefreshMark, Registered, RequestKey, ShardId, StoreError, VolumeFacts,
};
use lockstep_proto::refresh::Subject;
use lockstep_proto::{LaneId, Oid, ProjectKey, ProjectName, RefKey, Seq, TxnId};
use tokio_util::sync::CancellationToken;

use super::link::Link;
use super::watch::Watch;

/// A store whose every commit the watch checks.
pub struct WatchedStore {
    inner: Arc<dyn NodeStore>,
    link: Link,
    watch: Arc<Watch>,
    /// Ends with the process that writes.
    ended: CancellationToken,
}

impl WatchedStore {
    /// Puts `link` in front of `inner`, and tells `watch` about commits. Nothing is written once the process has ended.
    #[must_use]
    pub fn new(inner: Arc<dyn NodeStore>, link: Link, watch: Arc<Watch>, ended: CancellationToken) -> Self {
        Self { inner, link, watch, ended }
    }
}

#[async_trait]
impl NodeStore for WatchedStore {
    fn reference(&self, project: &ProjectKey, key: &RefKey) -> Result<Option<RefRecord>, StoreError> {
        self.inner.reference(project, key)
    }

    fn references(
        &self,
        project: &ProjectKey,
        after: Option<&RefKey>,
        limit: usize,
    ) -> Result<Vec<(RefKey, RefRecord)>, StoreError> {
        self.inner.references(project, after, limit)
    }

    fn digest(&self, project: &ProjectKey, keys: &[RefKey]) -> Result<DigestAt, StoreError> {
        self.inner.digest(project, keys)
    }

    async fn build_digests(&self, limit: usize) -> Result<bool, StoreError> {
        self.inner.build_digests(limit).await
    }

    fn projects(&self) -> Result<Vec<(ProjectName, RefRecord)>, StoreError> {
        self.inner.projects()
    }

    fn is_value(&self, project: &ProjectKey, oid: &Oid) -> Result<bool, StoreError> {
        self.inner.is_value(project, oid)
    }

    fn checkpoints(&self) -> Result<BTreeMap<ShardId, Position>, StoreError> {
        self.inner.checkpoints()
    }

    fn low_water(&self) -> Result<BTreeMap<LaneId, Seq>, StoreError> {
        self.inner.low_water()
    }

    fn parked(&self, after: Option<&str>, limit: usize) -> Result<Vec<(String, Held)>, StoreError> {
        self.inner.parked(after, limit)
    }

    fn held_counts(&self) -> Result<(u64, u64), StoreError> {
        self.inner.held_counts()
    }

    fn quarantined(&self) -> Result<BTreeMap<String, Held>, StoreError> {
        self.inner.quarantined()
    }

    fn debts(&self) -> Result<BTreeMap<ProjectName, Debt>, StoreError> {
        self.inner.debts()
    }

    fn refresh_marks(&self) -> Result<Vec<(Subject, RefreshMark)>, StoreError> {
        self.inner.refresh_marks()
    }

    fn mail(&self, mailbox: Mailbox, after: Option<u64>, limit: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.inner.mail(mailbox, after, limit)
    }

    fn letter(&self, mailbox: Mailbox, number: u64) -> Result<Option<Bytes>, StoreError> {
        self.inner.letter(mailbox, number)
    }

    fn received(&self) -> Result<BTreeMap<String, String>, StoreError> {
        self.inner.received()
    }

    fn received_blocks(&self) -> Result<BTreeMap<(String, u64), Bytes>, StoreError> {
        self.inner.received_blocks()
    }

    fn facts(&self) -> Result<VolumeFacts, StoreError> {
        self.inner.facts()
    }

    fn bound(&self) -> Result<BoundTo, StoreError> {
        self.inner.bound()
    }

    fn registered(&self) -> Result<Registered, StoreError> {
        self.inner.registered()
    }

    fn verified(&self) -> Result<Option<String>, StoreError> {
        self.inner.verified()
    }

    fn requests_gap(&self) -> Result<bool, StoreError> {
        self.inner.requests_gap()
    }

    fn request(&self, key: &RequestKey) -> Result<Option<CommittedRequest>, StoreError> {
        self.inner.request(key)
    }

    fn requests(
        &self,
        after: Option<&RequestKey>,
        limit: usize,
    ) -> Result<Vec<(RequestKey, CommittedRequest)>, StoreError> {
        self.inner.requests(after, limit)
    }

    fn record_intents(&self, moves: &[MoveIntent]) -> Result<u64, StoreError> {
        if self.link.faults().is_barred(self.link.node(), "record intents") {
            return Err(StoreError { op: "record intents", why: "simulated fault".into() });
        }
        self.inner.record_intents(moves)
    }

    fn intents(&self) -> Result<Vec<MoveIntent>, StoreError> {
        self.inner.intents()
    }

    fn end_intents(&self, until: u64) -> Result<(), StoreError> {
        self.inner.end_intents(until)
    }

    fn note_blob(&self, key: &str, txn: Option<&TxnId>) -> Result<(), StoreError> {
        self.inner.note_blob(key, txn)
    }

    fn end_blob(&self, key: &str) -> Result<(), StoreError> {
        self.inner.end_blob(key)
    }

    fn blobs_under_way(&self) -> Result<BlobsUnderWay, StoreError> {
        self.inner.blobs_under_way()
    }

    fn forget_blobs(&self) -> Result<(), StoreError> {
        self.inner.forget_blobs()
    }

    async fn commit(&self, changes: Changes) -> Result<(), StoreError> {
        let what = describe(&changes);
        let call = async {
            // A task that was due in the moment of a crash may run once more.
            if self.ended.is_cancelled() {
                std::future::pending::<()>().await;
            }
            self.watch.store_will_commit(self.link.node(), &changes);
            let (seen, owed) = (changes.clone(), self.inner.debts()?);
            self.watch.known().leaves_to_debts(self.link.node(), &seen, &owed);
            self.inner.commit(changes).await?;
            self.watch.store_committed(self.link.node(), &seen);
            Ok(())
        };
        self.link.local(what, call, None).await
    }
}

fn describe(changes: &Changes) -> String {
    let refs = changes.refs.iter().map(|(project, key, record)| format!(" {project} {key}@{}", record.version));
    let checkpoints = changes.checkpoints.iter().map(|(shard, at)| format!(" {}/{}:{at:?}", shard.site, shard.shard));
    let held = changes.park.iter().map(|(id, held)| format!(" park {id} ({})", held.reason));
    let freed = changes.unpark.iter().map(|id| format!(" unpark {id}"));
    let bad = changes.quarantine.iter().map(|(id, held)| format!(" quarantine {id} ({})", held.reason));
    let marks = changes.low_water.iter().map(|(lane, seq)| format!(" low {lane}<{seq}"));
    let due = changes.refresh.iter().map(|(subject, mark)| {
        format!(" refresh {subject}#{}{}", mark.generation, if mark.acknowledged { " done" } else { "" })
    });
    let done = changes.refreshed.iter().map(|subject| format!(" refreshed {subject}"));
    let gone = changes.forget_projects.iter().map(|project| format!(" forget {project}"));
    let posted = changes.post.iter().map(|(mailbox, number, _)| format!(" {mailbox:?} {number}"));
    let unposted = changes.unpost.iter().map(|(mailbox, number)| format!(" no {mailbox:?} {number}"));
    let marks = marks.chain(due).chain(done).chain(posted).chain(unposted);
    let parts: String = gone.chain(refs).chain(checkpoints).chain(held).chain(freed).chain(bad).chain(marks).collect();
    format!("commit{parts}")
}
