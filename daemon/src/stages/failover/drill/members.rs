//! The two nodes of a canary: the source commits and is stopped, the target applies and takes over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::{FailoverKind, FailoverStep, ProbeResult, Role, VerifiedAt};
use lockstep_proto::{Lane, Seq, SiteId, TxnId};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::canary::Canary;
use super::world::WINDOW;
use crate::base::clock::Entropy;
use crate::seams::refdb::{IncarnationRecord, MarkAnswer, RefDbError, SlotState};
use crate::stages::ports::{Comparison, ComparisonError, Fencing, Probes};

/// The pause between two looks of a node of the canary, and between two commits.
const PACE: Duration = Duration::from_millis(100);
/// The most commits of the source, so that the document stays small.
const MOST_COMMITS: u64 = 48;

/// The node of the canary at the source. It commits, as users push, until it may not any more. In a planned failover it
/// ends its incarnation when its site is stopped. In a forced one it does not notice, and goes on.
pub(super) struct Source {
    pub(super) canary: Canary,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) fencing: Arc<dyn Fencing>,
    pub(super) acknowledged: Arc<Mutex<BTreeSet<TxnId>>>,
}

/// The incarnation of the source: the next slot, and the stored settled mark. Like every node, it uses no slot above
/// its window.
struct Open {
    own: IncarnationRecord,
    next: u64,
    settled: u64,
}

impl Source {
    /// Runs until it is dropped. A call that fails is tried again at the next look.
    pub(super) async fn run(self) {
        let mut open: Option<Open> = None;
        loop {
            if let Err(error) = self.look(&mut open).await {
                tracing::debug!(%error, "the source of the drill tries again");
            }
            sleep(PACE).await;
        }
    }

    async fn look(&self, open: &mut Option<Open>) -> Result<(), RefDbError> {
        let (record, world) = self.canary.world().await?;
        let from = &record.request.from;
        let Some(Open { own, next, settled }) = open else {
            *open = self.canary.open(from).await?.map(|own| Open { own, next: 0, settled: 0 });
            return Ok(());
        };
        let is_active = world.site(from).is_some_and(|site| site.role == Role::Active && site.epoch == own.epoch);
        if !is_active && record.request.kind == FailoverKind::Planned {
            return self.fencing.fence(from, &own.id).await;
        }
        if *next >= MOST_COMMITS || *next >= *settled + WINDOW {
            return Ok(());
        }
        let slot = own.id.lane(Lane(0)).slot(Seq(*next));
        let txn = TxnId { slot: slot.clone(), attempt: self.entropy.next() };
        // After a lost answer, the same slot is tried again. It may hold the first transaction: nobody was told of it.
        if self.canary.commit(&slot, &txn).await? {
            self.acknowledged.lock().insert(txn);
        }
        *next += 1;
        let refdb = self.canary.refdb();
        if refdb.incarnations.mark(from, &own.id, &[Seq(*next)], &[Seq(*next)]).await? == MarkAnswer::Written {
            *settled = *next;
        }
        Ok(())
    }
}

/// The node of the canary at the target. It applies the slots of the source in order, and opens an incarnation when its
/// site is active.
pub(super) struct Target {
    pub(super) canary: Canary,
    pub(super) applied: Arc<Mutex<BTreeSet<TxnId>>>,
}

impl Target {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "the target of the drill tries again");
            }
            sleep(PACE).await;
        }
    }

    async fn look(&self) -> Result<(), RefDbError> {
        let (record, world) = self.canary.world().await?;
        let mut found = Vec::new();
        let mut next = 0;
        for one in world.incarnations(&record.request.from) {
            while let Some(content) = world.slot(&one.id.lane(Lane(0)).slot(Seq(next))) {
                found.extend(content);
                next += 1;
            }
        }
        let noted = self.canary.applied(next).await;
        if noted.is_ok() {
            self.applied.lock().extend(found);
        }
        self.canary.open(&record.request.to).await?;
        noted
    }
}

/// Answers the questions of the driver to the target's node.
pub(super) struct TargetPart {
    pub(super) canary: Canary,
    pub(super) to: SiteId,
    pub(super) fail_in: Option<FailoverStep>,
    /// The attempt of the transaction that is committed as a probe.
    pub(super) attempt: u64,
    pub(super) applied: Arc<Mutex<BTreeSet<TxnId>>>,
    /// The probes of the node that drives, if it takes writes.
    pub(super) of_node: Option<Arc<dyn Probes>>,
}

#[async_trait]
impl Comparison for TargetPart {
    async fn begin_all(&self) -> Result<u64, ComparisonError> {
        Ok(1)
    }

    /// The target of a canary has applied what it read. An injected failure shows a difference.
    fn result(&self, _: u64) -> Result<Option<VerifiedAt>, ComparisonError> {
        let differs = self.fail_in == Some(FailoverStep::Verify);
        let examples = differs.then(|| "a failure was injected in step verify".to_owned());
        let refs = self.applied.lock().len() as u64;
        let examples = examples.into_iter().collect();
        Ok(Some(VerifiedAt { projects: 1, refs, mismatches: u64::from(differs), failures: 0, examples }))
    }
}

impl TargetPart {
    /// Commits one transaction at the target's canary and reads it back.
    async fn commit(&self) -> Result<(), String> {
        if self.fail_in == Some(FailoverStep::Probe) {
            return Err("a failure was injected in step probe".to_owned());
        }
        let failed = |error: RefDbError| error.to_string();
        let own = self.canary.open(&self.to).await.map_err(failed)?;
        let own = own.ok_or("the canary of the target takes no writes")?;
        // Each round sends the same transaction, so that a lost answer does no harm.
        let slot = own.id.lane(Lane(0)).slot(Seq(0));
        let txn = TxnId { slot: slot.clone(), attempt: self.attempt };
        if !self.canary.commit(&slot, &txn).await.map_err(failed)? {
            return Err("its slot holds something else".to_owned());
        }
        let read = self.canary.refdb().journal.slot(&slot).await.map_err(failed)?;
        let is_there = matches!(read, SlotState::Committed(found, _) if found == txn);
        if is_there { Ok(()) } else { Err("the commit cannot be read back".to_owned()) }
    }
}

#[async_trait]
impl Probes for TargetPart {
    async fn round(&self) -> Vec<ProbeResult> {
        let mut results = vec![ProbeResult { probe: "canary".to_owned(), red: self.commit().await.err() }];
        if let Some(of_node) = &self.of_node {
            results.extend(of_node.round().await);
        }
        results
    }

    fn interval(&self) -> Duration {
        PACE
    }
}
