//! The inbox: events of other nodes' Gerrits, until this node's Gerrit has confirmed them.
//!
//! An announcement that was read from a stream is in the node's store before the checkpoint passes it. The set of
//! received announcements becomes durable in the same step, so that each announcement is stored once, however often it
//! is read. Memory holds everything except the bodies, which are in the store.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::announcement::Origin;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::{Announcement, AnnouncementId, Record, SiteId};
use tokio::time::Instant;

use super::decide::{Needs, Stamp, overtakes};
use super::received::Received;
use super::waits::Waits;
use super::{EventLimits, Events, OrderingKey};
use crate::seams::volume::{Mailbox, NodeStore, StoreError};
use crate::state::gerrit_session::Sessions;

/// How long the received announcements of an origin are remembered, in milliseconds. This is longer than any stream
/// keeps records.
const REMEMBER_MS: u64 = 400 * 24 * 3_600 * 1_000;
/// Number of entries per read from the store at the start.
const PAGE: usize = 256;

/// The part of the inbox that is in memory.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The number of the next entry.
    number: u64,
    pub(super) entries: BTreeMap<u64, Entry>,
    /// The entries per ordering key, in the order of their delivery.
    pub(super) orderings: BTreeMap<OrderingKey, VecDeque<u64>>,
    /// The entries by the event ids that the origins' bridges gave.
    ids: BTreeSet<(String, u64)>,
    pub(super) waits: Waits,
    /// The entries that were handed out to the session, in the order of the time at which that happened.
    handed: VecDeque<(Instant, u64)>,
    /// When waiting events were last checked in turn.
    pub(super) turned: Option<Instant>,
    received: BTreeMap<Origin, Received>,
    /// The size of `received`, in blocks and ranges.
    received_size: usize,
    bytes: usize,
    sessions: Sessions,
    /// Number of events dropped since the start.
    dropped: u64,
}

/// An event without its body.
#[derive(Debug)]
pub(super) struct Entry {
    id: AnnouncementId,
    pub(super) ordering: OrderingKey,
    /// None for an event that is about no project.
    pub(super) needs: Option<Needs>,
    pub(super) change: Option<u64>,
    /// The id that the origin's bridge gave; none when only a newer release can read the event.
    pub(super) event_id: Option<String>,
    pub(super) bytes: usize,
    since_ms: u64,
    /// When the session got the event. The session may still be processing it.
    pub(super) handed: Option<Instant>,
}

impl Entry {
    fn stamp(&self) -> Stamp<'_> {
        Stamp { origin: &self.id.origin, seq: self.id.seq, needs: self.needs.as_ref() }
    }
}

impl Inbox {
    /// Loads the entries that an earlier start of the sidecar left in the store.
    pub(super) fn load(store: &dyn NodeStore) -> Result<Self, StoreError> {
        let mut inbox = Self::default();
        inbox.load_received(store)?;
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
                    other => tracing::error!(number, ?other, "unreadable event in the inbox: kept and not delivered"),
                }
            }
            inbox.number = last + 1;
        }
    }

    fn load_received(&mut self, store: &dyn NodeStore) -> Result<(), StoreError> {
        let failed =
            |of: &str, why: &dyn Display| StoreError { op: "read what was received", why: format!("{of}: {why}") };
        let parse = |of: &str| of.parse::<Origin>().map_err(|error| failed(of, &error));
        for (of, row) in store.received()? {
            let received = Received::load(&row).map_err(|error| failed(&of, &error))?;
            self.received.insert(parse(&of)?, received);
        }
        for ((of, block), bits) in store.received_blocks()? {
            let received = self.received.entry(parse(&of)?).or_default();
            received.load_block(block, &bits).map_err(|error| failed(&of, &error))?;
        }
        self.received_size = self.received.values().map(Received::size).sum();
        Ok(())
    }

    /// Notes that an announcement was received. Answers whether this is its first copy.
    fn takes(&mut self, id: &AnnouncementId, now_ms: u64) -> bool {
        let received = self.received.entry(id.origin.clone()).or_default();
        let before = received.size();
        let is_new = received.take(id.seq, now_ms);
        self.received_size = self.received_size + received.size() - before;
        is_new
    }

    /// If `received` exceeds `most` blocks and ranges, gives up the oldest missing numbers in the largest of its sets.
    /// Answers the origin of the numbers, how many they are, and the number below which they lie.
    fn gives_up(&mut self, most: usize) -> Option<(Origin, u64, u64)> {
        if self.received_size <= most {
            return None;
        }
        let (origin, received) = self.received.iter_mut().max_by_key(|(_, received)| received.size())?;
        let before = received.size();
        let (missing, below) = received.give_up_oldest();
        let origin = origin.clone();
        self.received_size = self.received_size + received.size() - before;
        (missing > 0).then_some((origin, missing, below))
    }

    /// Puts an event behind all events of its ordering key that it does not overtake.
    fn put(
        &mut self,
        number: u64,
        id: &AnnouncementId,
        announcement: Option<&Announcement>,
        bytes: usize,
        since_ms: u64,
    ) {
        let ordering = announcement.map_or_else(|| OrderingKey::alone(id), OrderingKey::of);
        let needs = announcement.and_then(|one| {
            let project = one.project.clone()?;
            Some(Needs { project, versions: one.needs.clone() })
        });
        let entry = Entry {
            id: id.clone(),
            ordering: ordering.clone(),
            needs,
            change: announcement.and_then(|one| one.change),
            event_id: announcement.map(|one| one.event_id.clone()),
            bytes,
            since_ms,
            handed: None,
        };
        let order = self.orderings.entry(ordering).or_default();
        let mut at = order.len();
        while let Some(before) = at.checked_sub(1).and_then(|before| self.entries.get(&order[before]))
            && before.handed.is_none()
            && overtakes(entry.stamp(), before.stamp())
        {
            at -= 1;
        }
        order.insert(at, number);
        if at == 0 {
            self.waits.look_at(number);
        }
        self.bytes += bytes;
        self.ids.extend(entry.event_id.clone().map(|id| (id, number)));
        self.entries.insert(number, entry);
        self.number = self.number.max(number + 1);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.bytes -= entry.bytes;
        self.waits.remove(number);
        if let Some(id) = entry.event_id.clone() {
            self.ids.remove(&(id, number));
        }
        if let Some(order) = self.orderings.get_mut(&entry.ordering) {
            let at = order.iter().position(|other| *other == number);
            at.and_then(|at| order.remove(at));
            match order.front() {
                Some(first) if at == Some(0) => self.waits.look_at(*first),
                Some(_) => {}
                None => drop(self.orderings.remove(&entry.ordering)),
            }
        }
        Some(entry)
    }

    /// The numbers of the entries with this event id.
    pub(super) fn numbers_of(&self, event_id: &str) -> Vec<u64> {
        let range = (event_id.to_owned(), 0)..=(event_id.to_owned(), u64::MAX);
        self.ids.range(range).map(|(_, number)| *number).collect()
    }

    /// Notes that an event was handed out to the session.
    pub(super) fn hand(&mut self, number: u64, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.handed = Some(now);
            self.handed.push_back((now, number));
        }
    }

    /// Makes an event due again that the session did not get, or may not have got.
    pub(super) fn take_back(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.handed = None;
            self.waits.look_at(number);
        }
    }

    /// Takes back the events that were handed out longer ago than the lease. They count as not delivered.
    pub(super) fn end_leases(&mut self, lease: Duration) {
        while let Some((at, number)) = self.handed.pop_front_if(|(at, _)| at.elapsed() >= lease) {
            if self.entries.get(&number).is_some_and(|entry| entry.handed == Some(at)) {
                self.take_back(number);
            }
        }
    }

    /// The oldest event and the reason to drop it; none while no limit is exceeded.
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

    /// Since when the oldest event waits, in milliseconds since 1970.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        self.entries.values().next().map(|entry| entry.since_ms)
    }

    /// Admits a session. When it is new, the events that its predecessor did not confirm become due again.
    pub(super) fn enter(&mut self, session: &str) -> Result<(), ApiError> {
        if self.sessions.enter(session, "stream events")? {
            tracing::info!(session, "a new Gerrit session asks for stream events");
            for (_, number) in std::mem::take(&mut self.handed) {
                self.take_back(number);
            }
        }
        Ok(())
    }
}

impl Events {
    /// Takes an announcement that was read from a stream. It becomes durable with the next step, before the checkpoint
    /// of its shard.
    pub(super) fn receive(&self, id: &AnnouncementId, announcement: Option<&Announcement>, bytes: &Bytes) {
        if id.origin.node == self.node || !self.forwards {
            return;
        }
        let now_ms = self.clock.now_ms();
        let mut inbox = self.inbox.lock();
        if !inbox.takes(id, now_ms) {
            return;
        }
        let number = inbox.number;
        let letter = letter(now_ms, bytes);
        self.save_received(&mut inbox, &id.origin, Some((number, letter)));
        inbox.put(number, id, announcement, bytes.len(), now_ms);
        while let Some((origin, missing, below)) = inbox.gives_up(self.limits.received) {
            inbox.dropped = inbox.dropped.saturating_add(missing);
            self.save_received(&mut inbox, &origin, None);
            let what = format!("{missing} announcements of {origin} below number {below}");
            self.observer.event_dropped(&what, "they never came, and too many later ones did");
        }
        self.drop_beyond(&mut inbox, now_ms);
        self.arrived.notify_waiters();
    }

    /// Stages the received announcements of an origin, in one call with the letter: both become durable together, or
    /// neither does.
    fn save_received(&self, inbox: &mut Inbox, origin: &Origin, letter: Option<(u64, Bytes)>) {
        let Some(received) = inbox.received.get_mut(origin) else { return };
        let (saved, of) = (received.save(), origin.to_string());
        self.durability.stage(|changes| {
            changes.post.extend(letter.map(|(number, letter)| (Mailbox::Inbox, number, letter)));
            changes.received_blocks.extend(saved.blocks.into_iter().map(|(block, bits)| ((of.clone(), block), bits)));
            changes.received.extend(saved.row.map(|row| (of, row)));
        });
    }

    /// Drops the events that exceed a limit, and reports each of them.
    fn drop_beyond(&self, inbox: &mut Inbox, now_ms: u64) {
        while let Some((number, reason)) = inbox.beyond(&self.limits, now_ms) {
            let Some(entry) = inbox.remove(number) else { return };
            inbox.dropped += 1;
            self.unpost(number);
            let what = entry.event_id.map_or_else(|| entry.id.to_string(), |id| format!("{id} ({})", entry.id));
            self.observer.event_dropped(&what, reason);
        }
    }

    pub(super) fn unpost(&self, number: u64) {
        self.durability.stage(|changes| {
            changes.post.retain(|(mailbox, at, _)| (*mailbox, *at) != (Mailbox::Inbox, number));
            changes.unpost.push((Mailbox::Inbox, number));
        });
    }

    /// Every five seconds, drops events that have waited too long, and forgets origins from which nothing can arrive
    /// any more. It never returns.
    pub async fn grow_old(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let now_ms = self.clock.now_ms();
            let mut inbox = self.inbox.lock();
            self.drop_beyond(&mut inbox, now_ms);
            let most = self.limits.origins;
            let mut ages: Vec<(u64, Origin)> =
                inbox.received.iter().map(|(origin, received)| (received.last_ms(), origin.clone())).collect();
            ages.sort_unstable();
            let surplus = ages.len().saturating_sub(most);
            let old = |at: usize, last_ms: u64| at < surplus || now_ms.saturating_sub(last_ms) > REMEMBER_MS;
            for (at, (last_ms, origin)) in ages.into_iter().enumerate() {
                if old(at, last_ms) {
                    let size = inbox.received.remove(&origin).map_or(0, |received| received.size());
                    inbox.received_size -= size;
                    let origin = origin.to_string();
                    self.durability.stage(|changes| {
                        changes.received.remove(&origin);
                        changes.received_blocks.retain(|(of, _), _| *of != origin);
                        changes.forget_received.push(origin);
                    });
                }
            }
        }
    }

    /// Reports that announcements of a site were trimmed from its stream before this node read them.
    pub(super) fn miss(&self, site: &SiteId) {
        self.inbox.lock().dropped += 1;
        self.observer.event_dropped(
            &format!("of unknown id and number, announced at {site} while this node was away"),
            "the stream no longer keeps it",
        );
    }
}

/// A letter of the inbox: the time of arrival in milliseconds since 1970 (eight bytes, big-endian), then the
/// announcement.
fn letter(since_ms: u64, bytes: &Bytes) -> Bytes {
    [&since_ms.to_be_bytes()[..], bytes].concat().into()
}

pub(super) fn open_letter(letter: &Bytes) -> Option<(u64, Bytes)> {
    let (since_ms, _) = letter.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*since_ms), letter.slice(8..)))
}
