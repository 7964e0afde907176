//! A node that takes everything from the refdb and from peers beats meanwhile, and counts the projects. So the others
//! see that it lives, and how far it is.

use tokio::time::{sleep, timeout};

use super::join::{Join, JoinError};
use crate::seams::refdb::{NodeAnswer, NodeRecord, ProjectPages, RefDbError};
use crate::stages::membership::will_beat;
use crate::state::went_back::Evidence;

impl Join {
    /// Reconciles, and beats meanwhile. `record` is the record of this node, before and afterwards. Neither waits for
    /// the other. If the node takes no part any more, the work ends at once.
    pub(super) async fn reconcile_and_beat(&self, record: &mut NodeRecord, starts: u64) -> Result<(), JoinError> {
        let progress = &self.stages.state.bootstrap;
        let end = tokio::select! {
            biased;
            end = self.reconcile(starts) => end,
            over = self.beat_until_over(record) => Err(over),
        };
        progress.end();
        end
    }

    /// Beats until this node takes no part any more, and returns the reason.
    async fn beat_until_over(&self, record: &mut NodeRecord) -> JoinError {
        loop {
            sleep(self.stages.deps.settings.member.beat).await;
            match self.beat(record).await {
                Ok(()) => {}
                Err(over) if self.is_over(&over) => return over,
                // A record that somebody else has changed is met again at the end of the work.
                Err(why) => self.stages.deps.observer.failed("join", &why),
            }
        }
    }

    /// Whether this node takes no part any more: it was expelled, its name belongs to another volume, or its record is
    /// lost together with the refdb.
    fn is_over(&self, why: &JoinError) -> bool {
        match why {
            JoinError::Changed(now) => now.expelled || now.volume != NodeRecord::reconciling(&self.facts.id),
            JoinError::WentBack(_) => true,
            _ => false,
        }
    }

    async fn beat(&self, record: &mut NodeRecord) -> Result<(), JoinError> {
        let (deps, next) = (&self.stages.deps, NodeRecord { beat: record.beat + 1, ..record.clone() });
        // A slow volume keeps no heartbeat back. The next start finds out about a beat that it does not know.
        match timeout(deps.settings.member.beat, will_beat(deps.store.as_ref(), &next)).await {
            Ok(noted) => noted?,
            Err(_) => deps.observer.failed("join", &"the volume is slow: it does not know this heartbeat yet"),
        }
        match deps.refdb.nodes.put_node(&next, Some(record)).await? {
            NodeAnswer::Written => *record = next,
            // The answer to an earlier copy of this heartbeat was lost.
            NodeAnswer::Differs(now) if now == next => *record = next,
            NodeAnswer::Differs(now) => return Err(JoinError::Changed(Box::new(now))),
            NodeAnswer::Gone => return Err(JoinError::WentBack(Box::new(Evidence::NoRecord))),
        }
        Ok(())
    }

    /// Writes the record after the work. The answer to the last heartbeat may be lost: the work did not wait for it.
    pub(super) async fn put_after_beats(&self, done: NodeRecord, record: &NodeRecord) -> Result<NodeRecord, JoinError> {
        let beaten = NodeRecord { beat: record.beat + 1, ..record.clone() };
        match self.put(&done, Some(record)).await {
            Ok(()) => Ok(done),
            Err(JoinError::Changed(now)) if *now == beaten => {
                let done = NodeRecord { beat: beaten.beat + 1, ..done };
                self.put(&done, Some(&beaten)).await?;
                Ok(done)
            }
            Err(why) => Err(why),
        }
    }

    pub(super) async fn count_projects(&self) -> Result<u64, RefDbError> {
        let (mut pages, mut count) = (ProjectPages::of(self.stages.deps.refdb.refs.as_ref()), 0);
        while let Some(page) = pages.next().await? {
            count += page.len() as u64;
        }
        Ok(count)
    }
}
