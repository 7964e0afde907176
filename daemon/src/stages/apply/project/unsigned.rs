//! Records of a stream without a good signature, while records must be signed. The journal tells of each whether it was
//! committed, before anything else is done with it: before its project is looked up, its long form is read, or a slot
//! counts as done because of it. So a forged record has no effect but a look into the refdb and a place in quarantine,
//! and both are bounded ([`Signing`](crate::state::signing::Signing)). A look is one read of the slot. For a locator
//! whose slot has nothing, it also reads the sites and the records of incarnations.
//!
//! While the journal does not answer, a record waits in memory, and its reader's checkpoint waits for it: a restart
//! brings it again. It is never parked: a parked record has the name of its transaction, which the forger chooses. It
//! would stand in the place of the true one.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::{Command, Transaction};
use tokio::time::Instant;

use super::Writer;
use super::journal_check::Journal;
use crate::stages::apply::event::Event;
use crate::stages::apply::reason::{Doubt, QuarantineReason};
use crate::stages::ports::CatchUpError;
use crate::state::signing::{NotSigned, Unsigned};

/// Records about which the journal has not answered yet, in their order.
pub(super) struct Unvouched {
    waiting: VecDeque<Event>,
    /// When the journal is asked again.
    next: Instant,
}

impl Unvouched {
    pub(super) fn none() -> Self {
        Self { waiting: VecDeque::new(), next: Instant::now() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Writer {
    /// The events whose signature is good, and the true transactions of the others, in their order.
    pub(super) async fn vouched(&mut self, events: VecDeque<Event>) -> VecDeque<Event> {
        let mut good = VecDeque::with_capacity(events.len());
        for event in events {
            match event.unsigned.clone() {
                None => good.push_back(event),
                // The journal is away. One read at a time finds out when it is back.
                Some(_) if !self.unvouched.is_empty() => self.unvouched.waiting.push_back(event),
                Some(why) => good.extend(self.vouch(event, why).await),
            }
        }
        good
    }

    /// Asks the journal again about the records that wait for it.
    pub(super) async fn vouch_again(&mut self) {
        if !self.unvouched.is_empty() && self.unvouched.next <= Instant::now() {
            let waiting = std::mem::take(&mut self.unvouched.waiting);
            self.take(waiting).await;
        }
    }

    /// Lets the records go that still wait, because this writer ends.
    pub(super) fn let_all_go(&mut self) {
        for event in std::mem::take(&mut self.unvouched.waiting) {
            self.let_go(event, Unsigned::Unseen);
        }
    }

    /// The event, if the journal has the same bytes; the transaction of the journal, if it has others under this id.
    async fn vouch(&mut self, mut event: Event, why: NotSigned) -> Option<Event> {
        let id = event.transaction.id.clone();
        // A forged record that names a slot which is done is told from a copy by its refs: it would move them.
        if self.has_applied(&id) && self.moves_nothing(&event) {
            return self.let_go(event, Unsigned::Repeated);
        }
        if !self.shared.signing.may_look() {
            // After a replaced volume a reader meets many old records at once. Those that move nothing are no alarm.
            let is_old = self.is_past(&event.transaction.project) || self.is_behind(&event);
            return self.let_go(event, if is_old { Unsigned::Repeated } else { Unsigned::Unseen });
        }
        let forged = match self.journal(&id, &event.bytes).await {
            Ok(Journal::Same) => {
                self.shared.signing.ended(Unsigned::True);
                event.unsigned = None;
                return Some(event);
            }
            Ok(Journal::Other(committed)) => return self.true_one(event, why, committed),
            Ok(Journal::Nothing) => self.forged_name(&event).await,
            Err(error) => Err(error),
        };
        match forged {
            Ok(None) => self.let_go(event, Unsigned::Repeated),
            Ok(Some(name)) => {
                let doubt = Doubt::Unsigned(why);
                self.keep_forged(&event, name, &QuarantineReason::NeverCommitted(doubt));
                self.let_go(event, Unsigned::Forged)
            }
            Err(error) => {
                let why = format!("{id} has no good signature, and waits for the journal: {error}");
                self.shared.units.observer.failed("apply", &why);
                self.unvouched.next = Instant::now() + self.limits.patience;
                self.unvouched.waiting.push_back(event);
                None
            }
        }
    }

    /// The name in quarantine of a forged event of which the journal has nothing. None if it may be a late copy. If a
    /// transaction may have been committed under the same id, and been collected, the record is a false copy of it.
    async fn forged_name(&self, event: &Event) -> Result<Option<String>, CatchUpError> {
        let id = &event.transaction.id;
        Ok(match self.is_late_copy(event).await? {
            true => None,
            false if self.shared.catch_up.may_be_late(&id.slot).await? => Some(self.copy_name(event)),
            false => Some(id.to_string()),
        })
    }

    /// Whether an event of which the journal has nothing may be a copy of a collected transaction, and moves nothing
    /// here. A stream may keep a record for longer than the journal keeps its slot, and than its key verifies. The
    /// caller has read the slot before this call.
    async fn is_late_copy(&self, event: &Event) -> Result<bool, CatchUpError> {
        let transaction = &event.transaction;
        // One that is held was compared with the journal when it was held.
        if self.shared.debts.is_held(&transaction.id) || self.is_past(&transaction.project) || self.is_behind(event) {
            return Ok(true);
        }
        // A locator does not say which refs it moves. It is let go, so it moves none.
        Ok(!transaction.is_whole() && self.shared.catch_up.may_be_late(&transaction.id.slot).await?)
    }

    /// Whether an event whose slot is done has no effect here, as far as its record tells.
    fn moves_nothing(&self, event: &Event) -> bool {
        !event.transaction.is_whole() || self.is_past(&event.transaction.project) || self.is_behind(event)
    }

    /// Whether each ref of the event was moved by it here, or is at a newer version.
    fn is_behind(&self, event: &Event) -> bool {
        let (transaction, versions) = (&event.transaction, &self.shared.units.versions);
        let is_past = |command: &Command| {
            let here = versions.get(&transaction.project, &command.key).ok().flatten();
            here.is_some_and(|here| {
                here.version > command.version || here.version == command.version && here.txn == transaction.id
            })
        };
        transaction.is_whole() && transaction.commands.iter().all(is_past)
    }

    /// Keeps the forged record as evidence, and goes on with the transaction that was committed. One of another project
    /// has another writer: the sweeper brings it there.
    fn true_one(&self, mut event: Event, why: NotSigned, committed: Bytes) -> Option<Event> {
        let name = self.copy_name(&event);
        self.keep_forged(&event, name, &QuarantineReason::Differs(Doubt::Unsigned(why)));
        match Transaction::outlined(&committed) {
            Ok(transaction) if transaction.project.name == self.name => {
                self.shared.signing.ended(Unsigned::Forged);
                (event.transaction, event.bytes, event.unsigned) = (Arc::new(transaction), committed, None);
                return Some(event);
            }
            Ok(_) => {}
            Err(error) => {
                self.shared.units.observer.failed("apply", &format!("the slot cannot be decoded: {error}"));
            }
        }
        self.let_go(event, Unsigned::Forged)
    }

    fn keep_forged(&self, event: &Event, name: String, reason: &QuarantineReason) {
        if self.shared.signing.may_keep() {
            self.put_away(event, name, reason);
        }
    }

    /// Tells the reader that the record needs nothing more. Its slot is not done because of it.
    fn let_go(&self, mut event: Event, end: Unsigned) -> Option<Event> {
        self.shared.signing.ended(end);
        event.done();
        self.shared.durability.want();
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use lockstep_proto::{Incarnation, IncarnationId, Lane, Locator, RefValue, Seq, Slot};

    use super::*;
    use crate::seams::volume::{Changes, Held, HeldKind, RefRecord};
    use crate::state::context::creation;
    use crate::state::context::{NodeContext, NodeState};
    use crate::state::signing::AllowanceLimits;

    /// A writer of project `p`.
    fn writer() -> (Writer, NodeState, NodeContext) {
        let context = NodeContext::in_memory();
        let (writer, state) = Writer::of_p(&context);
        (writer, state, context)
    }

    /// An event of a record without a signature, which counts when it is done.
    fn unsigned(transaction: &Transaction, done: &Arc<AtomicUsize>) -> Event {
        let (bytes, transaction, done) = (transaction.encode(), Arc::new(transaction.clone()), Arc::clone(done));
        let done = move || {
            done.fetch_add(1, Ordering::SeqCst);
        };
        let unsigned = Some(NotSigned::Absent);
        Event { transaction, bytes, unsigned, parked_since_ms: None, done: Some(Box::new(done)) }
    }

    /// An event of a locator without a signature.
    fn locator(slot: &Slot, done: &Arc<AtomicUsize>) -> Event {
        let transaction = Transaction { id: slot.txn(0xaa), ..creation(0) };
        let bytes = Locator::of(&transaction, 10, [0; 32]).encode();
        let outline = Arc::new(Transaction::outlined(&bytes).unwrap());
        Event { transaction: outline, bytes, ..unsigned(&transaction, done) }
    }

    fn ends(state: &NodeState) -> Vec<(&'static str, u64)> {
        let all = state.signing.ends().into_iter().filter(|(_, count)| *count > 0);
        all.map(|(end, count)| (end.name(), count)).collect()
    }

    #[tokio::test]
    async fn a_flood_of_forged_records_costs_no_more_than_its_allowance() {
        let (mut writer, state, context) = writer();
        state.signing.limit(AllowanceLimits { burst: 10, one_per: Duration::from_secs(3_600), kept: 4 });
        let done = Arc::new(AtomicUsize::new(0));
        let flood: VecDeque<Event> = (0..100).map(|seq| unsigned(&creation(seq), &done)).collect();
        assert!(writer.vouched(flood).await.is_empty());
        assert_eq!(done.load(Ordering::SeqCst), 100, "its reader does not wait");
        assert_eq!(ends(&state), [("forged", 10), ("unseen", 90)]);
        let slots = (0..100).map(|seq| creation(seq).id.slot);
        assert!(slots.into_iter().all(|slot| !state.low_water.is_done(&slot)), "the sweeper still reads each slot");
        assert!(writer.parked.is_empty());
        tokio::spawn(state.durability.clone().run());
        state.durability.wait_durable().await;
        assert_eq!(context.store.quarantined().unwrap().len(), 4, "evidence, within its bound");
    }

    /// A writer takes transactions of its own project alone, and nothing is removed that another record has parked.
    #[tokio::test]
    async fn a_forged_record_under_the_id_of_a_true_one_of_another_project_is_let_go() {
        let (mut writer, state, context) = writer();
        let committed = Transaction { project: "q#1".parse().unwrap(), ..creation(0) };
        let slot = committed.id.slot.clone();
        context.refdb.refs.seal(&committed.id, &committed.encode()).await.unwrap();
        let held = Held {
            bytes: committed.encode(),
            kind: HeldKind::Committed,
            project: "q#1".to_owned(),
            reason: "repeated".to_owned(),
            waits_for: Vec::new(),
            since_ms: 1,
        };
        let park = vec![(committed.id.to_string(), held)];
        context.store.commit(Changes { park, ..Changes::default() }).await.unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        writer.take([unsigned(&creation(0), &done)].into()).await;
        assert_eq!((ends(&state), done.load(Ordering::SeqCst)), (vec![("forged", 1)], 1));
        assert!(!state.low_water.is_done(&slot) && writer.parked.is_empty());
        tokio::spawn(state.durability.clone().run());
        state.durability.wait_durable().await;
        assert_eq!(context.store.parked(None, 9).unwrap().len(), 1, "the true one still waits in its own project");
    }

    #[tokio::test]
    async fn a_record_whose_slot_is_done_is_let_go_without_a_look() {
        let (mut writer, state, context) = writer();
        state.signing.limit(AllowanceLimits { burst: 0, one_per: Duration::from_secs(3_600), kept: 0 });
        let (done, one) = (Arc::new(AtomicUsize::new(0)), creation(0));
        let (key, value) = (one.commands[0].key.clone(), one.commands[0].new.clone());
        let record = RefRecord { version: lockstep_proto::Version(1), value, txn: one.id.clone() };
        let refs = vec![(one.project.clone(), key, record)];
        context.store.commit(Changes { refs, ..Changes::default() }).await.unwrap();
        state.low_water.done(&one.id.slot);
        assert!(writer.vouched([unsigned(&one, &done)].into()).await.is_empty());
        assert_eq!((ends(&state), done.load(Ordering::SeqCst)), (vec![("repeated", 1)], 1));
    }

    /// A new volume reads all records of a dropped key at once, when it has the refs already.
    #[tokio::test]
    async fn old_records_beyond_the_allowance_are_no_alarm() {
        let (mut writer, state, context) = writer();
        state.signing.limit(AllowanceLimits { burst: 0, one_per: Duration::from_secs(3_600), kept: 0 });
        let (done, old) = (Arc::new(AtomicUsize::new(0)), creation(0));
        let (key, value) = (old.commands[0].key.clone(), old.commands[0].new.clone());
        let newer = RefRecord { version: lockstep_proto::Version(2), value, txn: creation(1).id };
        let refs = vec![(old.project.clone(), key, newer)];
        context.store.commit(Changes { refs, ..Changes::default() }).await.unwrap();
        writer.take([unsigned(&old, &done)].into()).await;
        assert_eq!((ends(&state), done.load(Ordering::SeqCst)), (vec![("repeated", 1)], 1));
        assert!(!state.low_water.is_done(&old.id.slot), "if it was committed, the sweeper brings it");
    }

    #[tokio::test]
    async fn a_forged_record_of_a_slot_that_is_done_is_found() {
        let (mut writer, state, context) = writer();
        let (done, forged) = (Arc::new(AtomicUsize::new(0)), creation(0));
        state.low_water.done(&forged.id.slot);
        writer.take([unsigned(&forged, &done)].into()).await;
        assert_eq!((ends(&state), done.load(Ordering::SeqCst)), (vec![("forged", 1)], 1));
        tokio::spawn(state.durability.clone().run());
        state.durability.wait_durable().await;
        assert_eq!(context.store.quarantined().unwrap().len(), 1);
    }

    /// The slot of a record of a deleted project would count as done, and the sweeper would not read it any more.
    #[tokio::test]
    async fn a_forged_record_of_a_deleted_project_makes_no_slot_done() {
        let (mut writer, state, context) = writer();
        let one = creation(0);
        let past = "state:active#2".parse::<RefValue>().unwrap();
        let gone = RefRecord {
            version: lockstep_proto::Version(3),
            value: past,
            txn: "n.1.0.9.00000000000000bb".parse().unwrap(),
        };
        let key = lockstep_proto::ProjectKey::of_name(&one.project.name);
        let refs = vec![(key, lockstep_proto::RefKey::State, gone)];
        context.store.commit(Changes { refs, ..Changes::default() }).await.unwrap();
        assert!(writer.is_past(&one.project));
        let done = Arc::new(AtomicUsize::new(0));
        writer.take([unsigned(&one, &done)].into()).await;
        assert!(!state.low_water.is_done(&one.id.slot));
        assert_eq!((ends(&state), done.load(Ordering::SeqCst)), (vec![("repeated", 1)], 1));
    }

    /// The slot and the long form of a collected transaction are gone. A stream may keep its record for longer.
    #[tokio::test]
    async fn a_locator_of_a_collected_slot_is_let_go_and_one_that_was_never_committed_is_found() {
        let (mut writer, state, context) = writer();
        let record = context.open_incarnation().await;
        context.refdb.incarnations.mark(&record.site, &record.id, &[Seq(5)], &[Seq(5)]).await.unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        for seq in [3, 7] {
            let slot = record.id.lane(Lane::at(0)).slot(Seq(seq));
            writer.take([locator(&slot, &done)].into()).await;
            assert!(!state.low_water.is_done(&slot));
        }
        assert_eq!((ends(&state), done.load(Ordering::SeqCst)), (vec![("repeated", 1), ("forged", 1)], 2));
    }

    /// Otherwise a forger who names one makes no alarm. The records of forgotten incarnations are gone, too.
    #[tokio::test]
    async fn a_locator_of_an_incarnation_that_never_was_is_forged() {
        let (mut writer, state, context) = writer();
        let record = context.open_incarnation().await;
        let incarnations = &context.refdb.incarnations;
        incarnations.mark(&record.site, &record.id, &[Seq(5)], &[Seq(5)]).await.unwrap();
        let numbered = |number| IncarnationId { number: Incarnation(number), ..record.id.clone() };
        let other = IncarnationId { node: "never-was".parse().unwrap(), ..record.id.clone() };
        let slots = [
            numbered(999_999).lane(Lane::at(0)).slot(Seq(0)),
            numbered(0).lane(Lane::at(0)).slot(Seq(0)),
            other.lane(Lane::at(0)).slot(Seq(0)),
            record.id.lane(Lane::at(1)).slot(Seq(0)),
        ];
        let done = Arc::new(AtomicUsize::new(0));
        for slot in &slots {
            writer.take([locator(slot, &done)].into()).await;
        }
        assert_eq!((ends(&state), done.load(Ordering::SeqCst)), (vec![("forged", 4)], 4));
        incarnations.freeze(&record.site, &record.id).await.unwrap();
        incarnations.drained(&record.site, &record.id, &[Seq(5)]).await.unwrap();
        incarnations.forget_incarnations(&record.site, std::slice::from_ref(&record.id)).await.unwrap();
        writer.take([locator(&record.id.lane(Lane::at(0)).slot(Seq(3)), &done)].into()).await;
        assert_eq!((ends(&state), done.load(Ordering::SeqCst)), (vec![("repeated", 1), ("forged", 4)], 5));
    }
}
