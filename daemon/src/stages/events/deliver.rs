//! What may be heard now: given to the bridge, until it confirms.

use std::time::Duration;

use lockstep_proto::announcement::{ForwardedEvent, NextEventsRequest};
use lockstep_proto::bridge::{ApiError, RefusalCode};
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

/// Most bytes in one answer, but for a single event.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How often it is looked at what is due while a bridge waits.
const LOOK: Duration = Duration::from_millis(50);
/// Most orderings that are looked at at once.
pub(super) const LOOKS: usize = 1_024;
/// How many that wait for a move are looked at in turn each time, although nobody said that it came.
pub(super) const UNASKED: usize = 32;

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The events, with their numbers in the inbox.
    pub(super) given: Vec<(u64, ForwardedEvent)>,
    bytes: usize,
    /// How many were held against what is applied here and what Gerrit knows.
    pub(super) looked: usize,
}

/// Whether an event may be heard.
enum Judgement {
    Yes,
    Waits(Need),
    /// Only a newer release can read it.
    Never,
}

impl Events {
    /// The next events for the bridge; waits for one as long as it says.
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

    /// One look: what it costs is bounded, however much waits.
    pub(super) fn hand_out(&self, request: &NextEventsRequest) -> Result<Choice, ApiError> {
        let mut inbox = self.inbox.lock();
        inbox.enter(&request.session)?;
        inbox.end_leases(self.limits.lease);
        self.note_moves(&mut inbox);
        let mut choice = Choice::default();
        self.look_in_turn(&mut inbox, &mut choice);
        let chosen = self.choose(&mut inbox, request.most, &mut choice);
        chosen.map(|()| choice).map_err(|error| ApiError {
            code: RefusalCode::Unavailable,
            message: error.to_string(),
            retry: true,
        })
    }

    /// What moved since the last look is looked at.
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

    /// Asks about the next ones that wait for what nobody tells of.
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

    /// Goes through what is due, those that came first at first. After an error nothing was given.
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

    /// Gives what may be heard of this one's ordering; answers what must be looked at again although nothing happens.
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
            // What was given may never have been heard: until it is confirmed, nothing of its ordering follows it.
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
            // What is not durable yet is not given: a crash would give it again after it was confirmed.
            let Some(event) = self.read(number)? else { return Ok(Some(number)) };
            choice.bytes += entry.bytes;
            choice.given.push((number, event));
            inbox.hand(number, Instant::now());
            at += 1;
        }
        Ok(None)
    }

    /// Whether what the event speaks of is applied here, and Gerrit's index and caches are as new.
    fn judge(&self, entry: &Entry) -> Result<Judgement, StoreError> {
        if entry.event_id.is_none() {
            return Ok(Judgement::Never);
        }
        let Some(needs) = &entry.needs else { return Ok(Judgement::Yes) };
        if self.bugs.has(InjectedBug::EventBeforeRefs) {
            return Ok(Judgement::Yes);
        }
        // In this order: what is applied makes the refresh due before it is visible.
        let version = |project: &_, key: &_| self.versions.version(project, key);
        if let Some(key) = missing(needs, version, |project| self.versions.is_past(project))? {
            return Ok(Judgement::Waits(Need::Move(needs.project.name.clone(), key.clone())));
        }
        Ok(if self.is_refreshed(entry) { Judgement::Yes } else { Judgement::Waits(Need::Refresh) })
    }

    fn is_refreshed(&self, entry: &Entry) -> bool {
        let project = entry.needs.as_ref().map(|needs| &needs.project.name);
        project.is_none_or(|project| self.refreshed.is_refreshed(project, entry.change))
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
        let confirmed = {
            let mut inbox = self.inbox.lock();
            inbox.enter(session)?;
            // Whether or not this process gave it: a session may outlive the sidecar that it took the event from.
            let numbers: Vec<u64> = done.iter().flat_map(|id| inbox.numbers_of(id)).collect();
            let removed = numbers.into_iter().filter(|number| inbox.remove(*number).is_some());
            removed.map(|number| self.unpost(number)).count()
        };
        // Also when nothing was left to confirm: it may be removed, and not durably so, by a call that nobody heard the end of.
        self.durability.settle().await;
        self.observer.event_confirmed(confirmed);
        Ok(())
    }
}

fn forwarded(from: Announcement) -> ForwardedEvent {
    let project: Option<ProjectName> = from.project.map(|project| project.name);
    let origin: NodeId = from.id.origin.node;
    ForwardedEvent { id: from.event_id, kind: from.kind, project, change: from.change, body: from.body, origin }
}
