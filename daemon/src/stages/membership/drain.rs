//! The end of an incarnation: freeze it, poison every empty slot that its owner could still use, publish what is
//! committed, and say so. Resumable: whoever finds it half done does it again.
//!
//! Lanes, and the slots of a lane, are looked at side by side, since a failover waits for this; each lane is published in
//! its own order, which is all that its projects need.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use lockstep_proto::{IncarnationId, Lane, Seq, SiteId, Slot};

use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::seams::eventlog::EventLog;
use crate::seams::eventlog::deliver::{append_all, record};
use crate::seams::refdb::{IncarnationRecord, IncarnationState, RefDb, RefDbError, SlotState};

/// Lanes that are drained at the same time.
const LANES: usize = 8;
/// Slots of a lane that are looked at, or poisoned, at the same time. All lanes together stay far below what a refdb
/// answers within the time of one call: above it every call is too late, and nothing gets on.
const SLOTS: usize = 8;
/// How often one slot is asked for before the incarnation begins anew.
const TRIES: u32 = 6;
/// Records of one call to the event log.
const RECORDS: usize = 100;

/// Drains incarnations.
#[derive(Clone)]
pub struct Drainer {
    /// The refdb.
    pub refdb: Arc<dyn RefDb>,
    /// Where committed slots go.
    pub eventlog: Arc<dyn EventLog>,
    /// For the jitter of retries.
    pub entropy: Arc<dyn Entropy>,
    /// Injected bugs.
    pub bugs: InjectedBugs,
}

impl Drainer {
    /// Drains one incarnation of a site. It tries until it succeeds or the caller gives up.
    ///
    /// # Errors
    /// The refdb refuses the call for good.
    pub async fn drain(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(50), Duration::from_secs(5));
        loop {
            match self.drain_once(site, id).await {
                Ok(()) => return Ok(()),
                Err(error @ RefDbError::Broken(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(incarnation = %id, %error, "draining goes on");
                    backoff.wait().await;
                }
            }
        }
    }

    async fn drain_once(&self, site: &SiteId, id: &IncarnationId) -> Result<(), RefDbError> {
        let frozen = self.refdb.freeze(site, id).await?;
        if frozen.state == IncarnationState::Drained {
            return Ok(());
        }
        crate::base::faults::failpoint::reach("drain.frozen");
        let lanes = (0..frozen.settled.len()).map(|lane| self.drain_lane(&frozen, lane));
        let published: Vec<Seq> = stream::iter(lanes.collect::<Vec<_>>()).buffered(LANES).try_collect().await?;
        self.refdb.drained(site, id, &published).await
    }

    /// Settles and publishes one lane; answers the slot behind its last one.
    async fn drain_lane(&self, frozen: &IncarnationRecord, lane: usize) -> Result<Seq, RefDbError> {
        let id = frozen.id.lane(Lane(u8::try_from(lane).unwrap_or(u8::MAX)));
        let (settled, published) = (frozen.settled[lane].0, frozen.published[lane].0);
        let slots = (published..settled + frozen.window).map(|seq| self.look(id.slot(Seq(seq)), seq < settled));
        let mut states = pin!(stream::iter(slots).buffered(SLOTS));
        let mut waiting = Vec::new();
        while let Some(state) = states.next().await {
            if let SlotState::Committed(_, bytes) = state? {
                waiting.push(record(bytes).map_err(RefDbError::Broken)?);
            }
            if waiting.len() >= RECORDS {
                self.publish(&frozen.site, &mut waiting).await?;
            }
        }
        self.publish(&frozen.site, &mut waiting).await?;
        crate::base::faults::failpoint::reach("drain.lane");
        Ok(Seq(settled + frozen.window))
    }

    /// What is in a slot for ever.
    async fn look(&self, slot: Slot, is_settled: bool) -> Result<SlotState, RefDbError> {
        let ask = async || if is_settled { self.refdb.slot(&slot).await } else { self.close(&slot).await };
        patiently(&self.entropy, ask).await
    }

    /// Makes sure that nothing can land in a slot of the window any more; what is in it already stays.
    async fn close(&self, slot: &Slot) -> Result<SlotState, RefDbError> {
        if self.bugs.has(InjectedBug::WindowNotPoisoned) {
            return self.refdb.slot(slot).await;
        }
        self.refdb.poison(slot).await
    }

    async fn publish(
        &self,
        site: &SiteId,
        waiting: &mut Vec<crate::seams::eventlog::Record>,
    ) -> Result<(), RefDbError> {
        append_all(self.eventlog.as_ref(), site, waiting).await.map_err(RefDbError::NotNow)
    }
}

/// Asks again when no answer came: one late answer must not begin hundreds of slots anew.
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

    /// How often a question is asked that fails so many times, and its end.
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
