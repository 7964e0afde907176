//! The outbox: what this node's Gerrit announced, until it is in the event log.
//!
//! An event is in the node's store before its bridge is answered, and leaves it only after an append of it was answered. What
//! is appended is read from the store, so nothing is in the event log that a crash could make this node forget. Of
//! events that must be heard in their order at most one is in an append: the next one goes when it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::announcement::StreamEvent;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::{Announcement, AnnouncementId, ProjectKey, ProjectName, RefKey, RefValue, Version};

use super::{Events, OrderingKey};
use crate::base::backoff::Backoff;
use crate::base::clock::Entropy;
use crate::seams::eventlog::deliver::append_all;
use crate::seams::eventlog::{EventLog, Record};
use crate::seams::volume::{Mailbox, NodeStore, StoreError};

/// Most announcements in one append: Kinesis takes 500 records.
const BATCH: usize = 400;
/// Most bytes in one append: Kinesis takes 5 MiB.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// How often it is looked whether all is sent, at the end.
const LOOK: Duration = Duration::from_millis(20);

/// What is known of the outbox; the announcements themselves are in the store.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The next number of this life.
    seq: u64,
    /// The next number in the store.
    number: u64,
    /// What is not known to be in the event log, with its size.
    unsent: BTreeMap<u64, usize>,
    /// The latest ids that are.
    sent: BTreeMap<u64, String>,
    /// The ids of all of these.
    ids: BTreeSet<String>,
    /// What was appended, and is still in the store.
    appended: BTreeSet<u64>,
    bytes: usize,
}

impl Outbox {
    /// What a sidecar left that ended.
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
                Err(error) => tracing::error!(number, %error, "an event in the outbox cannot be read; it stays there"),
            }
        }
        Ok(outbox)
    }

    pub(super) fn unsent(&self) -> u64 {
        self.unsent.len() as u64
    }
}

/// An event with all that is known of its project here.
struct Made {
    event: StreamEvent,
    carrier: ProjectName,
    project: Option<ProjectKey>,
    needs: Vec<(RefKey, Version)>,
}

impl Events {
    /// Takes events of this node's Gerrit, and answers when they are durable here.
    ///
    /// # Errors
    /// Nothing was taken, or (only when the volume fails) it is not known.
    pub(super) async fn post(&self, events: Vec<StreamEvent>) -> Result<(), ApiError> {
        self.check_open()?;
        let made: Result<Vec<Made>, ApiError> = events.into_iter().map(|event| self.make(event)).collect();
        self.stage(made?)?;
        self.durability.settle().await;
        self.posted.notify_one();
        Ok(())
    }

    /// What the event's refs are here now is what must be applied elsewhere before it is heard there. The table knows a commit
    /// of this node when its bridge hears of it, also one that cannot be read yet: so it knows what the event speaks of.
    fn make(&self, event: StreamEvent) -> Result<Made, ApiError> {
        let Some(name) = event.project.clone() else {
            let carrier = self.versions.projects().map_err(unreadable)?.into_keys().next();
            let carrier = carrier.ok_or_else(|| {
                let message =
                    format!("event {} cannot be taken yet: this node knows no project; send it again", event.id);
                ApiError { code: RefusalCode::Unavailable, message, retry: true }
            })?;
            return Ok(Made { event, carrier, project: None, needs: Vec::new() });
        };
        let any = ProjectKey { name: name.clone(), incarnation: 0 };
        let state = self.versions.get(&any, &RefKey::State).map_err(unreadable)?;
        let Some((version, RefValue::State(now))) = state.map(|state| (state.version, state.value)) else {
            let message = format!(
                "event {}: field project is {name}, which this node has never heard of, so no other node would hear the \
                 event; create or seed the project, or leave the event out",
                event.id
            );
            // No 404: whoever posts drops what is bad in itself, and this will not get better by asking again.
            return Err(ApiError { code: RefusalCode::Invalid, message, retry: false });
        };
        let project = ProjectKey { name: name.clone(), incarnation: now.incarnation };
        let ahead = self.versions.committed_version(&project, &RefKey::State).map_err(unreadable)?;
        let mut needs = vec![(RefKey::State, version.max(ahead))];
        for name in &event.refs {
            let key = RefKey::Ref(name.clone());
            let version = self.versions.committed_version(&project, &key).map_err(unreadable)?;
            // A ref that was never committed is a local one: no other node gets it.
            needs.extend((version > Version::NONE).then_some((key, version)));
        }
        Ok(Made { event, carrier: name, project: Some(project), needs })
    }

    /// All of them or none.
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
                "{} events wait for the event log already, {} bytes of at most {most_bytes}, {most} events; nothing was \
                 taken: send them again when it answers",
                outbox.unsent.len(),
                outbox.bytes
            );
            return Err(ApiError { code: RefusalCode::Unavailable, message, retry: true });
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

    /// Moves what is durable to the event log, until the node ends and nothing is left.
    pub async fn forward(self: Arc<Self>, eventlog: Arc<dyn EventLog>, entropy: Arc<dyn Entropy>) {
        let mut backoff = Backoff::new(entropy, Duration::from_millis(20), Duration::from_secs(2));
        loop {
            match self.forward_some(eventlog.as_ref()).await {
                Ok(0) if self.ended.is_cancelled() => {
                    if self.unsent() == 0 {
                        return;
                    }
                    // The last ones are not durable yet.
                    tokio::time::sleep(LOOK).await;
                }
                Ok(0) => {
                    tokio::select! {
                        biased;
                        () = self.ended.cancelled() => {}
                        () = self.posted.notified() => {}
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
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

    /// One append; answers how many events are in the event log by it.
    pub(super) async fn forward_some(&self, eventlog: &dyn EventLog) -> Result<usize, String> {
        let batch = self.batch().map_err(|error| error.to_string())?;
        if batch.is_empty() {
            return Ok(0);
        }
        let mut records = batch.iter().map(|(_, _, record)| record.clone()).collect();
        append_all(eventlog, &self.site, &mut records).await?;
        let mut outbox = self.outbox.lock();
        for (number, id, _) in &batch {
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
        Ok(batch.len())
    }

    /// What can be appended now: number, event's id, record.
    fn batch(&self) -> Result<Vec<(u64, String, Record)>, StoreError> {
        let mut outbox = self.outbox.lock();
        let most = BATCH + outbox.appended.len();
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
            bytes += letter.len();
            if bytes > BATCH_BYTES && !batch.is_empty() {
                break;
            }
            let record = Record { partition_key: announcement.carrier.to_string(), data: letter };
            batch.push((number, announcement.event_id, record));
        }
        Ok(batch)
    }

    /// Waits until everything that was taken is in the event log.
    pub async fn forward_rest(&self) {
        while self.unsent() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn unsent(&self) -> u64 {
        self.outbox.lock().unsent()
    }
}

fn unreadable(error: StoreError) -> ApiError {
    ApiError { code: RefusalCode::Unavailable, message: error.to_string(), retry: true }
}
