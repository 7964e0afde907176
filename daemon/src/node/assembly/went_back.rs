//! The consequences of a refdb that is older than this node: the node is not ready, says so, and declares it to the
//! other nodes.
//!
//! The front refuses commits by itself, at once.

use std::sync::Arc;
use std::time::Duration;

use crate::base::backoff::Backoff;
use crate::seams::refdb::{RefDbError, WentBackRecord};
use crate::stages::api::readiness::Latch;
use crate::state::context::NodeContext;
use crate::state::went_back::Evidence;

/// Waits for evidence, and makes it known.
pub(super) struct Watcher {
    context: NodeContext,
    /// Open while the refdb is, as far as this node knows, not older than itself.
    current: Latch,
}

impl Watcher {
    pub(super) fn new(context: &NodeContext, current: Latch) -> Self {
        Self { context: context.clone(), current }
    }

    /// Watches until the task is aborted.
    pub(super) async fn run(self) {
        let mut changes = self.context.went_back.subscribe();
        loop {
            let evidence = changes.borrow_and_update().clone();
            match evidence {
                None => self.current.open(),
                Some(evidence) => {
                    self.current.close();
                    self.say(&evidence);
                    let is_own = !matches!(evidence, Evidence::Declared { .. }) && !evidence.is_of_identity();
                    if is_own && self.context.went_back.speaks_for_all() {
                        self.declare(&evidence).await;
                    }
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn say(&self, evidence: &Evidence) {
        if evidence.is_of_identity() {
            tracing::error!(
                %evidence,
                "THIS IS NOT THE REFDB OF THIS NODE: the node commits nothing; see \"A lost refdb\" in docs/failover.md"
            );
            self.context.observer.failed("refdb-identity", evidence);
            return;
        }
        tracing::error!(
            %evidence,
            "THE REFDB WENT BACK IN TIME: it is older than this node, which commits nothing. Restore a newer backup of \
             the refdb and restart the sidecars, or rebuild it with `lockstep refdb rebuild`; see \"A refdb that went \
             back\" in docs/operations.md"
        );
        self.context.observer.failed("refdb-went-back", &format!("the refdb is older than this node: {evidence}"));
    }

    /// Declares it in the refdb, until that is done or the evidence is gone.
    async fn declare(&self, evidence: &Evidence) {
        let entropy = Arc::clone(&self.context.entropy);
        let mut backoff = Backoff::new(entropy, Duration::from_millis(100), Duration::from_secs(5));
        while self.context.went_back.is_known() {
            match self.declare_once(evidence).await {
                Ok(()) => return,
                Err(error) => self.context.observer.failed("refdb-went-back", &error),
            }
            backoff.wait().await;
        }
    }

    async fn declare_once(&self, evidence: &Evidence) -> Result<(), RefDbError> {
        let (by, since_ms) = (self.context.node.clone(), self.context.clock.now_ms());
        let record = WentBackRecord { by, why: evidence.to_string(), since_ms };
        self.context.refdb.documents.declare_went_back(&record).await.map(|_| ())
    }
}
