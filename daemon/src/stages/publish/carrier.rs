//! Carries the settled slots of one journal to the event log. The same code serves a living journal and a dead one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{Lane, Locator, Seq, SiteId, Slot, Transaction};
use tokio::time::Instant;

use super::PublishError;
use super::source::{Source, load};
use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::eventlog::deliver::{Answered, LaneProgress, Queue, record};
use crate::seams::eventlog::{EventLog, Record};
use crate::seams::refdb::RefDb;
use crate::state::context::NodeContext;
use crate::state::journal::Unpublished;

/// Most slots of a lane, from its mark on, that wait or are remembered as taken.
const LOOK_AHEAD: u64 = 4_096;
/// Most slots of a lane that are looked at before the next append.
const LOOK: usize = 256;
/// The pauses after a slot could not be read.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// The least interval between two reports of refused records.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A slot of the journal, behind the time of its transaction. The queue keeps the records of a project in the order of
/// these keys, over all lanes: a transaction that builds on another one is not older. The time decides nothing else.
type Key = (u64, Lane, Seq);

/// One lane on its way to the event log.
struct Ahead {
    progress: LaneProgress,
    /// The first slot that was not looked at.
    next: Seq,
    /// The next slot could not be read. It is read again at this time.
    again: Option<Instant>,
    /// Number of failures in a row to read it.
    failures: u32,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was published, or may be sent at once.
    Busy,
    /// Something waits until this time.
    Waits(Instant),
    /// Every settled slot is published.
    Idle,
}

/// Carries one journal to its site's stream.
pub(super) struct Carrier {
    site: SiteId,
    refdb: RefDb,
    eventlog: Arc<dyn EventLog>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
    bugs: InjectedBugs,
    queue: Queue<Key>,
    lanes: BTreeMap<Lane, Ahead>,
    /// When a refusal of records was reported last.
    told: Option<Instant>,
}

impl Carrier {
    /// Begins at the published marks of a journal of `site`.
    pub(super) fn new(context: &NodeContext, site: SiteId, source: &dyn Source) -> Self {
        let NodeContext { refdb, eventlog, entropy, observer, bugs, .. } = context.clone();
        let ahead = |mark| Ahead { progress: LaneProgress::from(mark), next: mark, again: None, failures: 0 };
        let lanes = source.lanes().into_iter().map(|(lane, mark)| (lane, ahead(mark))).collect();
        let queue = Queue::new(Arc::clone(&entropy));
        Self { site, refdb, eventlog, entropy, observer, bugs, queue, lanes, told: None }
    }

    /// The published mark of each lane, in the order of the lanes.
    pub(super) fn marks(&self) -> Vec<(Lane, Seq)> {
        self.lanes.iter().map(|(lane, ahead)| (*lane, ahead.progress.mark())).collect()
    }

    /// Whether one of these published marks, one per lane, is above this carrier's own.
    pub(super) fn is_behind(&self, published: &[Seq]) -> bool {
        self.marks().iter().zip(published).any(|((_, own), other)| own < other)
    }

    /// Looks at settled slots that are new, and makes one append.
    pub(super) async fn step(&mut self, source: &dyn Source) -> Step {
        let looked = self.look(source).await;
        let chosen = self.queue.choose(Instant::now());
        if chosen.is_empty() {
            let reads = self.lanes.values().filter_map(|ahead| ahead.again).min();
            let turn = self.queue.next_turn(Instant::now());
            return match turn.into_iter().chain(reads).min() {
                Some(_) if looked => Step::Busy,
                Some(at) => Step::Waits(at),
                None if looked => Step::Busy,
                None => Step::Idle,
            };
        }
        match self.loaded(source, chosen).await {
            Some(records) => self.append(records).await,
            None => self.queue.failed(Instant::now()),
        }
        Step::Busy
    }

    /// Adds the settled slots that were not looked at. Returns whether there were any.
    async fn look(&mut self, source: &dyn Source) -> bool {
        let mut looked = false;
        for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
            let Some(ahead) = self.lanes.get(&lane) else { continue };
            if ahead.again.is_some_and(|at| at > Instant::now()) {
                continue;
            }
            let before = ahead.next;
            let why = self.look_at(source, lane).await.err();
            let Some(ahead) = self.lanes.get_mut(&lane) else { continue };
            looked |= before != ahead.next;
            match why {
                None => (ahead.again, ahead.failures) = (None, 0),
                Some(why) => {
                    ahead.failures += 1;
                    let pause = Backoff::nth(self.entropy.as_ref(), FIRST_PAUSE, LAST_PAUSE, ahead.failures);
                    ahead.again = Some(Instant::now() + pause);
                    self.observer.failed("publish", &why);
                }
            }
        }
        looked
    }

    /// Looks at some slots of one lane. A slot that cannot be read stops its lane, and no other.
    async fn look_at(&mut self, source: &dyn Source, lane: Lane) -> Result<(), PublishError> {
        let Some(ahead) = self.lanes.get_mut(&lane) else { return Ok(()) };
        let room = (ahead.progress.mark().0 + LOOK_AHEAD).saturating_sub(ahead.next.0);
        let limit = LOOK.min(usize::try_from(room).unwrap_or(LOOK));
        for (seq, what) in source.settled(lane, ahead.next, limit).await? {
            match what {
                Unpublished::Poisoned => drop(ahead.progress.done(seq)),
                Unpublished::Committed(bytes) => {
                    let bytes = match bytes {
                        Some(bytes) => bytes,
                        None => load(&self.refdb, &source.slot(lane, seq)).await?,
                    };
                    let key = (committed_at(&bytes), lane, seq);
                    self.queue.push(key, record(bytes).map_err(PublishError::Unreadable)?);
                }
            }
            ahead.next = seq.next();
        }
        Ok(())
    }

    /// Loads the chosen records that are not in memory. None if one of them cannot be loaded now.
    async fn loaded(&self, source: &dyn Source, chosen: Vec<(Key, Option<Record>)>) -> Option<Vec<(Key, Record)>> {
        let mut records = Vec::with_capacity(chosen.len());
        for (key @ (_, lane, seq), known) in chosen {
            let record = match known {
                Some(record) => Ok(record),
                None => self.load(&source.slot(lane, seq)).await,
            };
            match record {
                Ok(record) => records.push((key, record)),
                Err(why) => {
                    self.observer.failed("publish", &why);
                    return None;
                }
            }
        }
        Some(records)
    }

    async fn load(&self, slot: &Slot) -> Result<Record, PublishError> {
        record(load(&self.refdb, slot).await?).map_err(PublishError::Unreadable)
    }

    async fn append(&mut self, records: Vec<(Key, Record)>) {
        let started = Instant::now();
        let (keys, records): (Vec<Key>, Vec<Record>) = records.into_iter().unzip();
        let answers = match self.eventlog.append(&self.site, &records).await {
            Ok(answers) => answers,
            Err(why) => {
                self.queue.failed(Instant::now());
                self.observer.failed("publish", &why);
                return;
            }
        };
        crate::base::faults::failpoint::reach("publish.appended");
        let answers = match self.bugs.has(InjectedBug::MarkPassesRefused) {
            true => answers.into_iter().map(|_| Ok(())).collect(),
            false => answers,
        };
        let answered = self.queue.answered(Instant::now(), &keys, answers);
        self.report(&answered, started.elapsed());
        for (_, lane, seq) in answered.done {
            if let Some(ahead) = self.lanes.get_mut(&lane) {
                ahead.progress.done(seq);
            }
        }
    }

    fn report(&mut self, answered: &Answered<Key>, took: Duration) {
        self.observer.published(answered.done.len(), took);
        for ((_, lane, seq), why) in &answered.given_up {
            let what = format!("slot {seq} of lane {lane}: {why}; other nodes read it from the journal");
            self.observer.failed("publish", &what);
        }
        let Some(why) = &answered.why else { return };
        self.observer.publish_refused(answered.refused, answered.repeats);
        // A stream that throttles answers often. One line per interval is enough.
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            self.observer.failed("publish", &format!("the event log did not take {} records: {why}", answered.refused));
        }
    }
}

/// The commit time of a transaction or of its locator. Zero if the bytes are neither: the time orders records only.
fn committed_at(bytes: &[u8]) -> u64 {
    match Locator::decode(bytes) {
        Ok(Some(locator)) => locator.committed_at_ms,
        Ok(None) | Err(_) => Transaction::decode(bytes).map_or(0, |transaction| transaction.committed_at_ms),
    }
}
