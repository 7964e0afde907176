//! The inbox: what other nodes' Gerrits announced, until this node's Gerrit has confirmed it.
//!
//! A record of a stream is in the node's store before the checkpoint passes it, and which ones were received is durable in
//! the same step: so each is here once, however often it is read. What is here is known in memory without its body; the
//! bodies are in the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::announcement::{ForwardedEvent, NextEventsRequest, Origin};
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::{Announcement, AnnouncementId, NameError, NodeId, ProjectName, Record, SiteId};
use tokio::time::Instant;

use super::decide::{Needs, Stamp, is_applied, overtakes};
use super::received::{Received, Taken};
use super::{EventLimits, Events, Strand};
use crate::plant::Plant;
use crate::sessions::{Sessions, ending};
use crate::volume::{Mailbox, NodeStore, StoreError};

/// Most bytes in one answer, but for a single event.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How often what waits is looked at while a bridge waits.
const LOOK: Duration = Duration::from_millis(50);
/// How long it is remembered which announcements of an origin were received: longer than any stream keeps records.
const REMEMBER_MS: u64 = 400 * 24 * 3_600 * 1_000;
/// Entries that are read from the store at once at the start.
const PAGE: usize = 256;

/// What is in the inbox.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The next number.
    number: u64,
    entries: BTreeMap<u64, Entry>,
    /// The entries of each strand, in the order in which they are heard.
    strands: BTreeMap<Strand, VecDeque<u64>>,
    received: BTreeMap<Origin, Received>,
    bytes: usize,
    sessions: Sessions,
    /// What was dropped since the start.
    dropped: u64,
}

/// An event, but for what it says.
#[derive(Debug)]
struct Entry {
    id: AnnouncementId,
    strand: Strand,
    /// None for an event that is about no project.
    needs: Option<Needs>,
    change: Option<u64>,
    /// The bridge's id; none when only a newer release can read it.
    event_id: Option<String>,
    bytes: usize,
    since_ms: u64,
    /// When the session got it.
    handed: Option<Instant>,
}

impl Entry {
    fn stamp(&self) -> Stamp<'_> {
        Stamp { origin: &self.id.origin, seq: self.id.seq, needs: self.needs.as_ref() }
    }

    /// Whether the session has it, and may be at it still.
    fn is_handed(&self, lease: Duration) -> bool {
        self.handed.is_some_and(|at| at.elapsed() < lease)
    }
}

impl Inbox {
    /// What a sidecar left that ended.
    pub(super) fn load(store: &dyn NodeStore) -> Result<Self, StoreError> {
        let mut inbox = Self::default();
        for (origin, received) in store.received()? {
            let failed = |why: String| StoreError { op: "read what was received", why: format!("{origin}: {why}") };
            let of: Origin = origin.parse().map_err(|error: NameError| failed(error.to_string()))?;
            inbox.received.insert(of, serde_json::from_str(&received).map_err(|error| failed(error.to_string()))?);
        }
        let mut after = None;
        loop {
            let page = store.mail(Mailbox::Inbox, after, PAGE)?;
            let Some(last) = page.last().map(|(last, _)| *last) else { return Ok(inbox) };
            after = Some(last);
            for (number, letter) in page {
                let Some((since_ms, bytes)) = open_letter(&letter) else { continue };
                match Record::decode(&bytes) {
                    Ok(Record::Announcement(announcement)) => {
                        inbox.put(number, &announcement.id, Some(&announcement), bytes.len(), since_ms);
                    }
                    Ok(Record::Later(id, _)) => inbox.put(number, &id, None, bytes.len(), since_ms),
                    other => tracing::error!(number, ?other, "an event in the inbox cannot be read; it stays there"),
                }
            }
            inbox.number = last + 1;
        }
    }

    /// Puts an event behind everything of its strand that it does not overtake.
    fn put(
        &mut self,
        number: u64,
        id: &AnnouncementId,
        announcement: Option<&Announcement>,
        bytes: usize,
        since_ms: u64,
    ) {
        let strand = announcement.map_or_else(|| Strand::alone(id), Strand::of);
        let needs = announcement.and_then(|one| {
            let project = one.project.clone()?;
            Some(Needs { project, versions: one.needs.clone() })
        });
        let entry = Entry {
            id: id.clone(),
            strand: strand.clone(),
            needs,
            change: announcement.and_then(|one| one.change),
            event_id: announcement.map(|one| one.event_id.clone()),
            bytes,
            since_ms,
            handed: None,
        };
        let order = self.strands.entry(strand).or_default();
        let mut at = order.len();
        while let Some(before) = at.checked_sub(1).and_then(|before| self.entries.get(&order[before]))
            && before.handed.is_none()
            && overtakes(entry.stamp(), before.stamp())
        {
            at -= 1;
        }
        order.insert(at, number);
        self.bytes += bytes;
        self.entries.insert(number, entry);
        self.number = self.number.max(number + 1);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.bytes -= entry.bytes;
        if let Some(order) = self.strands.get_mut(&entry.strand) {
            order.retain(|other| *other != number);
            if order.is_empty() {
                self.strands.remove(&entry.strand);
            }
        }
        Some(entry)
    }

    /// The first event that is more than may wait.
    fn beyond(&self, limits: &EventLimits, now_ms: u64) -> Option<(u64, &'static str)> {
        let (number, oldest) = self.entries.first_key_value()?;
        let age_ms = u64::try_from(limits.age.as_millis()).unwrap_or(u64::MAX);
        let reason = if self.entries.len() > limits.inbox_events {
            "too many wait"
        } else if self.bytes > limits.inbox_bytes {
            "too many bytes wait"
        } else if now_ms.saturating_sub(oldest.since_ms) > age_ms {
            "it waited too long"
        } else {
            return None;
        };
        Some((*number, reason))
    }

    pub(super) fn waiting(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Since when the oldest waits, in milliseconds since 1970.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.entries.values().next().map(|entry| entry.since_ms)
    }

    /// A session asks; what a new one's predecessor had is given again.
    fn enter(&mut self, session: &str) -> Result<(), ApiError> {
        if self.sessions.enter(session, "stream events")? {
            tracing::info!(session, "a Gerrit asks for stream events");
            self.entries.values_mut().for_each(|entry| entry.handed = None);
        }
        Ok(())
    }
}

impl Events {
    /// Takes an announcement of a stream; it is durable with the next step, before the checkpoint of its shard.
    pub(super) fn receive(&self, id: &AnnouncementId, announcement: Option<&Announcement>, bytes: &Bytes) {
        if id.origin.node == self.node || !self.forwards {
            return;
        }
        let now_ms = self.clock.now_ms();
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let received = inbox.received.entry(id.origin.clone()).or_default();
        let taken = received.take(id.seq);
        if taken == Taken::Again {
            return;
        }
        received.last_ms = now_ms;
        let row = (id.origin.to_string(), received.to_json());
        let number = inbox.number;
        let letter = letter(now_ms, bytes);
        // One call: which ones were received is durable together with them.
        self.durability.stage(|changes| {
            changes.received.push(row);
            changes.post.push((Mailbox::Inbox, number, letter));
        });
        inbox.put(number, id, announcement, bytes.len(), now_ms);
        if let Taken::GaveUp(gap) = taken {
            inbox.dropped += gap.end() - gap.start() + 1;
            let what = format!("{} to {} of {}", gap.start(), gap.end(), id.origin);
            self.observer.event_dropped(&what, "they never came");
        }
        self.drop_beyond(&mut inbox, now_ms);
        self.arrived.notify_waiters();
    }

    /// Drops what is more than may wait, and says so.
    fn drop_beyond(&self, inbox: &mut Inbox, now_ms: u64) {
        while let Some((number, reason)) = inbox.beyond(&self.limits, now_ms) {
            let Some(entry) = inbox.remove(number) else { return };
            inbox.dropped += 1;
            self.unpost(number);
            let what = entry.event_id.map_or_else(|| entry.id.to_string(), |id| format!("{id} ({})", entry.id));
            self.observer.event_dropped(&what, reason);
        }
    }

    fn unpost(&self, number: u64) {
        self.durability.stage(|changes| {
            changes.post.retain(|(mailbox, at, _)| (*mailbox, *at) != (Mailbox::Inbox, number));
            changes.unpost.push((Mailbox::Inbox, number));
        });
    }

    /// Drops what has waited too long, and forgets origins of which nothing can come any more; for ever.
    pub async fn grow_old(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let now_ms = self.clock.now_ms();
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            self.drop_beyond(&mut inbox, now_ms);
            let most = self.limits.origins;
            let mut ages: Vec<(u64, Origin)> =
                inbox.received.iter().map(|(origin, received)| (received.last_ms, origin.clone())).collect();
            ages.sort_unstable();
            let surplus = ages.len().saturating_sub(most);
            let old = |at: usize, last_ms: u64| at < surplus || now_ms.saturating_sub(last_ms) > REMEMBER_MS;
            for (at, (last_ms, origin)) in ages.into_iter().enumerate() {
                if old(at, last_ms) {
                    inbox.received.remove(&origin);
                    let origin = origin.to_string();
                    self.durability.stage(|changes| {
                        changes.received.retain(|(of, _)| *of != origin);
                        changes.forget_received.push(origin);
                    });
                }
            }
        }
    }

    /// The next events for the bridge; waits for one as long as it says.
    pub(super) async fn take_next(&self, request: &NextEventsRequest) -> Result<Vec<ForwardedEvent>, ApiError> {
        let until = Instant::now() + Duration::from_millis(request.wait_ms);
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let events = self.hand_out(request)?;
            if !events.is_empty() || Instant::now() >= until {
                return Ok(events);
            }
            if self.ended.is_cancelled() {
                return Err(ending());
            }
            tokio::select! {
                biased;
                () = self.ended.cancelled() => {}
                () = arrived => {}
                () = tokio::time::sleep_until(until.min(Instant::now() + LOOK)) => {}
            }
        }
    }

    fn hand_out(&self, request: &NextEventsRequest) -> Result<Vec<ForwardedEvent>, ApiError> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.enter(&request.session)?;
        let given = self.choose(&inbox, request.most).map_err(|error| ApiError {
            code: RefusalCode::Unavailable,
            message: error.to_string(),
            retry: true,
        })?;
        let now = Instant::now();
        for (number, _) in &given {
            if let Some(entry) = inbox.entries.get_mut(number) {
                entry.handed = Some(now);
            }
        }
        Ok(given.into_iter().map(|(_, event)| event).collect())
    }

    /// What may be heard now, the strands in the order of what waits longest in them.
    fn choose(&self, inbox: &Inbox, most: usize) -> Result<Vec<(u64, ForwardedEvent)>, StoreError> {
        let (mut given, mut bytes) = (Vec::new(), 0);
        let mut looked: BTreeSet<&Strand> = BTreeSet::new();
        let lease = self.limits.lease;
        let waiting = inbox.entries.values().filter(|entry| !entry.is_handed(lease));
        for strand in waiting.map(|entry| &entry.strand) {
            if !looked.insert(strand) {
                continue;
            }
            let order = inbox.strands.get(strand).into_iter().flatten();
            let entries = order.filter_map(|number| Some((*number, inbox.entries.get(number)?)));
            for (number, entry) in entries {
                // What was given may never have been heard: until it is confirmed, nothing of its strand follows it.
                if entry.is_handed(lease) {
                    break;
                }
                if given.len() >= most || (bytes + entry.bytes > ANSWER_BYTES && !given.is_empty()) {
                    return Ok(given);
                }
                if !self.may_be_heard(entry)? {
                    break;
                }
                // What is not durable yet is not given: a crash would give it again after it was confirmed.
                let Some(event) = self.read(number)? else { break };
                bytes += entry.bytes;
                given.push((number, event));
            }
        }
        Ok(given)
    }

    /// Whether what the event speaks of is applied here, and Gerrit's index and caches are as new.
    fn may_be_heard(&self, entry: &Entry) -> Result<bool, StoreError> {
        if entry.event_id.is_none() {
            return Ok(false);
        }
        let Some(needs) = &entry.needs else { return Ok(true) };
        if self.plants.has(Plant::EventBeforeRefs) {
            return Ok(true);
        }
        // In this order: what is applied makes the refresh due before it is visible.
        let is_here =
            is_applied(needs, |project, key| self.table.version(project, key), |project| self.table.is_past(project))?;
        Ok(is_here && self.refreshed.is_refreshed(&needs.project.name, entry.change))
    }

    /// An entry with what it says; none while it is not durable.
    fn read(&self, number: u64) -> Result<Option<ForwardedEvent>, StoreError> {
        let Some(letter) = self.store.letter(Mailbox::Inbox, number)? else { return Ok(None) };
        let announcement = open_letter(&letter).map(|(_, bytes)| Announcement::decode(&bytes));
        match announcement {
            Some(Ok(announcement)) => Ok(Some(forwarded(announcement))),
            other => Err(StoreError { op: "read a stream event", why: format!("number {number}: {other:?}") }),
        }
    }

    /// Removes events that the session confirms, durably.
    pub(super) async fn confirm(&self, session: &str, done: &[String]) -> Result<(), ApiError> {
        let done: BTreeSet<&str> = done.iter().map(String::as_str).collect();
        let confirmed = {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            inbox.enter(session)?;
            // Whether or not this process gave it: a session may outlive the sidecar that it took the event from.
            let is_confirmed = |entry: &Entry| entry.event_id.as_deref().is_some_and(|id| done.contains(id));
            let entries = inbox.entries.iter().filter(|(_, entry)| is_confirmed(entry));
            let numbers: Vec<u64> = entries.map(|(number, _)| *number).collect();
            for number in &numbers {
                inbox.remove(*number);
                self.unpost(*number);
            }
            numbers.len()
        };
        // Also when nothing was left to confirm: it may be removed, and not durably so, by a call that nobody heard the end of.
        self.durability.settle().await;
        self.observer.event_confirmed(confirmed);
        Ok(())
    }

    /// Announcements of a site were trimmed from its stream before this node read them.
    pub(super) fn miss(&self, site: &SiteId) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).dropped += 1;
        self.observer.event_dropped(
            &format!("what was announced at {site} while this node was away"),
            "the stream keeps it no longer",
        );
    }
}

fn forwarded(from: Announcement) -> ForwardedEvent {
    let project: Option<ProjectName> = from.project.map(|project| project.name);
    let origin: NodeId = from.id.origin.node;
    ForwardedEvent { id: from.event_id, kind: from.kind, project, change: from.change, body: from.body, origin }
}

/// An announcement behind the time of its arrival.
fn letter(since_ms: u64, bytes: &Bytes) -> Bytes {
    [&since_ms.to_be_bytes()[..], bytes].concat().into()
}

fn open_letter(letter: &Bytes) -> Option<(u64, Bytes)> {
    let (since_ms, _) = letter.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*since_ms), letter.slice(8..)))
}
