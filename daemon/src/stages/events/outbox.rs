//! The outbox: events of this node's Gerrit, until they are in the event log.
//!
//! An event is in the node's store before the bridge is answered, and leaves the store only after its append was
//! acknowledged. Events are appended as read from the store, so the event log has no event that a crash could make this
//! node forget. An append has at most one event per ordering key, and the next one follows after its acknowledgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::announcement::StreamEvent;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::{Announcement, AnnouncementId, ProjectKey, ProjectName, RefKey, RefValue, Version};

use tokio::time::{Instant, sleep_until};

use super::{Events, OrderingKey};
use crate::base::backoff::Backoff;
use crate::seams::eventlog::deliver::Attempted;
use crate::seams::eventlog::{EventLog, EventLogError, Record};
use crate::seams::volume::{Mailbox, NodeStore, StoreError};

/// Number of stored announcements among which those of the next append are chosen.
const LOOK_AHEAD: usize = 1_600;

/// Interval of the checks, at the end of the node, whether all events are sent.
const LOOK: Duration = Duration::from_millis(20);

/// Why a batch of events was not forwarded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The node's own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event log did not take the batch.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
}

/// The part of the outbox that is in memory. The announcements themselves are in the store.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The sequence number of the next announcement of this start of the node.
    seq: u64,
    /// The number of the next announcement in the store.
    number: u64,
    /// The announcements that are not known to be in the event log, with their sizes in bytes.
    unsent: BTreeMap<u64, usize>,
    /// The ids of the latest events that are in the event log.
    sent: BTreeMap<u64, String>,
    /// The ids of all events in `unsent` and `sent`.
    ids: BTreeSet<String>,
    /// The announcements that were appended and are still in the store.
    appended: BTreeSet<u64>,
    bytes: usize,
}

impl Outbox {
    /// Loads the announcements and ids that an earlier start of the sidecar left in the store.
    pub(super) fn load(store: &dyn NodeStore) -> Result<Self, StoreError> {
        let mut outbox = Self::default();
        for (number, id) in store.mail(Mailbox::Sent, None, usize::MAX)? {
            let id = String::from_utf8_lossy(&id).into_owned();
            outbox.ids.insert(id.clone());
            outbox.sent.insert(number, id);
        }
        let letters = store.mail(Mailbox::Outbox, None, usize::MAX)?;
        let last = letters.last().map(|(number, _)| number).max(outbox.sent.keys().last());
        outbox.number = last.map_or(0, |last| last + 1);
        for (number, letter) in letters {
            match Announcement::decode(&letter) {
                Ok(announcement) => {
                    outbox.bytes += letter.len();
                    outbox.unsent.insert(number, letter.len());
                    outbox.ids.insert(announcement.event_id);
                }
                Err(error) => {
                    tracing::error!(number, %error, "ApiError::unavailable event in the outbox: kept and not sent")
                }
            }
        }
        Ok(outbox)
    }

    pub(super) fn unsent(&self) -> u64 {
        self.unsent.len() as u64
    }
}

/// An event that can be appended: its number, its id, and its record.
type Letter = (u64, String, Record);

/// An event with the key of its project and the versions that it needs.
struct Made {
    event: StreamEvent,
    carrier: ProjectName,
    project: Option<ProjectKey>,
    needs: Vec<(RefKey, Version)>,
}

impl Events {
    /// Takes events of this node's Gerrit. Returns when they are durable here.
    ///
    /// # Errors
    /// No event was taken. Only when the volume fails is the outcome unknown.
    pub(super) async fn post(&self, events: Vec<StreamEvent>) -> Result<(), ApiError> {
        self.check_open()?;
        let made: Result<Vec<Made>, ApiError> = events.into_iter().map(|event| self.make(event)).collect();
        self.stage(made?)?;
        self.durability.wait_durable().await;
        self.posted.notify_one();
        Ok(())
    }

    /// Adds the versions that the event needs: those that its refs have here now must be applied at another node before
    /// the event is delivered there. The version map knows a commit of this node by the time that its bridge does, even
    /// if the commit cannot be read yet. So the versions include the commit that the event is about.
    fn make(&self, event: StreamEvent) -> Result<Made, ApiError> {
        let Some(name) = event.project.clone() else {
            let carrier = self.versions.projects().map_err(ApiError::unavailable)?.into_keys().next();
            let carrier = carrier.ok_or_else(|| {
                let message =
                    format!("event {} was not taken: this node knows no project yet; send it again", event.id);
                ApiError::unavailable(message)
            })?;
            return Ok(Made { event, carrier, project: None, needs: Vec::new() });
        };
        let state = self.versions.get(&ProjectKey::of_name(&name), &RefKey::State).map_err(ApiError::unavailable)?;
        let Some((version, RefValue::State(now))) = state.map(|state| (state.version, state.value)) else {
            let message = format!(
                "event {}: field project is {name}, which does not exist at this node, so no other node would deliver \
                 the event; create or seed the project, or leave the event out",
                event.id
            );
            // Not a 404: a bridge drops events that are invalid in themselves, and a retry of this one would not help.
            return Err(ApiError::invalid(message));
        };
        let project = ProjectKey::new(&name, now.incarnation);
        let ahead = self.versions.committed_version(&project, &RefKey::State).map_err(ApiError::unavailable)?;
        let mut needs = vec![(RefKey::State, version.max(ahead))];
        for name in &event.refs {
            let key = RefKey::Ref(name.clone());
            let version = self.versions.committed_version(&project, &key).map_err(ApiError::unavailable)?;
            // A ref that was never committed is local: no other node gets it.
            needs.extend((version > Version::NONE).then_some((key, version)));
        }
        Ok(Made { event, carrier: name, project: Some(project), needs })
    }

    /// Stages all of the events, or none of them. Events whose ids are known already are skipped.
    fn stage(&self, made: Vec<Made>) -> Result<(), ApiError> {
        let announced_at_ms = self.clock.now_ms();
        let mut outbox = self.outbox.lock();
        let mut letters: Vec<(String, Bytes)> = Vec::new();
        for made in made {
            let id = &made.event.id;
            if outbox.ids.contains(id) || letters.iter().any(|(other, _)| other == id) {
                continue;
            }
            let seq = outbox.seq + letters.len() as u64;
            let announcement = Announcement {
                id: AnnouncementId { origin: self.origin().clone(), seq },
                site: self.site.clone(),
                announced_at_ms,
                carrier: made.carrier,
                event_id: id.clone(),
                kind: made.event.kind,
                project: made.project,
                change: made.event.change,
                needs: made.needs,
                body: made.event.body,
            };
            letters.push((announcement.event_id.clone(), announcement.encode()));
        }
        let bytes = letters.iter().map(|(_, letter)| letter.len()).sum::<usize>();
        let (most, most_bytes) = (self.limits.outbox_events, self.limits.outbox_bytes);
        if outbox.unsent.len() + letters.len() > most || outbox.bytes + bytes > most_bytes {
            let message = format!(
                "the outbox is full: {} events ({} bytes) wait for the event log, and at most {most} ({most_bytes} \
                 bytes) may; none of these events was taken; send them again when the event log answers",
                outbox.unsent.len(),
                outbox.bytes
            );
            return Err(ApiError::unavailable(message));
        }
        for (id, letter) in letters {
            let number = outbox.number;
            (outbox.number, outbox.seq) = (number + 1, outbox.seq + 1);
            outbox.bytes += letter.len();
            outbox.unsent.insert(number, letter.len());
            outbox.ids.insert(id);
            self.durability.stage(|changes| changes.post.push((Mailbox::Outbox, number, letter)));
        }
        Ok(())
    }

    /// Appends durable events to the event log, until the node ends and none is left.
    pub async fn forward(self: Arc<Self>, eventlog: Arc<dyn EventLog>) {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy), Duration::from_millis(20), Duration::from_secs(2));
        loop {
            match self.forward_some(eventlog.as_ref()).await {
                Ok(0) if self.ended.is_cancelled() => {
                    if self.unsent() == 0 {
                        return;
                    }
                    // The last events are not durable yet.
                    tokio::time::sleep(LOOK).await;
                }
                Ok(0) => {
                    let second = Instant::now() + Duration::from_secs(1);
                    let until = self.pace.lock().first_turn(Instant::now()).map_or(second, |turn| turn.min(second));
                    tokio::select! {
                        biased;
                        () = self.ended.cancelled() => {}
                        () = self.posted.notified() => {}
                        () = sleep_until(until) => {}
                    }
                }
                Ok(_) => backoff.reset(),
                Err(why) => {
                    self.observer.failed("forward", &why);
                    backoff.wait().await;
                }
            }
        }
    }

    /// Appends one batch. Answers the number of its events that are in the event log now.
    pub(super) async fn forward_some(&self, eventlog: &dyn EventLog) -> Result<usize, ForwardError> {
        let batch = self.batch()?;
        if batch.is_empty() {
            return Ok(0);
        }
        let records: Vec<Record> = batch.iter().map(|(_, _, record)| record.clone()).collect();
        let answers = match eventlog.append(&self.site, &records).await {
            Ok(answers) => answers,
            Err(error) => {
                self.pace.lock().failed(Instant::now());
                return Err(error.into());
            }
        };
        let done = self.answered(batch, &answers);
        self.sent(&done);
        Ok(done.len())
    }

    /// The events that need no append any more.
    fn answered(&self, batch: Vec<Letter>, answers: &[Result<(), EventLogError>]) -> Vec<Letter> {
        let ends = |at: usize| matches!(answers.get(at), Some(Ok(()) | Err(EventLogError::TooLarge { .. })));
        let attempted: Vec<Attempted<'_>> = batch
            .iter()
            .enumerate()
            .map(|(at, (_, _, record))| Attempted {
                group: &record.partition_key,
                bytes: record.data.len(),
                done: ends(at),
            })
            .collect();
        // A batch has one event per ordering key at most, so none can overtake another.
        self.pace.lock().answered(Instant::now(), &attempted, 0);
        for ((_, id, _), answer) in batch.iter().zip(answers) {
            if let Err(why @ EventLogError::TooLarge { .. }) = answer {
                self.observer.event_dropped(id, &why.to_string());
            }
        }
        batch.into_iter().enumerate().filter(|(at, _)| ends(*at)).map(|(_, letter)| letter).collect()
    }

    /// Moves events from the outbox to the memory of sent ones.
    fn sent(&self, batch: &[Letter]) {
        let mut outbox = self.outbox.lock();
        for (number, id, _) in batch {
            let bytes = outbox.unsent.remove(number).unwrap_or(0);
            outbox.bytes -= bytes;
            outbox.appended.insert(*number);
            outbox.sent.insert(*number, id.clone());
            let letter = Bytes::copy_from_slice(id.as_bytes());
            self.durability.stage(|changes| {
                changes.unpost.push((Mailbox::Outbox, *number));
                changes.post.push((Mailbox::Sent, *number, letter));
            });
        }
        while outbox.sent.len() > self.limits.sent {
            let Some((number, id)) = outbox.sent.pop_first() else { break };
            outbox.ids.remove(&id);
            self.durability.stage(|changes| {
                changes.post.retain(|(mailbox, at, _)| (*mailbox, *at) != (Mailbox::Sent, number));
                changes.unpost.push((Mailbox::Sent, number));
            });
        }
        self.observer.forwarded(batch.len());
    }

    /// The events that can be appended now.
    fn batch(&self) -> Result<Vec<Letter>, StoreError> {
        let (mut outbox, pace, now) = (self.outbox.lock(), self.pace.lock(), Instant::now());
        let budget = pace.budget();
        let most = LOOK_AHEAD + outbox.appended.len();
        let letters = self.store.mail(Mailbox::Outbox, None, most)?;
        let end = letters.last().map_or(0, |(last, _)| *last);
        let there: BTreeSet<u64> = letters.iter().map(|(number, _)| *number).collect();
        outbox.appended.retain(|number| there.contains(number) || (there.len() == most && *number > end));
        let (mut batch, mut orderings, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        for (number, letter) in letters {
            if outbox.appended.contains(&number) {
                continue;
            }
            let Ok(announcement) = Announcement::decode(&letter) else { continue };
            if !orderings.insert(OrderingKey::of(&announcement)) {
                continue;
            }
            let record = Record { partition_key: announcement.carrier.to_string(), data: letter };
            if pace.pauses_until(&record.partition_key, now).is_some() {
                continue;
            }
            bytes += record.data.len();
            if !batch.is_empty() && (batch.len() >= budget.records || bytes > budget.bytes) {
                break;
            }
            batch.push((number, announcement.event_id, record));
        }
        Ok(batch)
    }

    /// Waits until all events that were taken are in the event log.
    pub async fn forward_rest(&self) {
        while self.unsent() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn unsent(&self) -> u64 {
        self.outbox.lock().unsent()
    }
}
