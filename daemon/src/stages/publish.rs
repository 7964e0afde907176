//! The publisher moves settled slots from the journal to the event log, in lane order.
//!
//! It may lag without bound and stops nobody: an event log that is away costs memory up to the journal's cache and
//! nothing else, what falls out is read back from the refdb. The published mark is raised only over slots whose append
//! was answered; a lost answer means a second append, which the readers do not mind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::{Lane, Seq, SiteId, Slot};
use tokio_util::sync::CancellationToken;

use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::observer::Observer;
use crate::seams::eventlog::EventLog;
use crate::seams::eventlog::deliver::{append_all, record};
use crate::seams::refdb::{RefDb, SlotState};
use crate::state::journal::{Journal, Unpublished};

/// Most slots in one append: Kinesis takes 500 records.
const BATCH_SLOTS: usize = 400;
/// Most bytes in one append: Kinesis takes 5 MiB.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Publishes one incarnation's journal.
pub struct Publisher {
    /// The site whose stream it is.
    pub site: SiteId,
    /// The journal.
    pub journal: Arc<Journal>,
    /// To read back what is no longer in memory.
    pub refdb: Arc<dyn RefDb>,
    /// The event log.
    pub eventlog: Arc<dyn EventLog>,
    /// For the jitter of retries.
    pub entropy: Arc<dyn Entropy>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
}

impl Publisher {
    /// Publishes until it is cancelled and everything that is settled is published, or it is aborted.
    pub async fn run(self, lanes: u8, cancelled: CancellationToken, wake: Arc<tokio::sync::Notify>) {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(20), Duration::from_secs(2));
        loop {
            let mut published = 0;
            for lane in 0..lanes {
                match self.publish(Lane(lane)).await {
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
            if cancelled.is_cancelled() {
                return;
            }
            tokio::select! {
                biased;
                () = cancelled.cancelled() => {}
                () = wake.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Publishes one batch of a lane; answers how many slots it passed.
    async fn publish(&self, lane: Lane) -> Result<usize, String> {
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
                records.push(record(data)?);
            }
            until = Some(slot.seq.next());
        }
        let Some(until) = until else { return Ok(0) };
        let started = tokio::time::Instant::now();
        append_all(self.eventlog.as_ref(), &self.site, &mut records).await?;
        crate::base::faults::failpoint::reach("publish.appended");
        self.journal.published(lane, until);
        let passed = waiting.iter().take_while(|(slot, _)| slot.seq < until).count();
        self.observer.published(passed, started.elapsed());
        Ok(waiting.len())
    }

    async fn load(&self, slot: &Slot, cached: Option<Bytes>) -> Result<Bytes, String> {
        match cached {
            Some(bytes) => Ok(bytes),
            None => match self.refdb.slot(slot).await.map_err(|error| error.to_string())? {
                SlotState::Committed(_, bytes) => Ok(bytes),
                state => Err(format!("slot {slot} is settled as committed, and the refdb says {state:?}")),
            },
        }
    }
}
