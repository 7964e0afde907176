//! A new incarnation: everything that this node's earlier lives left open is drained first.

use std::sync::Arc;

use lockstep_proto::{Incarnation, IncarnationId, NodeId, Seq, SiteId};

use super::drain::Drainer;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::{IncarnationRecord, IncarnationState, OpenAnswer, RefDb, RefDbError, Role, SiteRecord};
use crate::state::journal::JournalLimits;

/// Why there is no new incarnation.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The site does not commit: this node applies only, until the site's role changes.
    #[error("site {} is {:?} (epoch {}): it takes no commits", .0.site, .0.role, .0.epoch)]
    NotActive(SiteRecord),
    /// The refdb did not answer, or refuses.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
}

/// Brings a node's new incarnation into the world.
pub struct IncarnationOpener {
    /// The site.
    pub site: SiteId,
    /// The node.
    pub node: NodeId,
    /// The refdb.
    pub refdb: Arc<dyn RefDb>,
    /// Drains earlier lives.
    pub drainer: Drainer,
    /// Lanes and window.
    pub limits: JournalLimits,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

impl IncarnationOpener {
    /// Drains this node's earlier incarnations, then opens a new one.
    ///
    /// # Errors
    /// The site is not active, or the refdb did not answer (try again: a half-born incarnation is drained then).
    pub async fn open_incarnation(&self) -> Result<IncarnationRecord, OpenError> {
        self.drain_earlier().await?;
        let site = self.refdb.enroll_site(&self.site, Role::Active).await?;
        if site.role != Role::Active && !self.bugs.has(InjectedBug::FencedReborn) {
            return Err(OpenError::NotActive(site));
        }
        let last = self.refdb.last_incarnation(&self.site, &self.node).await?;
        let marks = vec![Seq(0); usize::from(self.limits.lanes)];
        let record = IncarnationRecord {
            id: IncarnationId { node: self.node.clone(), number: Incarnation(last + 1) },
            site: self.site.clone(),
            epoch: site.epoch,
            state: IncarnationState::Open,
            window: self.limits.window,
            settled: marks.clone(),
            published: marks,
        };
        match self.refdb.open_incarnation(&record).await? {
            OpenAnswer::Opened => Ok(record),
            OpenAnswer::NotAllowed(_) if self.bugs.has(InjectedBug::FencedReborn) => Ok(record),
            OpenAnswer::NotAllowed(site) => Err(OpenError::NotActive(site)),
            // The answer to an earlier try was lost: that incarnation is this node's own, and is drained next time.
            OpenAnswer::Exists => Err(RefDbError::NotNow(format!("incarnation {} exists", record.id)).into()),
        }
    }

    /// Drains whatever this node's earlier lives left open: nothing more of theirs can land, and what landed is published.
    ///
    /// # Errors
    /// The refdb did not answer.
    pub async fn drain_earlier(&self) -> Result<(), OpenError> {
        for earlier in self.refdb.incarnations(&self.site).await? {
            if earlier.id.node == self.node && earlier.state != IncarnationState::Drained {
                tracing::info!(incarnation = %earlier.id, "draining an earlier life of this node");
                self.drainer.drain(&self.site, &earlier.id).await?;
            }
        }
        Ok(())
    }
}
