//! The publisher moves settled slots from the journal to the event log, in the order of each lane.
//!
//! It may lag without bound and blocks nobody. While the event log is unreachable, memory grows only up to the limit of
//! the journal's cache; transactions beyond it are read back from the refdb later. The published mark moves only past
//! slots whose append was answered. After a lost answer the publisher appends the slots again, and the readers skip the
//! duplicates.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::{DecodeError, Lane, Seq, SiteId, Slot};
use tokio_util::sync::CancellationToken;

use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::observer::Observer;
use crate::seams::eventlog::EventLog;
use crate::seams::eventlog::deliver::{AppendError, append_all, record};
use crate::seams::refdb::{RefDb, RefDbError, SlotState};
use crate::state::context::NodeContext;
use crate::state::journal::{Journal, Unpublished};

/// Most slots in one append. Kinesis takes at most 500 records.
const BATCH_SLOTS: usize = 400;
/// Most bytes in one append. Kinesis takes at most 5 MiB.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Why a batch was not published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    /// A slot could not be read from the refdb.
    #[error(transparent)]
    RefDb(RefDbError),
    /// The refdb does not have a transaction in this slot, which is settled as committed.
    #[error("slot {slot} is settled as committed, but the refdb says {state:?}")]
    NotCommitted { slot: Slot, state: SlotState },
    /// A committed transaction cannot be read.
    #[error(transparent)]
    Unreadable(DecodeError),
    /// The event log did not take the batch.
    #[error(transparent)]
    EventLog(AppendError),
}

/// Publishes one incarnation's journal.
pub struct Publisher {
    /// The site to whose stream it publishes.
    site: SiteId,
    /// The journal of the incarnation.
    journal: Arc<Journal>,
    /// The refdb, from which transactions are read back that are no longer in memory.
    refdb: RefDb,
    /// The event log that takes the transactions.
    eventlog: Arc<dyn EventLog>,
    /// Randomness for the jitter of retries.
    entropy: Arc<dyn Entropy>,
    /// Receives the progress and the failures of the publisher.
    observer: Arc<dyn Observer>,
    /// Cancelled when the node ends.
    ended: CancellationToken,
}

impl Publisher {
    /// Creates the publisher of a journal.
    #[must_use]
    pub fn new(context: &NodeContext, journal: Arc<Journal>) -> Self {
        let NodeContext { site, refdb, eventlog, entropy, observer, .. } = context.clone();
        Self { site, journal, refdb, eventlog, entropy, observer, ended: context.tasks.cancelled() }
    }

    /// Publishes until the node ends and every settled slot is published, or until the task is aborted.
    pub async fn run(self) {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(20), Duration::from_secs(2));
        loop {
            let mut published = 0;
            for lane in self.journal.lanes() {
                match self.publish(lane).await {
                    Ok(count) => {
                        published += count;
                        backoff.reset();
                    }
                    Err(why) => {
                        self.observer.failed("publish", &why);
                        backoff.wait().await;
                    }
                }
            }
            if published > 0 {
                continue;
            }
            if self.ended.is_cancelled() {
                return;
            }
            tokio::select! {
                biased;
                () = self.ended.cancelled() => {}
                () = self.journal.publishable() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Publishes one batch of a lane. Returns the number of slots that waited; zero means that nothing is left to
    /// publish.
    async fn publish(&self, lane: Lane) -> Result<usize, PublishError> {
        let waiting = self.journal.unpublished(lane, BATCH_SLOTS);
        let mut records = Vec::new();
        let mut until: Option<Seq> = None;
        let mut bytes = 0;
        for (slot, what) in &waiting {
            if let Unpublished::Committed(data) = what {
                let data = self.load(slot, data.clone()).await?;
                if bytes + data.len() > BATCH_BYTES && !records.is_empty() {
                    break;
                }
                bytes += data.len();
                records.push(record(data).map_err(PublishError::Unreadable)?);
            }
            until = Some(slot.seq.next());
        }
        let Some(until) = until else { return Ok(0) };
        let started = tokio::time::Instant::now();
        append_all(self.eventlog.as_ref(), &self.site, &mut records).await.map_err(PublishError::EventLog)?;
        crate::base::faults::failpoint::reach("publish.appended");
        self.journal.published(lane, until);
        let passed = waiting.iter().take_while(|(slot, _)| slot.seq < until).count();
        self.observer.published(passed, started.elapsed());
        Ok(waiting.len())
    }

    async fn load(&self, slot: &Slot, cached: Option<Bytes>) -> Result<Bytes, PublishError> {
        match cached {
            Some(bytes) => Ok(bytes),
            None => match self.refdb.journal.slot(slot).await.map_err(PublishError::RefDb)? {
                SlotState::Committed(_, bytes) => Ok(bytes),
                state => Err(PublishError::NotCommitted { slot: slot.clone(), state }),
            },
        }
    }
}
