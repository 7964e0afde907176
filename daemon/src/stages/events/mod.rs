//! The events stage: carries the stream events of each Gerrit to the listeners of all other Gerrits.
//!
//! The bridge posts each stream event of its Gerrit. The sidecar adds the refs and versions that must be applied
//! elsewhere first, stores the event, and appends it to its site's event log beside the transactions. Every other node
//! reads the event there and stores it. It hands the event to its own bridge when those versions are applied and Gerrit
//! has refreshed its index and caches. An event is handed out until it is confirmed, and never at its origin.
//!
//! | file | idea |
//! |---|---|
//! | `outbox` | from the bridge to the event log; an event is durable before the answer |
//! | `inbox` | from the event log into the store; an event is durable before the checkpoint |
//! | `waits` | the move or the refresh that each waiting event needs |
//! | `deliver` | from the inbox to the bridge |
//! | `received` | the set of received announcements: each is delivered once, however often it is read |
//! | `decide` | when an event may be delivered, and which of two comes first: pure functions |
//!
//! Bounds: a full outbox refuses further events. A full inbox drops the events that have waited longest, with an alarm.

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
use lockstep_proto::bridge::ApiError;
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
use crate::seams::eventlog::deliver::Pace;
use crate::seams::volume::{NodeStore, StoreError};
use crate::stages::ports::{Announcements, Refreshed, StreamEvents};
use crate::state::context::{NodeContext, NodeState};
use crate::state::durability::Durability;
use crate::state::version_map::VersionMap;
use inbox::Inbox;
use outbox::Outbox;

/// Bounds of stream events on one node.
#[derive(Clone, Copy, Debug)]
pub struct EventLimits {
    /// Maximum number of events that wait for the event log. Further events are refused.
    pub outbox_events: usize,
    /// Maximum number of bytes of those events. Further events are refused.
    pub outbox_bytes: usize,
    /// Number of ids of events in the event log that are remembered, so that a repeated call makes no second event.
    pub sent: usize,
    /// Maximum number of events that wait for this node's Gerrit. Beyond it, the oldest are dropped with an alarm.
    pub inbox_events: usize,
    /// Maximum number of bytes of those events. Beyond it, the oldest are dropped with an alarm.
    pub inbox_bytes: usize,
    /// How long an event may wait for this node's Gerrit. After that, it is dropped with an alarm.
    pub age: Duration,
    /// How long a session may keep an event without confirming it. After that, the event is handed out again.
    pub lease: Duration,
    /// Maximum number of origins (starts of other nodes) whose received announcements are remembered.
    pub origins: usize,
    /// Maximum number of blocks and ranges, of at most 512 bytes each, that hold the received announcements of all
    /// origins.
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

/// The key of events that are delivered in order: those of one change, of the same refs of a project, or of one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum OrderingKey {
    Change(ProjectName, u64),
    Refs(ProjectName, Vec<RefKey>),
    Node(NodeId),
    /// An event that this release cannot read. It has no order with other events.
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

/// The events stage of one node.
pub struct Events {
    site: SiteId,
    node: NodeId,
    start: u64,
    entropy: Arc<dyn Entropy>,
    origin: OnceLock<Origin>,
    versions: Arc<VersionMap>,
    store: Arc<dyn NodeStore>,
    durability: Durability,
    refreshed: Option<Arc<dyn Refreshed>>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    limits: EventLimits,
    forwards: bool,
    bugs: InjectedBugs,
    ended: CancellationToken,
    open: AtomicBool,
    outbox: Mutex<Outbox>,
    /// The pace at which the event log takes the events of the outbox.
    pace: Mutex<Pace>,
    inbox: Mutex<Inbox>,
    /// The moves that were applied here since the last look at the inbox.
    moves: Mutex<broadcast::Receiver<(ProjectName, RefKey)>>,
    posted: Notify,
    arrived: Notify,
}

impl Events {
    /// Loads the outbox and the inbox from the store. `refreshed` is none if this node has no Gerrit to refresh, and
    /// `limits` if no bridge takes events here; then no events of other nodes are kept.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(
        context: &NodeContext,
        state: &NodeState,
        refreshed: Option<Arc<dyn Refreshed>>,
        limits: Option<EventLimits>,
    ) -> Result<Arc<Self>, StoreError> {
        let NodeContext { site, node, store, clock, entropy, observer, bugs, .. } = context.clone();
        let NodeState { versions, durability, .. } = state.clone();
        Ok(Arc::new(Self {
            site,
            node,
            start: store.facts()?.starts,
            pace: Mutex::new(Pace::new(Arc::clone(&entropy))),
            entropy,
            origin: OnceLock::new(),
            moves: Mutex::new(versions.moves()),
            versions,
            outbox: Mutex::new(Outbox::load(store.as_ref())?),
            inbox: Mutex::new(Inbox::load(store.as_ref())?),
            store,
            durability,
            refreshed,
            clock,
            observer,
            limits: limits.unwrap_or_default(),
            forwards: limits.is_some(),
            bugs,
            ended: context.tasks.cancelled(),
            open: AtomicBool::new(false),
            posted: Notify::new(),
            arrived: Notify::new(),
        }))
    }

    /// Opens the stage for events of this node's Gerrit. The node now knows its commits of earlier starts, so it
    /// can tell which versions an event needs.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// The origin of this node's announcements: the node and its current start.
    fn origin(&self) -> &Origin {
        let (node, start) = (self.node.clone(), self.start);
        self.origin.get_or_init(|| Origin { node, start, life: self.entropy.next() })
    }

    fn check_open(&self) -> Result<(), ApiError> {
        if self.open.load(Ordering::Acquire) && !self.ended.is_cancelled() {
            return Ok(());
        }
        let message = "this sidecar is starting or ending and has taken none of the events; send them again";
        Err(ApiError::not_serving(message))
    }

    /// Counts the events in transit.
    #[must_use]
    pub fn status(&self) -> EventsStatus {
        let unsent = self.outbox.lock().unsent();
        let inbox = self.inbox.lock();
        let now_ms = self.clock.now_ms();
        let oldest_ms = inbox.oldest_ms().map_or(0, |since| now_ms.saturating_sub(since));
        EventsStatus { unsent, waiting: inbox.waiting(), oldest_ms, dropped: inbox.dropped() }
    }

    /// Counts the events of other nodes that name a ref, and that this node's Gerrit has not confirmed.
    #[must_use]
    pub fn waiting_for(&self, project: &ProjectName, key: &RefKey) -> u64 {
        let names =
            |needs: &Needs| needs.project.name == *project && needs.versions.iter().any(|(needed, _)| needed == key);
        let inbox = self.inbox.lock();
        inbox.entries.values().filter(|entry| entry.needs.as_ref().is_some_and(names)).count() as u64
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
