//! Stream events of Gerrit, from the site where they happen to the listeners of all the others.
//!
//! The bridge posts what its Gerrit's listeners heard; the sidecar notes what must be applied elsewhere first, keeps it, and
//! appends it to its site's event log beside the transactions. Every other node reads it there, keeps it, and gives it to
//! its own bridge when everything that it speaks of can be read there, and Gerrit's index and caches know it. Each is
//! delivered until it is confirmed, and never at its origin.
//!
//! | file | idea |
//! |---|---|
//! | `outbox` | from the bridge to the event log, durable before the answer |
//! | `inbox` | from the event log, durable before the checkpoint |
//! | `waits` | what the events in it wait for |
//! | `deliver` | from the inbox to the bridge |
//! | `received` | which ones were received: each is heard once, however often it is read |
//! | `decide` | when one may be heard, and which of two comes first: pure functions |
//!
//! Bounds: the outbox refuses what is more than it may hold; the inbox drops what has waited longest, with an alarm.

mod decide;
mod deliver;
mod inbox;
mod outbox;
mod received;
mod waits;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::announcement::{AnnounceRequest, EventsDoneRequest, NextEventsRequest, NextEventsResponse, Origin};
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::status::EventsStatus;
use lockstep_proto::{Announcement, AnnouncementId, NodeId, ProjectName, RefKey, SiteId};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

pub use decide::{Needs, Stamp, missing, overtakes};
pub use received::Received;

use crate::base::clock::{Clock, Entropy};
use crate::base::faults::injected_bug::InjectedBugs;
use crate::base::observer::Observer;
use crate::seams::volume::{NodeStore, StoreError};
use crate::stages::ports::{Announcements, Refreshed, StreamEvents};
use crate::state::durability::Durability;
use crate::state::version_map::VersionMap;
use inbox::Inbox;
use outbox::Outbox;

/// Bounds of stream events on one node.
#[derive(Clone, Copy, Debug)]
pub struct EventLimits {
    /// Most events that wait for the event log; what is more is refused.
    pub outbox_events: usize,
    /// Most bytes of them.
    pub outbox_bytes: usize,
    /// Ids of events in the event log that are remembered, so that a repeated call makes no second event.
    pub sent: usize,
    /// Most events that wait for this node's Gerrit; of more, the oldest are dropped with an alarm.
    pub inbox_events: usize,
    /// Most bytes of them.
    pub inbox_bytes: usize,
    /// How long one may wait.
    pub age: Duration,
    /// How long a session may keep one without confirming it. Then its answer counts as lost.
    pub lease: Duration,
    /// Lives of other nodes of which it is remembered what was received.
    pub origins: usize,
    /// Blocks and ranges in which it is remembered, of 512 bytes at most, for all of them together.
    pub received: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            outbox_events: 20_000,
            outbox_bytes: 64 << 20,
            sent: 8_192,
            inbox_events: 50_000,
            inbox_bytes: 256 << 20,
            age: Duration::from_secs(7 * 24 * 3_600),
            lease: Duration::from_secs(120),
            origins: 4_096,
            received: 65_536,
        }
    }
}

/// Stream events that are heard in their order: those of one change, or of the same refs of a project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum OrderingKey {
    Change(ProjectName, u64),
    Refs(ProjectName, Vec<RefKey>),
    Node(NodeId),
    /// Nothing is known of it.
    Alone(AnnouncementId),
}

impl OrderingKey {
    fn of(announcement: &Announcement) -> Self {
        match (&announcement.project, announcement.change) {
            (Some(project), Some(change)) => Self::Change(project.name.clone(), change),
            (Some(project), None) => {
                let refs = announcement.needs.iter().filter(|(key, _)| *key != RefKey::State);
                Self::Refs(project.name.clone(), refs.map(|(key, _)| key.clone()).collect())
            }
            (None, _) => Self::Node(announcement.id.origin.node.clone()),
        }
    }

    fn alone(id: &AnnouncementId) -> Self {
        Self::Alone(id.clone())
    }
}

/// What stream events need of their node.
pub struct EventDependencies {
    /// This site.
    pub site: SiteId,
    /// This node.
    pub node: NodeId,
    /// What is applied here.
    pub versions: Arc<VersionMap>,
    /// Where they are kept.
    pub store: Arc<dyn NodeStore>,
    /// Makes that durable.
    pub durability: Durability,
    /// What Gerrit knows of what is applied.
    pub refreshed: Arc<dyn Refreshed>,
    /// For people.
    pub clock: Arc<dyn Clock>,
    /// Tells this life of the node from others.
    pub entropy: Arc<dyn Entropy>,
    /// Who listens.
    pub observer: Arc<dyn Observer>,
    /// Bounds.
    pub limits: EventLimits,
    /// Whether a bridge takes events here: where none does, none are kept.
    pub forwards: bool,
    /// Injected bugs.
    pub bugs: InjectedBugs,
    /// Cancelled when the node ends.
    pub ended: CancellationToken,
}

/// The stream events of one node.
pub struct Events {
    site: SiteId,
    node: NodeId,
    start: u64,
    entropy: Arc<dyn Entropy>,
    origin: OnceLock<Origin>,
    versions: Arc<VersionMap>,
    store: Arc<dyn NodeStore>,
    durability: Durability,
    refreshed: Arc<dyn Refreshed>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    limits: EventLimits,
    forwards: bool,
    bugs: InjectedBugs,
    ended: CancellationToken,
    open: AtomicBool,
    outbox: Mutex<Outbox>,
    inbox: Mutex<Inbox>,
    /// What was applied here since the last look.
    moves: Mutex<broadcast::Receiver<(ProjectName, RefKey)>>,
    posted: Notify,
    arrived: Notify,
}

impl Events {
    /// Goes on from what the store has.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(parts: EventDependencies) -> Result<Self, StoreError> {
        let store = parts.store;
        Ok(Self {
            site: parts.site,
            node: parts.node,
            start: store.facts()?.starts,
            entropy: parts.entropy,
            origin: OnceLock::new(),
            moves: Mutex::new(parts.versions.moves()),
            versions: parts.versions,
            outbox: Mutex::new(Outbox::load(store.as_ref())?),
            inbox: Mutex::new(Inbox::load(store.as_ref())?),
            store,
            durability: parts.durability,
            refreshed: parts.refreshed,
            clock: parts.clock,
            observer: parts.observer,
            limits: parts.limits,
            forwards: parts.forwards,
            bugs: parts.bugs,
            ended: parts.ended,
            open: AtomicBool::new(false),
            posted: Notify::new(),
            arrived: Notify::new(),
        })
    }

    /// The node knows what it committed in earlier lives: from now on events may say what they speak of.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// This life of the node, as the origin of announcements.
    fn origin(&self) -> &Origin {
        let (node, start) = (self.node.clone(), self.start);
        self.origin.get_or_init(|| Origin { node, start, life: self.entropy.next() })
    }

    fn check_open(&self) -> Result<(), ApiError> {
        if self.open.load(Ordering::Acquire) && !self.ended.is_cancelled() {
            return Ok(());
        }
        let message = "this sidecar takes no events now: it starts, or it ends; nothing was taken".to_owned();
        Err(ApiError { code: RefusalCode::NotServing, message, retry: true })
    }

    /// What is on its way.
    #[must_use]
    pub fn status(&self) -> EventsStatus {
        let unsent = self.outbox.lock().unsent();
        let inbox = self.inbox.lock();
        let now_ms = self.clock.now_ms();
        let oldest_ms = inbox.oldest_ms().map_or(0, |since| now_ms.saturating_sub(since));
        EventsStatus { unsent, waiting: inbox.waiting(), oldest_ms, dropped: inbox.dropped() }
    }
}

#[async_trait]
impl StreamEvents for Events {
    async fn announce(&self, request: AnnounceRequest) -> Result<(), ApiError> {
        self.post(request.events).await
    }

    async fn next(&self, request: NextEventsRequest) -> Result<NextEventsResponse, ApiError> {
        self.take_next(&request).await.map(|events| NextEventsResponse { events })
    }

    async fn done(&self, request: EventsDoneRequest) -> Result<(), ApiError> {
        self.confirm(&request.session, &request.done).await
    }
}

impl Announcements for Events {
    fn take(&self, announcement: &Announcement, bytes: &Bytes) {
        self.receive(&announcement.id, Some(announcement), bytes);
    }

    fn keep(&self, id: &AnnouncementId, bytes: &Bytes) {
        self.receive(id, None, bytes);
    }

    fn missed(&self, site: &SiteId) {
        self.miss(site);
    }
}

#[cfg(test)]
mod tests;
