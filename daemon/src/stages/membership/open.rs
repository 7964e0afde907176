//! Opens a new incarnation, after those that earlier starts of this node have left open are fenced.

use std::sync::Arc;

use lockstep_proto::{Incarnation, IncarnationId, NodeId, SiteId};

use super::freeze_and_poison::Fencer;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::{IncarnationRecord, OpenAnswer, RefDb, RefDbError, Role, SiteRecord};
use crate::seams::volume::{Changes, NodeStore, Registered, StoreError};
use crate::state::context::NodeContext;
use crate::state::journal::JournalLimits;
use crate::state::signing::{KeyError, Signing};

/// The reason why no incarnation was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The site is not active. This node only applies until the site's role changes.
    #[error("site {} is {:?} (epoch {}): it takes no commits", .0.site, .0.role, .0.epoch)]
    NotActive(SiteRecord),
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The refdb did not answer, or refused the call.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The node has no key, or not the right one, with which to sign its transactions.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Opens incarnations of one node.
pub struct IncarnationOpener {
    /// The site of the node.
    site: SiteId,
    /// The name of the node.
    node: NodeId,
    /// The refdb with the registry of incarnations.
    refdb: RefDb,
    /// The node's own store, which knows each number before the refdb does.
    store: Arc<dyn NodeStore>,
    /// Fences this node's earlier incarnations.
    fencer: Fencer,
    /// Registers the key with which the incarnation signs.
    signing: Arc<Signing>,
    /// The number of lanes, and the window, of a new incarnation.
    limits: JournalLimits,
    /// Defects that a test has switched on.
    bugs: InjectedBugs,
}

impl IncarnationOpener {
    /// Creates an opener, which fences earlier incarnations first.
    #[must_use]
    pub fn new(context: &NodeContext, fencer: Fencer, signing: Arc<Signing>, limits: JournalLimits) -> Self {
        let NodeContext { site, node, refdb, store, bugs, .. } = context.clone();
        Self { site, node, refdb, store, fencer, signing, limits, bugs }
    }

    /// Fences this node's earlier incarnations, then opens a new one.
    ///
    /// # Errors
    /// The site is not active, or the refdb did not answer. A retry fences an incarnation that this call may have
    /// opened.
    pub async fn open_incarnation(&self) -> Result<IncarnationRecord, OpenError> {
        self.fence_earlier().await?;
        let site = self.refdb.sites.enroll_site(&self.site, Role::Active).await?;
        if site.role != Role::Active && !self.bugs.has(InjectedBug::FencedReopens) {
            return Err(OpenError::NotActive(site));
        }
        if site.signed && self.signing.key().is_none() {
            return Err(KeyError::NoKey.into());
        }
        let last = self.refdb.incarnations.last_incarnation(&self.site, &self.node).await?;
        let number = self.next_number(last).await?;
        let id = IncarnationId { node: self.node.clone(), number: Incarnation(number) };
        let (window, lanes) = (self.limits.window, self.limits.all_lanes());
        let record = IncarnationRecord::open(id, self.site.clone(), site.epoch, window, lanes);
        self.sign_with_key(&record.id).await?;
        match self.refdb.incarnations.open_incarnation(&record).await? {
            OpenAnswer::Opened => {
                self.note(|registered| registered.opened = number).await?;
                Ok(record)
            }
            OpenAnswer::NotAllowed(_) if self.bugs.has(InjectedBug::FencedReopens) => Ok(record),
            OpenAnswer::NotAllowed(site) => Err(OpenError::NotActive(site)),
            // The answer to an earlier try was lost. That incarnation is this node's own, and the next try fences it.
            OpenAnswer::Exists => Err(RefDbError::NotNow(format!("incarnation {} exists already", record.id)).into()),
        }
    }

    /// Registers the key of this site for an incarnation, before it is opened. A site whose records must be signed gets
    /// another epoch when that begins, so an opener that has not seen it is refused.
    async fn sign_with_key(&self, id: &IncarnationId) -> Result<(), OpenError> {
        if self.signing.key().is_none() {
            return Ok(self.signing.register(id, &[]).await?);
        }
        let known = self.refdb.incarnations.incarnations(&self.site).await?;
        let known: Vec<IncarnationId> = known.into_iter().map(|one| one.id).collect();
        Ok(self.signing.register(id, &known).await?)
    }

    /// The number of the next incarnation. The volume knows it first, so that no number is used twice, even against a
    /// refdb that has forgotten the last ones.
    async fn next_number(&self, last: u64) -> Result<u64, StoreError> {
        let known = self.store.registered()?.of(&self.site, &self.node);
        // Numbers up to the floor are of the refdbs of the time before.
        let floor = self.store.bound()?.refdb.map_or(0, |refdb| refdb.floor);
        let number = last.max(known.tried).max(floor) + 1;
        self.note(|registered| registered.tried = number).await?;
        Ok(number)
    }

    /// Changes the numbers on the volume.
    async fn note(&self, change: impl FnOnce(&mut Registered)) -> Result<(), StoreError> {
        let mut registered = Registered::default().of(&self.site, &self.node);
        change(&mut registered);
        self.store.commit(Changes { registered: Some(registered), ..Changes::default() }).await
    }

    /// Fences the incarnations that earlier starts of this node have left open. After that, none of their writes can
    /// land. Those that have landed may not be published yet.
    ///
    /// # Errors
    /// The refdb did not answer.
    pub async fn fence_earlier(&self) -> Result<(), OpenError> {
        for earlier in self.refdb.incarnations.incarnations(&self.site).await? {
            if earlier.id.node == self.node && earlier.may_commit() {
                tracing::info!(incarnation = %earlier.id, "freezing and poisoning an earlier incarnation of this node");
                self.fencer.fence(&self.site, &earlier.id).await?;
            }
        }
        Ok(())
    }
}
