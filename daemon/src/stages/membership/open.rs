//! Opens a new incarnation, after those that earlier starts of this node have left open are fenced.

use lockstep_proto::{Incarnation, IncarnationId, NodeId, Seq, SiteId};

use super::freeze_and_poison::Fencer;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::{IncarnationRecord, IncarnationState, OpenAnswer, RefDb, RefDbError, Role, SiteRecord};
use crate::state::context::NodeContext;
use crate::state::journal::JournalLimits;

/// The reason why no incarnation was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The site is not active. This node only applies until the site's role changes.
    #[error("site {} is {:?} (epoch {}): it takes no commits", .0.site, .0.role, .0.epoch)]
    NotActive(SiteRecord),
    /// The refdb did not answer, or refused the call.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
}

/// Opens incarnations of one node.
pub struct IncarnationOpener {
    /// The site of the node.
    site: SiteId,
    /// The name of the node.
    node: NodeId,
    /// The refdb with the registry of incarnations.
    refdb: RefDb,
    /// Fences this node's earlier incarnations.
    fencer: Fencer,
    /// The number of lanes, and the window, of a new incarnation.
    limits: JournalLimits,
    /// Defects that a test has switched on.
    bugs: InjectedBugs,
}

impl IncarnationOpener {
    /// Creates an opener, which fences earlier incarnations first.
    #[must_use]
    pub fn new(context: &NodeContext, fencer: Fencer, limits: JournalLimits) -> Self {
        let NodeContext { site, node, refdb, bugs, .. } = context.clone();
        Self { site, node, refdb, fencer, limits, bugs }
    }

    /// Fences this node's earlier incarnations, then opens a new one.
    ///
    /// # Errors
    /// The site is not active, or the refdb did not answer. A retry fences an incarnation that this call may have
    /// opened.
    pub async fn open_incarnation(&self) -> Result<IncarnationRecord, OpenError> {
        self.fence_earlier().await?;
        let site = self.refdb.registry.enroll_site(&self.site, Role::Active).await?;
        if site.role != Role::Active && !self.bugs.has(InjectedBug::FencedReopens) {
            return Err(OpenError::NotActive(site));
        }
        let last = self.refdb.registry.last_incarnation(&self.site, &self.node).await?;
        let marks = vec![Seq(0); self.limits.all_lanes()];
        let record = IncarnationRecord {
            id: IncarnationId { node: self.node.clone(), number: Incarnation(last + 1) },
            site: self.site.clone(),
            epoch: site.epoch,
            state: IncarnationState::Open,
            window: self.limits.window,
            settled: marks.clone(),
            published: marks,
        };
        match self.refdb.registry.open_incarnation(&record).await? {
            OpenAnswer::Opened => Ok(record),
            OpenAnswer::NotAllowed(_) if self.bugs.has(InjectedBug::FencedReopens) => Ok(record),
            OpenAnswer::NotAllowed(site) => Err(OpenError::NotActive(site)),
            // The answer to an earlier try was lost. That incarnation is this node's own, and the next try fences it.
            OpenAnswer::Exists => Err(RefDbError::NotNow(format!("incarnation {} exists already", record.id)).into()),
        }
    }

    /// Fences the incarnations that earlier starts of this node have left open. After that, none of their writes can
    /// land. Those that have landed may not be published yet.
    ///
    /// # Errors
    /// The refdb did not answer.
    pub async fn fence_earlier(&self) -> Result<(), OpenError> {
        for earlier in self.refdb.registry.incarnations(&self.site).await? {
            if earlier.id.node == self.node && earlier.may_commit() {
                tracing::info!(incarnation = %earlier.id, "freezing and poisoning an earlier incarnation of this node");
                self.fencer.fence(&self.site, &earlier.id).await?;
            }
        }
        Ok(())
    }
}
