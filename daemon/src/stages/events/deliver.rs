//! Delivery: hands deliverable events to the bridge, until the bridge confirms them.

use std::time::Duration;

use lockstep_proto::announcement::{ForwardedEvent, NextEventsRequest};
use lockstep_proto::bridge::ApiError;
use lockstep_proto::{Announcement, NodeId, ProjectName};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::Instant;

use super::Events;
use super::decide::missing;
use super::inbox::{Entry, Inbox, open_letter};
use super::waits::Need;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::volume::{Mailbox, StoreError};
use crate::state::gerrit_session::ending;

/// Maximum number of bytes per answer. An answer with a single event may be larger.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Interval at which the inbox is looked at again while a bridge waits.
const LOOK: Duration = Duration::from_millis(50);
/// Maximum number of ordering keys that one look checks.
pub(super) const LOOKS: usize = 1_024;
/// Number of events per look that are checked in turn for their awaited move, although no notification of it came.
pub(super) const UNASKED: usize = 32;

/// The result of one look at the inbox.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The events to hand out, with their numbers in the inbox.
    pub(super) given: Vec<(u64, ForwardedEvent)>,
    bytes: usize,
    /// Number of checks against the applied versions and Gerrit's refreshes.
    pub(super) looked: usize,
}

/// Whether an event may be delivered.
enum Judgement {
    Yes,
    Waits(Need),
    /// Only a newer release can read it.
    Never,
}

impl Events {
    /// The next events for the bridge. Waits for the first one for as long as the request says.
    pub(super) async fn take_next(&self, request: &NextEventsRequest) -> Result<Vec<ForwardedEvent>, ApiError> {
        let until = Instant::now() + Duration::from_millis(request.wait_ms);
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            let given = self.hand_out(request)?.given;
            if !given.is_empty() || Instant::now() >= until {
                return Ok(given.into_iter().map(|(_, event)| event).collect());
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

    /// Takes one look at the inbox. Its cost is bounded, however many events wait.
    pub(super) fn hand_out(&self, request: &NextEventsRequest) -> Result<Choice, ApiError> {
        let mut inbox = self.inbox.lock();
        inbox.enter(&request.session)?;
        inbox.end_leases(self.limits.lease);
        self.note_moves(&mut inbox);
        let mut choice = Choice::default();
        self.look_in_turn(&mut inbox, &mut choice);
        let chosen = self.choose(&mut inbox, request.most, &mut choice);
        chosen.map(|()| choice).map_err(ApiError::unavailable)
    }

    /// Makes the events due whose awaited refs have moved since the last look.
    fn note_moves(&self, inbox: &mut Inbox) {
        let mut moves = self.moves.lock();
        loop {
            match moves.try_recv() {
                Ok((project, key)) => inbox.waits.moved(project, key),
                Err(TryRecvError::Lagged(_)) => inbox.waits.anything_moved(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Checks the next waiting events in turn. This finds refreshes, which are not notified, and moves whose
    /// notification is missing.
    fn look_in_turn(&self, inbox: &mut Inbox, choice: &mut Choice) {
        if inbox.turned.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        inbox.turned = Some(Instant::now());
        inbox.waits.look_in_turn(UNASKED);
        for number in inbox.waits.refreshes_in_turn(LOOKS) {
            choice.looked += 1;
            if inbox.entries.get(&number).is_none_or(|entry| self.is_refreshed(entry)) {
                inbox.waits.look_at(number);
            }
        }
    }

    /// Checks the due events, the oldest first, and hands out those that may be delivered. After an error, nothing is
    /// handed out.
    fn choose(&self, inbox: &mut Inbox, most: usize, choice: &mut Choice) -> Result<(), StoreError> {
        let (mut later, mut end) = (Vec::new(), Ok(()));
        for _ in 0..LOOKS {
            if choice.given.len() >= most || choice.bytes >= ANSWER_BYTES {
                break;
            }
            let Some(number) = inbox.waits.take_due() else { break };
            match self.follow(inbox, number, most, choice) {
                Ok(again) => later.extend(again),
                Err(error) => {
                    later.push(number);
                    choice.given.drain(..).for_each(|(number, _)| inbox.take_back(number));
                    end = Err(error);
                    break;
                }
            }
        }
        later.into_iter().for_each(|number| inbox.waits.look_at(number));
        end
    }

    /// Hands out the events of this event's ordering key that may be delivered. Answers the number of an event that
    /// must be checked again although no notification will come for it.
    fn follow(
        &self,
        inbox: &mut Inbox,
        number: u64,
        most: usize,
        choice: &mut Choice,
    ) -> Result<Option<u64>, StoreError> {
        let Some(ordering) = inbox.entries.get(&number).map(|entry| entry.ordering.clone()) else { return Ok(None) };
        let mut at = 0;
        while let Some(number) = inbox.orderings.get(&ordering).and_then(|order| order.get(at)).copied() {
            let Some(entry) = inbox.entries.get(&number) else { return Ok(None) };
            // An event that was handed out may never have arrived. Until it is confirmed, none of its successors is
            // handed out.
            if entry.handed.is_some() {
                return Ok(None);
            }
            choice.looked += 1;
            match self.judge(entry)? {
                Judgement::Yes => {}
                Judgement::Never => return Ok(None),
                Judgement::Waits(need) => {
                    inbox.waits.wait(number, need);
                    return Ok(None);
                }
            }
            if choice.given.len() >= most || (choice.bytes + entry.bytes > ANSWER_BYTES && !choice.given.is_empty()) {
                return Ok(Some(number));
            }
            // An event that is not durable yet is not handed out: a crash would deliver it again after its
            // confirmation.
            let Some(event) = self.read(number)? else { return Ok(Some(number)) };
            choice.bytes += entry.bytes;
            choice.given.push((number, event));
            inbox.hand(number, Instant::now());
            at += 1;
        }
        Ok(None)
    }

    /// Whether the refs of the event are applied here, and Gerrit has refreshed its index and caches since.
    fn judge(&self, entry: &Entry) -> Result<Judgement, StoreError> {
        if entry.event_id.is_none() {
            return Ok(Judgement::Never);
        }
        let Some(needs) = &entry.needs else { return Ok(Judgement::Yes) };
        if self.bugs.has(InjectedBug::EventBeforeRefs) {
            return Ok(Judgement::Yes);
        }
        // The order matters: a move makes its refresh due before the move becomes visible.
        let version = |project: &_, key: &_| self.versions.version(project, key);
        if let Some(key) = missing(needs, version, |project| self.versions.is_past(project))? {
            return Ok(Judgement::Waits(Need::Move(needs.project.name.clone(), key.clone())));
        }
        Ok(if self.is_refreshed(entry) { Judgement::Yes } else { Judgement::Waits(Need::Refresh) })
    }

    fn is_refreshed(&self, entry: &Entry) -> bool {
        let (Some(refreshed), Some(needs)) = (&self.refreshed, &entry.needs) else { return true };
        refreshed.is_refreshed(&needs.project.name, entry.change)
    }

    /// Reads the event of an entry from the store; none while it is not durable.
    fn read(&self, number: u64) -> Result<Option<ForwardedEvent>, StoreError> {
        let Some(letter) = self.store.letter(Mailbox::Inbox, number)? else { return Ok(None) };
        let announcement = open_letter(&letter).map(|(_, bytes)| Announcement::decode(&bytes));
        match announcement {
            Some(Ok(announcement)) => Ok(Some(forwarded(announcement))),
            other => Err(StoreError { op: "read a stream event", why: format!("number {number}: {other:?}") }),
        }
    }

    /// Removes the events that the session confirms. Returns when that is durable.
    pub(super) async fn confirm(&self, session: &str, done: &[String]) -> Result<(), ApiError> {
        let confirmed = {
            let mut inbox = self.inbox.lock();
            inbox.enter(session)?;
            // An earlier process may have handed the event out: a session may outlive the sidecar that it took the
            // event from.
            let numbers: Vec<u64> = done.iter().flat_map(|id| inbox.numbers_of(id)).collect();
            let removed = numbers.into_iter().filter(|number| inbox.remove(*number).is_some());
            removed.map(|number| self.unpost(number)).count()
        };
        // Wait even when nothing was removed: an earlier call, whose caller hung up, may have removed the same events,
        // and its removal may not be durable yet.
        self.durability.wait_durable().await;
        self.observer.event_confirmed(confirmed);
        Ok(())
    }
}

fn forwarded(from: Announcement) -> ForwardedEvent {
    let project: Option<ProjectName> = from.project.map(|project| project.name);
    let origin: NodeId = from.id.origin.node;
    ForwardedEvent { id: from.event_id, kind: from.kind, project, change: from.change, body: from.body, origin }
}
