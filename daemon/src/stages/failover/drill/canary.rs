//! The refdb of a canary: some traits of the real one, over the document of the drill. So the driver, the fencing and
//! the records of a failover work on it unchanged.
//!
//! It has what the steps of a failover need, and no refs. Every other call answers [`RefDbError::Broken`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::failover::{FailoverKind, FailoverStep, Role};
use lockstep_proto::{IncarnationId, NodeId, Seq, SiteId, Slot, TxnId};

use super::world::{DrillRecord, World};
use crate::base::clock::Clock;
use crate::seams::refdb::{
    DigestRecord, Document, DocumentRecord, Documents, FailoverDb, IncarnationRecord, IncarnationState, Incarnations,
    JournalStore, MarkAnswer, NodeAnswer, NodeRecord, Nodes, OpenAnswer, RefDb, RefDbError, SiteAnswer, SiteRecord,
    Sites, SlotState, StoredDocument, WentBackRecord,
};

/// How often a change is tried again when somebody else has changed the document meanwhile.
const TRIES: usize = 16;

/// The refdb of one drill.
#[derive(Clone)]
pub(super) struct Canary {
    refdb: RefDb,
    clock: Arc<dyn Clock>,
    number: u64,
}

/// The document of the drill.
pub(super) const DRILL: StoredDocument<DrillRecord> = StoredDocument::json(Document::Drill);

fn not_here<T>() -> Result<T, RefDbError> {
    Err(RefDbError::Broken("the canary of a drill has no such call".to_owned()))
}

fn injected<T>(step: FailoverStep) -> Result<T, RefDbError> {
    Err(RefDbError::NotNow(format!("a failure was injected in step {}", step.name())))
}

fn absent(what: &dyn std::fmt::Display) -> RefDbError {
    RefDbError::Broken(format!("the canary has no {what}"))
}

impl Canary {
    pub(super) fn new(refdb: &RefDb, clock: &Arc<dyn Clock>, number: u64) -> Self {
        Self { refdb: refdb.clone(), clock: Arc::clone(clock), number }
    }

    /// This canary as the parts of a refdb that the steps of a failover use.
    pub(super) fn refdb(&self) -> FailoverDb {
        FailoverDb::of(&Arc::new(self.clone()))
    }

    async fn record(&self) -> Result<(u64, DrillRecord), RefDbError> {
        let found =
            DRILL.read(self.refdb.documents.as_ref()).await?.filter(|(_, record)| record.begun.number == self.number);
        found.ok_or_else(|| RefDbError::Broken(format!("drill {} was replaced by another one", self.number)))
    }

    /// The request and the state of the canary.
    pub(super) async fn world(&self) -> Result<(DrillRecord, World), RefDbError> {
        let (_, record) = self.record().await?;
        let world = record.world.clone().ok_or_else(|| absent(&"state: the drill has ended"))?;
        Ok((record, world))
    }

    /// Changes the canary by one conditional write, again if somebody else has changed it meanwhile. A change that
    /// changes nothing is not written.
    pub(super) async fn change<T>(
        &self,
        change: impl Fn(&DrillRecord, &mut World) -> Result<T, RefDbError>,
    ) -> Result<T, RefDbError> {
        for _ in 0..TRIES {
            let (before, mut record) = self.record().await?;
            let world = record.world.clone().ok_or_else(|| absent(&"state: the drill has ended"))?;
            let mut next = world.clone();
            let answer = change(&record, &mut next)?;
            if next == world {
                return Ok(answer);
            }
            (record.world, record.begun.at_ms) = (Some(next), self.clock.now_ms());
            if DRILL.replace(self.refdb.documents.as_ref(), before, &record).await? {
                return Ok(answer);
            }
        }
        Err(RefDbError::NotNow("others change the canary at the same time".to_owned()))
    }

    /// Ends the drill: nothing is left of the canary. Tried again if a write of one of its nodes, which was under way
    /// when they were stopped, came in between.
    pub(super) async fn end(&self) -> Result<(), RefDbError> {
        for _ in 0..TRIES {
            let (before, record) = self.record().await?;
            if record.world.is_none()
                || DRILL.replace(self.refdb.documents.as_ref(), before, &DrillRecord { world: None, ..record }).await?
            {
                return Ok(());
            }
        }
        Err(RefDbError::NotNow("others change the canary at the same time".to_owned()))
    }

    /// Commits a transaction into a slot, as a node does: the slot alone decides. Answers whether it is there.
    pub(super) async fn commit(&self, slot: &Slot, txn: &TxnId) -> Result<bool, RefDbError> {
        let content = self.change(|_, world| Ok(world.fill(slot, Some(txn.clone())))).await?;
        Ok(content.as_ref() == Some(txn))
    }

    /// Opens an incarnation of a site's canary, or answers the open one. None if the site is not active.
    pub(super) async fn open(&self, site: &SiteId) -> Result<Option<IncarnationRecord>, RefDbError> {
        self.change(|record, world| match record.request.fail_in {
            Some(FailoverStep::Serve) if *site == record.request.to => injected(FailoverStep::Serve),
            _ => Ok(world.open(site)),
        })
        .await
    }

    /// Notes how many slots of the source the target has applied.
    pub(super) async fn applied(&self, slots: u64) -> Result<(), RefDbError> {
        self.change(|record, world| match record.request.fail_in {
            Some(FailoverStep::CatchUp) => injected(FailoverStep::CatchUp),
            _ => {
                world.applied(&record.request.to, slots);
                Ok(())
            }
        })
        .await
    }
}

/// The step that a change of a role belongs to, so that a failure can be injected in it.
fn step_of(record: &DrillRecord, site: &SiteId, role: Role) -> Option<FailoverStep> {
    match role {
        Role::Draining | Role::Fenced => Some(FailoverStep::Stop),
        Role::Active if *site == record.request.to => Some(FailoverStep::Promote),
        Role::Standby => Some(FailoverStep::StandBy),
        Role::Active => None,
    }
}

#[async_trait]
impl Sites for Canary {
    async fn enroll_site(&self, site: &SiteId, _: Role) -> Result<SiteRecord, RefDbError> {
        self.world().await?.1.site(site).ok_or_else(|| absent(site))
    }

    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError> {
        Ok(self.world().await?.1.sites())
    }

    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError> {
        self.change(|record, world| match step_of(record, &from.site, role) {
            Some(step) if record.request.fail_in == Some(step) => injected(step),
            _ => world.change_role(from, role).ok_or_else(|| absent(&from.site)),
        })
        .await
    }

    async fn change_site(&self, _: Option<&SiteRecord>, _: &SiteRecord, _: u64) -> Result<SiteAnswer, RefDbError> {
        not_here()
    }

    async fn begin_failover(&self, _: &DocumentRecord, _: &[SiteRecord]) -> Result<Option<DocumentRecord>, RefDbError> {
        not_here()
    }

    async fn shut_out_earlier(&self, _: &SiteId) -> Result<(), RefDbError> {
        not_here()
    }
}

#[async_trait]
impl Incarnations for Canary {
    async fn open_incarnation(&self, _: &IncarnationRecord) -> Result<OpenAnswer, RefDbError> {
        not_here()
    }

    async fn incarnations(&self, site: &SiteId) -> Result<Vec<IncarnationRecord>, RefDbError> {
        Ok(self.world().await?.1.incarnations(site))
    }

    async fn last_incarnation(&self, _: &SiteId, _: &NodeId) -> Result<u64, RefDbError> {
        not_here()
    }

    async fn mark(&self, _: &SiteId, id: &IncarnationId, settled: &[Seq], _: &[Seq]) -> Result<MarkAnswer, RefDbError> {
        let settled = settled.first().map_or(0, |seq| seq.0);
        let state = self.change(|_, world| world.raise_settled(id, settled).ok_or_else(|| absent(id))).await?;
        Ok(if state == IncarnationState::Open { MarkAnswer::Written } else { MarkAnswer::NotOpen(state) })
    }

    async fn touch(&self, _: &SiteId, _: &IncarnationId) -> Result<MarkAnswer, RefDbError> {
        not_here()
    }

    /// A failure that is injected in `settle` of a planned failover keeps the incarnation open.
    async fn freeze(&self, _: &SiteId, id: &IncarnationId) -> Result<IncarnationRecord, RefDbError> {
        self.change(|record, world| match (record.request.fail_in, record.request.kind) {
            (Some(FailoverStep::Settle), FailoverKind::Planned) => injected(FailoverStep::Settle),
            _ => world.close(id, IncarnationState::Frozen).ok_or_else(|| absent(id)),
        })
        .await
    }

    async fn poisoned(&self, _: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        self.change(|_, world| world.close(id, IncarnationState::Poisoned).map(|_| ()).ok_or_else(|| absent(id))).await
    }

    async fn raise_published(&self, _: &SiteId, _: &IncarnationId, _: &[Seq]) -> Result<(), RefDbError> {
        not_here()
    }

    async fn drained(&self, _: &SiteId, _: &IncarnationId, _: &[Seq]) -> Result<(), RefDbError> {
        not_here()
    }

    async fn forget_incarnations(&self, _: &SiteId, _: &[IncarnationId]) -> Result<(), RefDbError> {
        not_here()
    }
}

#[async_trait]
impl Nodes for Canary {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, RefDbError> {
        Ok(self.world().await?.1.nodes())
    }

    async fn put_node(&self, _: &NodeRecord, _: Option<&NodeRecord>) -> Result<NodeAnswer, RefDbError> {
        not_here()
    }

    async fn digests(&self) -> Result<Vec<DigestRecord>, RefDbError> {
        Ok(Vec::new())
    }

    async fn put_digest(&self, _: &DigestRecord) -> Result<(), RefDbError> {
        not_here()
    }
}

#[async_trait]
impl Documents for Canary {
    async fn document(&self, which: Document) -> Result<Option<DocumentRecord>, RefDbError> {
        match which {
            Document::Failover => {
                let failover = self.world().await?.1.failover;
                Ok(failover.map(|(revision, body)| DocumentRecord { revision, body }))
            }
            _ => not_here(),
        }
    }

    async fn put_document(&self, which: Document, put: &DocumentRecord) -> Result<DocumentRecord, RefDbError> {
        if which != Document::Failover {
            return not_here();
        }
        self.change(|_, world| {
            let stored = world.failover.as_ref().map_or(0, |(revision, _)| *revision);
            if put.revision == stored + 1 {
                world.failover = Some((put.revision, put.body.clone()));
            }
            let (revision, body) = world.failover.clone().ok_or_else(|| absent(&"failover"))?;
            Ok(DocumentRecord { revision, body })
        })
        .await
    }

    async fn went_back(&self) -> Result<Option<WentBackRecord>, RefDbError> {
        self.refdb.documents.went_back().await
    }

    async fn declare_went_back(&self, _: &WentBackRecord) -> Result<WentBackRecord, RefDbError> {
        not_here()
    }
}

fn state_of(content: Option<TxnId>) -> SlotState {
    content.map_or(SlotState::Poisoned, |txn| SlotState::Committed(txn, Bytes::new()))
}

#[async_trait]
impl JournalStore for Canary {
    async fn slot(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        Ok(self.world().await?.1.slot(slot).map_or(SlotState::Empty, state_of))
    }

    /// A failure that is injected in `settle` of a forced failover leaves the slot empty.
    async fn poison(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        self.change(|record, world| match (record.request.fail_in, record.request.kind) {
            (Some(FailoverStep::Settle), FailoverKind::Forced) => Ok(SlotState::Poisoned),
            _ => Ok(state_of(world.fill(slot, None))),
        })
        .await
    }

    async fn collect(&self, _: &[Slot]) -> Result<(), RefDbError> {
        not_here()
    }
}
