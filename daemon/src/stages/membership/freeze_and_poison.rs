//! Fences an incarnation: freezes it, and poisons every empty slot that its owner could still use. Then nothing can be
//! committed in it any more. Any node can repeat this, and continue it after an interruption.
//!
//! Publishing the committed slots that it left is apart from this, because nobody needs to wait for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use lockstep_proto::{IncarnationId, Seq, SiteId, Slot};

use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::refdb::{FailoverDb, IncarnationRecord, RefDbError, SlotState};
use crate::stages::ports::Fencing;
use crate::state::context::NodeContext;

/// Number of slots that are poisoned concurrently. It stays far below the number of calls that a refdb answers within
/// the timeout of one call. Above that number, every call would time out, and there would be no progress.
const SLOTS: usize = 64;
/// Number of tries per slot. After that, the incarnation begins anew.
const TRIES: u32 = 6;

/// Fences incarnations of this node and of others.
#[derive(Clone)]
pub struct Fencer {
    /// The refdb with the incarnations and their slots.
    refdb: FailoverDb,
    /// Randomness for the jitter of retries.
    entropy: Arc<dyn Entropy>,
    /// Defects that a test has switched on.
    bugs: InjectedBugs,
}

impl Fencer {
    /// Creates a fencer on the node's refdb.
    #[must_use]
    pub fn new(context: &NodeContext) -> Self {
        let NodeContext { refdb, entropy, bugs, .. } = context.clone();
        Self { refdb: refdb.for_failover(), entropy, bugs }
    }

    /// The same for the incarnations of another refdb.
    #[must_use]
    pub fn over(&self, refdb: FailoverDb) -> Self {
        Self { refdb, ..self.clone() }
    }

    /// Fences one incarnation of a site. Retries until it succeeds or the caller drops the future.
    ///
    /// # Errors
    /// [`RefDbError::Broken`]: the refdb refuses a call for good.
    pub async fn fence(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(50), Duration::from_secs(5));
        loop {
            match self.fence_once(site, id, |_, _| {}).await {
                Ok(()) => return Ok(()),
                Err(error) if !error.retry_helps() => return Err(error),
                Err(error) => {
                    tracing::warn!(incarnation = %id, %error, "a freeze or poison was interrupted and is tried again");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Fences one incarnation, in one try. Hands the final content of each slot of its windows to `found`. An
    /// incarnation that is poisoned or drained already hands out nothing.
    ///
    /// # Errors
    /// The refdb did not answer. The incarnation may be frozen, and some slots poisoned.
    pub async fn fence_once(
        &self,
        site: &SiteId,
        id: &IncarnationId,
        mut found: impl FnMut(&Slot, SlotState),
    ) -> Result<(), RefDbError> {
        let frozen = self.refdb.incarnations.freeze(site, id).await?;
        if !frozen.may_commit() {
            return Ok(());
        }
        crate::base::faults::failpoint::reach("drain.frozen");
        let calls: Vec<_> = windows(&frozen).into_iter().map(|slot| self.close(slot)).collect();
        let mut closed = std::pin::pin!(stream::iter(calls).buffered(SLOTS));
        while let Some((slot, state)) = closed.try_next().await? {
            found(&slot, state);
        }
        crate::base::faults::failpoint::reach("drain.lane");
        self.refdb.incarnations.poisoned(site, id).await
    }

    /// Poisons a slot if it is empty, so that nothing can land in it any more. Answers the slot and its content.
    async fn close(&self, slot: Slot) -> Result<(Slot, SlotState), RefDbError> {
        let state = match self.bugs.has(InjectedBug::WindowNotPoisoned) {
            true => self.refdb.journal.slot(&slot).await,
            false => patiently(&self.entropy, async || self.refdb.journal.poison(&slot).await).await,
        };
        state.map(|state| (slot, state))
    }
}

#[async_trait]
impl Fencing for Fencer {
    async fn fence(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        self.fence_once(site, id, |_, _| {}).await
    }
}

/// The slots that the owner of a frozen incarnation could still use.
fn windows(frozen: &IncarnationRecord) -> Vec<Slot> {
    let marks = frozen.settled.iter().zip(frozen.ends());
    let lanes = frozen.id.lanes(marks);
    lanes.flat_map(|(lane, (settled, end))| (settled.0..end.0).map(move |seq| lane.slot(Seq(seq)))).collect()
}

/// Repeats a call that was not answered, so that one late answer does not make the caller read hundreds of slots again.
async fn patiently<T, F>(entropy: &Arc<dyn Entropy>, ask: impl Fn() -> F) -> Result<T, RefDbError>
where
    F: Future<Output = Result<T, RefDbError>>,
{
    let mut backoff = Backoff::new(Arc::clone(entropy), Duration::from_millis(50), Duration::from_secs(1));
    backoff.retry(TRIES, RefDbError::retry_helps, ask).await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::base::clock::SeededEntropy;

    /// Asks with a call that fails `failures` times. Answers the number of calls and the last result.
    async fn asked(failures: u32, error: &RefDbError) -> (u32, Result<(), RefDbError>) {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
        let calls = Cell::new(0);
        let end = patiently(&entropy, async || {
            calls.set(calls.get() + 1);
            if calls.get() > failures { Ok(()) } else { Err(error.clone()) }
        });
        let end = end.await;
        (calls.get(), end)
    }

    #[tokio::test(start_paused = true)]
    async fn one_slot_is_asked_again_and_not_for_ever() {
        let late = RefDbError::Unknown("late".into());
        assert_eq!(asked(3, &late).await, (4, Ok(())));
        assert_eq!(asked(99, &late).await, (TRIES, Err(late)));
        let broken = RefDbError::Broken("no such table".into());
        assert_eq!(asked(99, &broken).await, (1, Err(broken)));
    }
}
