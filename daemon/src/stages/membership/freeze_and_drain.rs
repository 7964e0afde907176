//! Drains an incarnation: freezes it, poisons every empty slot that its owner could still use, publishes the committed
//! slots, and records that it is drained. Any node can repeat a drain that was interrupted.
//!
//! Lanes, and the slots of a lane, are processed concurrently, because a failover waits for the drain. Each lane is
//! published in the order of its slots, which is the only order that its projects need.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use lockstep_proto::{IncarnationId, LaneId, Seq, SiteId, Slot};

use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::eventlog::EventLog;
use crate::seams::eventlog::deliver::{append_all, record};
use crate::seams::refdb::{IncarnationRecord, IncarnationState, RefDb, RefDbError, SlotState};
use crate::state::context::NodeContext;

/// Number of lanes that are drained concurrently.
const LANES: usize = 8;
/// Number of slots per lane that are read or poisoned concurrently. All lanes together stay far below the number of
/// calls that a refdb answers within the timeout of one call. Above that number, every call would time out and the
/// drain would make no progress.
const SLOTS: usize = 8;
/// Number of tries per slot. After that, the drain of the incarnation begins anew.
const TRIES: u32 = 6;
/// Number of records per append to the event log.
const RECORDS: usize = 100;

/// Drains incarnations of this node and of others.
#[derive(Clone)]
pub struct Drainer {
    /// The refdb with the incarnations and their slots.
    refdb: RefDb,
    /// The event log that receives the committed slots.
    eventlog: Arc<dyn EventLog>,
    /// Randomness for the jitter of retries.
    entropy: Arc<dyn Entropy>,
    /// Defects that a test has switched on.
    bugs: InjectedBugs,
}

impl Drainer {
    /// Creates a drainer on the node's refdb and event log.
    #[must_use]
    pub fn new(context: &NodeContext) -> Self {
        let NodeContext { refdb, eventlog, entropy, bugs, .. } = context.clone();
        Self { refdb, eventlog, entropy, bugs }
    }

    /// Drains one incarnation of a site. Retries until it succeeds or the caller drops the future.
    ///
    /// # Errors
    /// [`RefDbError::Broken`]: the refdb refuses a call for good.
    pub async fn drain(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(50), Duration::from_secs(5));
        loop {
            match self.drain_once(site, id).await {
                Ok(()) => return Ok(()),
                Err(error @ RefDbError::Broken(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(incarnation = %id, %error, "a drain was interrupted and is tried again");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn drain_once(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        let frozen = self.refdb.registry.freeze(site, id).await?;
        if frozen.state == IncarnationState::Drained {
            return Ok(());
        }
        crate::base::faults::failpoint::reach("drain.frozen");
        let marks = frozen.settled.iter().zip(&frozen.published);
        let lanes = frozen
            .id
            .lanes(marks)
            .map(|(lane, (settled, published))| self.drain_lane(&frozen, lane, settled.0, published.0));
        let published: Vec<Seq> = stream::iter(lanes.collect::<Vec<_>>()).buffered(LANES).try_collect().await?;
        self.refdb.registry.drained(site, id, &published).await
    }

    /// Poisons the empty slots of one lane and publishes the committed ones. Answers the slot behind its last one.
    async fn drain_lane(
        &self,
        frozen: &IncarnationRecord,
        lane: LaneId,
        settled: u64,
        published: u64,
    ) -> Result<Seq, RefDbError> {
        let slots = (published..settled + frozen.window).map(|seq| self.look(lane.slot(Seq(seq)), seq < settled));
        let mut states = pin!(stream::iter(slots).buffered(SLOTS));
        let mut waiting = Vec::new();
        while let Some(state) = states.next().await {
            if let SlotState::Committed(_, bytes) = state? {
                waiting.push(record(bytes).map_err(|error| RefDbError::Broken(error.to_string()))?);
            }
            if waiting.len() >= RECORDS {
                self.publish(&frozen.site, &mut waiting).await?;
            }
        }
        self.publish(&frozen.site, &mut waiting).await?;
        crate::base::faults::failpoint::reach("drain.lane");
        Ok(Seq(settled + frozen.window))
    }

    /// The final content of a slot.
    async fn look(&self, slot: Slot, is_settled: bool) -> Result<SlotState, RefDbError> {
        let ask = async || if is_settled { self.refdb.journal.slot(&slot).await } else { self.close(&slot).await };
        patiently(&self.entropy, ask).await
    }

    /// Poisons a slot of the window if it is empty, so that nothing can land in it any more. Answers its content.
    async fn close(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        if self.bugs.has(InjectedBug::WindowNotPoisoned) {
            return self.refdb.journal.slot(slot).await;
        }
        self.refdb.journal.poison(slot).await
    }

    async fn publish(
        &self,
        site: &SiteId,
        waiting: &mut Vec<crate::seams::eventlog::Record>,
    ) -> Result<(), RefDbError> {
        let appended = append_all(self.eventlog.as_ref(), site, waiting).await;
        appended.map_err(|error| RefDbError::NotNow(error.to_string()))
    }
}

/// Repeats a call that was not answered, so that one late answer does not make the drain read hundreds of slots again.
async fn patiently<T, F>(entropy: &Arc<dyn Entropy>, ask: impl Fn() -> F) -> Result<T, RefDbError>
where
    F: Future<Output = Result<T, RefDbError>>,
{
    let mut backoff = Backoff::new(Arc::clone(entropy), Duration::from_millis(50), Duration::from_secs(1));
    for _ in 1..TRIES {
        match ask().await {
            Err(RefDbError::Unknown(_) | RefDbError::NotNow(_)) => backoff.wait().await,
            answer => return answer,
        }
    }
    ask().await
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
