//! The single writer of one project, for transactions from the event log and the journal.
//!
//! The writer takes the transactions that arrived, plans them against the version map, and applies as many as it can in
//! one unit. It parks the rest durably, so that the shard's checkpoint may pass them. A parked transaction waits for
//! its missing parts, and blocks only the successors of its own refs. If the wait takes too long, the missing parts are
//! fetched from the journal. Beyond the bounds on parked transactions, the project takes a state transfer. A
//! transaction that cannot be right is compared with the journal (`doubt`).
//!
//! | file | idea |
//! |---|---|
//! | `fetch` | when missing parts are fetched, and when the project takes a state transfer |
//! | `holds_mark` | when the mark may pass a transaction that closes a project or frees a name |
//! | `journal_check` | compares what cannot be right, or waits for too long, with the journal |
//! | `long_form` | reads the whole transaction of a locator |
//! | `unsigned` | records without a good signature, which only the journal can vouch for |

mod fetch;
mod holds_mark;
mod journal_check;
mod long_form;
mod unsigned;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lockstep_proto::{ProjectKey, ProjectName, RefKey, Transaction, TxnId};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::atomic_apply::UnitError;
use super::event::Event;
use super::parked::{Parked, ParkedSet};
use super::plan::{Step, contradiction, plan};
use super::reason::{Contradiction, Doubt, ParkReason, QuarantineReason};
use super::{ApplyLimits, Shared};
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::volume::{Held, HeldKind, RefRecord, StoreError};
use crate::state::materialize::OnMismatch;
use unsigned::Unvouched;

/// The writer of one project.
pub(super) struct Writer {
    name: ProjectName,
    shared: Arc<Shared>,
    limits: ApplyLimits,
    parked: ParkedSet,
    unvouched: Unvouched,
    /// The state transfers that failed one after the other, and the time before which none is begun.
    transfers: (u32, Option<Instant>),
}

/// The records that refs will have once the transactions planned so far are applied.
type Planned = BTreeMap<(ProjectKey, RefKey), RefRecord>;

fn remember(planned: &mut Planned, transaction: &Transaction) {
    for command in &transaction.commands {
        let (version, value, txn) = (command.version, command.new.clone(), transaction.id.clone());
        planned.insert((transaction.project.clone(), command.key.clone()), RefRecord { version, value, txn });
    }
}

/// The outcome of a unit of events.
enum Outcome {
    Applied,
    /// The unit failed, perhaps after some of its events: try them one by one.
    Failed(UnitError),
}

impl Writer {
    pub(super) fn new(name: ProjectName, shared: Arc<Shared>) -> Self {
        let (limits, parked) = (shared.limits, ParkedSet::new(shared.parked.clone()));
        Self { name, shared, limits, parked, unvouched: Unvouched::none(), transfers: (0, None) }
    }

    /// Writes until no event has come for `limits.idle` and none waits, or until the channel is closed.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        loop {
            let wait = if self.is_idle() { self.limits.idle } else { self.limits.patience };
            let mut batch = Vec::new();
            match timeout(wait, events.recv_many(&mut batch, self.limits.batch)).await {
                Ok(0) => return self.let_all_go(),
                Ok(_) => {}
                Err(_) if self.is_idle() => {
                    // The next sender finds the channel closed, and starts a new writer.
                    events.close();
                    while let Some(event) = events.recv().await {
                        batch.push(event);
                    }
                    if batch.is_empty() {
                        return;
                    }
                }
                Err(_) => {}
            }
            self.take(batch.into()).await;
            self.vouch_again().await;
            // Not only in a pause: a busy project may have none.
            self.fetch_what_is_missing().await;
            if self.parked.is_over(self.shared.clock.now_ms(), self.limits.parked_age) && self.may_transfer() {
                self.transfer_state().await;
            }
        }
    }

    /// Whether no event waits for anything.
    fn is_idle(&self) -> bool {
        self.parked.is_empty() && self.unvouched.is_empty()
    }

    /// Applies a batch, and then every parked event that has become ready.
    async fn take(&mut self, mut batch: VecDeque<Event>) {
        loop {
            let vouched = self.vouched(std::mem::take(&mut batch)).await;
            self.apply_all(vouched).await;
            let ready: Vec<TxnId> =
                self.parked.iter().filter(|(_, held)| self.is_ready(held)).map(|(id, _)| id.clone()).collect();
            if ready.is_empty() {
                return;
            }
            for id in ready {
                batch.extend(self.parked.retry(&id).map(|held| held.event));
            }
        }
    }

    /// Whether the predecessors of a parked event are applied now. An event that waits for objects is tried again after
    /// a time instead.
    fn is_ready(&self, held: &Parked) -> bool {
        let transaction = &held.event.transaction;
        if !transaction.is_whole() {
            return false;
        }
        let step = plan(transaction, |key| self.shared.units.versions.version(&transaction.project, key));
        match step {
            Ok(Step::Skip) => true,
            Ok(Step::Apply) => held.reason.ends_with_predecessors() && !held.is_stub,
            Ok(Step::Wait(_)) | Err(_) => false,
        }
    }

    /// Applies the events whose predecessors are applied, in their order of arrival. Skips, parks or doubts the others.
    async fn apply_all(&mut self, events: VecDeque<Event>) {
        let mut unit: Vec<Event> = Vec::new();
        let mut planned = Planned::new();
        let mut skipped: Vec<Event> = Vec::new();
        let mut doubtful: Vec<(Event, Contradiction)> = Vec::new();
        for event in events {
            let same_project = unit.first().is_none_or(|first| first.transaction.project == event.transaction.project);
            if !same_project {
                self.apply(std::mem::take(&mut unit)).await;
                planned.clear();
            }
            if self.is_past(&event.transaction.project) {
                self.skip(event);
                continue;
            }
            let is_long = !event.transaction.is_whole();
            if is_long {
                // One long form at a time is in memory.
                self.apply(std::mem::take(&mut unit)).await;
                planned.clear();
            }
            let Some(event) = self.whole(event).await else { continue };
            match self.plan(&event, &planned) {
                Ok(Step::Skip) => skipped.push(event),
                Ok(Step::Apply) => match self.contradiction(&event, &planned) {
                    Ok(None) => {
                        remember(&mut planned, &event.transaction);
                        unit.push(event);
                    }
                    Ok(Some(why)) => doubtful.push((event, why)),
                    Err(error) => self.park(event, ParkReason::Failed(error.to_string())),
                },
                Ok(Step::Wait(missing)) => self.park(event, ParkReason::Predecessors(missing)),
                Err(error) => self.park(event, ParkReason::Failed(error.to_string())),
            }
            if is_long {
                self.apply(std::mem::take(&mut unit)).await;
                planned.clear();
            }
        }
        self.apply(unit).await;
        for event in skipped {
            match self.plan(&event, &Planned::new()) {
                Ok(Step::Skip) => {
                    self.compare(&event).await;
                    self.empty_if_it_closes(&event.transaction).await;
                    self.skip(event);
                }
                _ => self.park(event, ParkReason::Repeated),
            }
        }
        for (event, why) in doubtful {
            self.doubt(event, Doubt::Contradiction(why)).await;
        }
    }

    fn plan(&self, event: &Event, planned: &Planned) -> Result<Step, StoreError> {
        let project = &event.transaction.project;
        plan(&event.transaction, |key| match planned.get(&(project.clone(), key.clone())) {
            Some(record) => Ok(record.version),
            None => self.shared.units.versions.version(project, key),
        })
    }

    fn contradiction(&self, event: &Event, planned: &Planned) -> Result<Option<Contradiction>, StoreError> {
        let project = &event.transaction.project;
        contradiction(&event.transaction, |key| match planned.get(&(project.clone(), key.clone())) {
            Some(record) => Ok(Some(record.clone())),
            None => self.shared.units.versions.get(project, key),
        })
    }

    /// Applies a unit. If it fails, applies its events one by one, so that only the failing ones wait.
    async fn apply(&mut self, mut unit: Vec<Event>) {
        if unit.is_empty() {
            return;
        }
        if let Outcome::Applied = self.apply_unit(&unit).await {
            unit.iter_mut().for_each(|event| self.applied(event));
            return;
        }
        for mut event in unit {
            match self.apply_unit(std::slice::from_ref(&event)).await {
                Outcome::Applied => self.applied(&mut event),
                Outcome::Failed(error) => self.failed(event, error).await,
            }
        }
    }

    async fn apply_unit(&self, unit: &[Event]) -> Outcome {
        let Some(first) = unit.first() else { return Outcome::Applied };
        let transactions: Vec<_> = unit.iter().map(|event| Arc::clone(&event.transaction)).collect();
        let project = &first.transaction.project;
        if let Err(error) = self.shared.units.apply(project, &transactions, OnMismatch::Stop).await {
            return Outcome::Failed(error);
        }
        for transaction in &transactions {
            self.empty_if_it_closes(transaction).await;
        }
        Outcome::Applied
    }

    fn applied(&mut self, event: &mut Event) {
        self.slot_is_done(&event.transaction);
        self.end_debt(&event.transaction.id);
        self.unpark(&event.transaction.id);
        event.done();
        self.shared.durability.want();
    }

    fn skip(&mut self, mut event: Event) {
        let transaction = Arc::clone(&event.transaction);
        // Something else than an apply brought the refs, and may not have known the request. The mark must not hide it.
        if transaction.is_whole() && !self.shared.low_water.is_done(&transaction.id.slot) {
            self.shared.units.requests.note_missed(&transaction);
        }
        // `Step::Skip` means that every ref of the transaction has this version, or a newer one, here.
        self.slot_is_done(&transaction);
        self.shared.units.observer.skipped(&transaction.site, &transaction.id);
        self.end_debt(&transaction.id);
        self.unpark(&transaction.id);
        event.done();
        self.shared.durability.want();
    }

    async fn failed(&mut self, event: Event, error: UnitError) {
        let transaction = Arc::clone(&event.transaction);
        match error {
            UnitError::Bad(why) => self.doubt(event, Doubt::Bad(why)).await,
            UnitError::Missing(oids) if self.shared.units.bugs.has(InjectedBug::MissingBaseIsBad) => {
                self.quarantine(event, QuarantineReason::Bad(UnitError::Missing(oids).to_string()));
            }
            UnitError::Missing(oids) => self.park(event, ParkReason::Objects(oids)),
            UnitError::NoProject(project) => self.park(event, ParkReason::Project(project)),
            UnitError::Surprise(why) => {
                self.shared.units.observer.failed("apply", &why);
                let keys = transaction.commands.iter().map(|command| command.key.clone()).collect::<Vec<_>>();
                let _ = self.shared.catch_up.keys(&transaction.project, &keys).await;
                self.park(event, ParkReason::DiskDiffers);
            }
            UnitError::Held { .. }
            | UnitError::Unread(_)
            | UnitError::Store(_)
            | UnitError::Git(_)
            | UnitError::Blob(_)
            | UnitError::Peer(_)
            | UnitError::StateMoved(_) => self.park(event, ParkReason::Failed(error.to_string())),
        }
    }

    /// Whether this incarnation of the project is already deleted here. Nothing of it is applied any more.
    fn is_past(&self, project: &ProjectKey) -> bool {
        self.shared.units.versions.is_past(project).unwrap_or(false)
    }

    /// Sets an event aside until it can be applied. An event of a deleted project is skipped, since nobody needs it.
    fn park(&mut self, mut event: Event, reason: ParkReason) {
        if self.is_past(&event.transaction.project) {
            return self.skip(event);
        }
        let id = event.transaction.id.clone();
        if self.parked.has(&id, &reason) {
            // The sweeper offers a parked transaction again and again.
            return event.done();
        }
        self.shared.units.observer.parked(&id, &reason);
        let since_ms = self.parked.since_ms(&event, self.shared.clock.now_ms());
        // A stub is already in the store, with its bytes.
        if !event.bytes.is_empty() {
            let held = Held {
                bytes: event.bytes.clone(),
                kind: HeldKind::Committed,
                project: event.transaction.project.to_string(),
                reason: reason.to_string(),
                waits_for: reason.waits_for(),
                since_ms,
            };
            self.shared.durability.stage(|changes| {
                changes.unpark.retain(|one| *one != id.to_string());
                changes.park.push((id.to_string(), held));
            });
        }
        event.done();
        let next = self.next_fetch(&event, &reason, since_ms);
        self.pass_named(&event.transaction);
        self.parked.put(event, reason, since_ms, next);
    }

    fn unpark(&mut self, id: &TxnId) {
        self.parked.remove(id);
        self.shared.durability.stage(|changes| {
            changes.park.retain(|(one, _)| *one != id.to_string());
            changes.unpark.push(id.to_string());
        });
    }
}

#[cfg(test)]
impl Writer {
    /// The writer of project `p` at a node of tests, with the state of the node.
    fn of_p(context: &crate::state::context::NodeContext) -> (Self, crate::state::context::NodeState) {
        let (applier, state) = super::Applier::of_node(context);
        (Self::new("p".parse().unwrap(), applier.shared), state)
    }
}
