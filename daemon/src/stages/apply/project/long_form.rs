//! Events that arrive as a locator: the whole transaction is read from the blob store before it is planned.

use std::sync::Arc;

use lockstep_proto::TxnId;

use super::Writer;
use crate::stages::apply::event::Event;
use crate::stages::apply::reason::{Doubt, ParkReason};
use crate::stages::ports::CatchUpError;

impl Writer {
    /// The event with its whole transaction. None if the long form cannot be read now: the event is then parked, and
    /// the successors of its refs wait for it. If the blob store has no such long form, or a bad one, the journal
    /// tells what was committed.
    pub(super) async fn whole(&mut self, mut event: Event) -> Option<Event> {
        if event.transaction.is_whole() {
            return Some(event);
        }
        match self.shared.units.long_forms.read(&event.bytes).await {
            Ok(transaction) => {
                event.transaction = Arc::new(transaction);
                return Some(event);
            }
            // The long form is deleted together with its slot, and so after this node was done with it: this is a copy.
            Err(error) if error.is_absent() && self.has_applied(&event.transaction.id) => self.skip(event),
            Err(error) if error.is_absent() => {
                self.doubt(event, Doubt::Parked(ParkReason::Failed(error.to_string()))).await;
            }
            Err(error) if error.is_bad() => self.doubt(event, Doubt::Bad(error.to_string())).await,
            Err(error) => self.park(event, ParkReason::Failed(error.to_string())),
        }
        None
    }

    /// Whether this node has applied a transaction, as far as the marks tell: they also pass one that is held or waits,
    /// if the node's record names it.
    pub(super) fn has_applied(&self, id: &TxnId) -> bool {
        let (is_done, debts) = (self.shared.low_water.is_done(&id.slot), &self.shared.debts);
        is_done && !debts.is_named(id) && !debts.is_held(id)
    }

    /// Handles a locator whose long form and whose slot are both gone. If they were collected, every node that is
    /// registered was done with the transaction, and this is a late copy. A node that was away meanwhile takes the
    /// project's state from the refdb, because nothing else has the transaction any more. If they were never there, it
    /// is quarantined. The caller has read the slot before this call.
    pub(super) async fn without_long_form(&mut self, event: Event, reason: ParkReason) {
        match self.is_covered(&event).await {
            Ok(true) => self.pass_by(event),
            Ok(false) => self.set_aside(event, Doubt::Parked(reason)),
            Err(why) => self.park(event, ParkReason::Failed(why.to_string())),
        }
    }

    /// Whether the slot of an event may have been collected, and the project has the refdb's values now.
    async fn is_covered(&self, event: &Event) -> Result<bool, CatchUpError> {
        let catch_up = &self.shared.catch_up;
        if !catch_up.is_collectable(&event.transaction.id.slot).await? {
            return Ok(false);
        }
        match catch_up.bring_up_to_date(&event.transaction.project.name).await {
            // These refs wait for something else.
            Ok(()) | Err(CatchUpError::Held { .. } | CatchUpError::LeftOut { .. }) => Ok(true),
            Err(why) => Err(why),
        }
    }

    /// Lets a late copy go. It says nothing about the low-water mark: the lane may be forgotten already.
    fn pass_by(&mut self, mut event: Event) {
        let transaction = Arc::clone(&event.transaction);
        self.shared.units.observer.skipped(&transaction.site, &transaction.id);
        self.unpark(&transaction.id);
        self.shared.debts.arrived(&transaction.id);
        event.done();
        self.shared.durability.want();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use lockstep_proto::{Locator, Seq, Transaction};
    use tokio::sync::oneshot;

    use crate::seams::refdb::{CommitRequest, IncarnationRecord};
    use crate::seams::volume::{Changes, Held, HeldKind};
    use crate::state::signing::NotSigned;
    use crate::state::went_back::Evidence;
    use lockstep_proto::rebuild::{LEAP, RefdbIdentity};
    use lockstep_proto::{Incarnation, IncarnationId};

    use crate::stages::apply::Applier;
    use crate::stages::ports::Sink;
    use crate::state::context::{NodeContext, NodeState, creation};

    use super::*;

    /// Offers the locator of slot 3 of the first lane of `record`. Neither the slot nor the long form exists. Returns
    /// the quarantine and the parked transactions, and whether the slot counts as done.
    async fn offer(
        context: &NodeContext,
        record: &IncarnationRecord,
    ) -> (BTreeMap<String, Held>, Vec<(String, Held)>, bool) {
        let (state, applier) = stage(context);
        offer_to(context, record, &state, &applier).await
    }

    fn stage(context: &NodeContext) -> (NodeState, Applier) {
        let (applier, state) = Applier::of_node(context);
        tokio::spawn(state.durability.clone().run());
        (state, applier)
    }

    /// A transaction of one ref in a slot of the first lane of `record`, and its locator.
    fn located(record: &IncarnationRecord, seq: u64) -> (Transaction, Bytes) {
        let slot = record.id.lane(lockstep_proto::Lane::at(0)).slot(Seq(seq));
        let transaction = Transaction { id: slot.txn(0xaa), site: record.site.clone(), ..creation(0) };
        let bytes = Locator::of(&transaction, 10, [0; 32]).encode();
        (transaction, bytes)
    }

    async fn offer_to(
        context: &NodeContext,
        record: &IncarnationRecord,
        state: &NodeState,
        applier: &Applier,
    ) -> (BTreeMap<String, Held>, Vec<(String, Held)>, bool) {
        let (transaction, bytes) = located(record, 3);
        let slot = transaction.id.slot.clone();
        let outline = Arc::new(Transaction::outlined(&bytes).unwrap());
        let (done, is_done) = oneshot::channel();
        applier.offer(outline, bytes, None, Some(Box::new(move || done.send(()).unwrap()))).await;
        is_done.await.unwrap();
        state.durability.wait_durable().await;
        let store = &context.store;
        (store.quarantined().unwrap(), store.parked(None, 9).unwrap(), state.low_water.is_done(&slot))
    }

    #[tokio::test]
    async fn a_transaction_of_a_refdb_that_was_rebuilt_from_this_one_stops_the_node() {
        let context = NodeContext::in_memory();
        let (state, applier) = stage(&context);
        let id = IncarnationId { node: "m".parse().unwrap(), number: Incarnation(2 * LEAP + 1) };
        let record = IncarnationRecord { id, ..context.open_incarnation().await };
        let refdb = RefdbIdentity::first("own".to_owned());
        state.bound.bind(context.store.as_ref(), refdb).await.unwrap();
        let (_, bytes) = located(&record, 3);
        let outline = Arc::new(Transaction::outlined(&bytes).unwrap());
        applier.offer(outline, bytes, Some(NotSigned::Absent), None).await;
        assert_eq!(context.went_back.evidence(), None, "anybody may have written it");
        let (quarantined, parked, _) = offer_to(&context, &record, &state, &applier).await;
        assert!(quarantined.is_empty() && parked.is_empty());
        let evidence = context.went_back.evidence();
        assert!(matches!(evidence, Some(Evidence::Succeeded { .. })), "{evidence:?}");
        context.went_back.clear();
        assert!(context.went_back.is_known(), "a comparison with the old refdb does not refute it");
    }

    #[tokio::test]
    async fn a_locator_that_waits_and_that_the_mark_has_passed_is_no_late_copy() {
        let context = NodeContext::in_memory();
        let record = context.open_incarnation().await;
        let (transaction, encoded) = located(&record, 0);
        let slot = transaction.id.slot.clone();
        let request = CommitRequest {
            transaction,
            encoded: encoded.clone(),
            directories: Vec::new(),
            freed: Default::default(),
            lock_token: None,
        };
        context.refdb.refs.commit(&request).await.unwrap();
        let outline = Transaction::outlined(&encoded).unwrap();
        let (id, project, kind) = (outline.id.to_string(), "p#1".to_owned(), HeldKind::Committed);
        let held = Held { bytes: encoded, kind, project, reason: "x".into(), waits_for: Vec::new(), since_ms: 7 };
        let low_water = vec![(slot.lane.clone(), Seq(1))];
        let changes = Changes { park: vec![(id.clone(), held)], low_water, ..Changes::default() };
        context.store.commit(changes).await.unwrap();
        let (state, applier) = stage(&context);
        applier.resume(context.store.as_ref()).await.unwrap();
        // A project's writer takes events in their order, so the parked one is done before this one.
        offer_to(&context, &record, &state, &applier).await;
        let parked = context.store.parked(None, 9).unwrap();
        assert!(parked.iter().any(|(one, _)| *one == id), "{parked:?}");
        assert!(state.debts.is_named(&outline.id));
    }

    #[tokio::test]
    async fn a_late_copy_of_a_collected_locator_is_passed_by() {
        for forgotten in [false, true] {
            let context = NodeContext::in_memory();
            let record = context.open_incarnation().await;
            let refdb = &context.refdb;
            refdb.incarnations.mark(&record.site, &record.id, &[Seq(5)], &[Seq(5)]).await.unwrap();
            if forgotten {
                refdb.incarnations.freeze(&record.site, &record.id).await.unwrap();
                refdb.incarnations.drained(&record.site, &record.id, &[Seq(5)]).await.unwrap();
                refdb.incarnations.forget_incarnations(&record.site, std::slice::from_ref(&record.id)).await.unwrap();
            }
            let (quarantined, parked, _) = offer(&context, &record).await;
            assert!(quarantined.is_empty() && parked.is_empty(), "{quarantined:?} {parked:?}");
        }
    }

    #[tokio::test]
    async fn a_locator_of_a_slot_that_was_never_used_is_quarantined_and_its_slot_is_not_done() {
        let context = NodeContext::in_memory();
        let record = context.open_incarnation().await;
        context.refdb.incarnations.mark(&record.site, &record.id, &[Seq(3)], &[Seq(3)]).await.unwrap();
        let (quarantined, _, is_done) = offer(&context, &record).await;
        assert!(quarantined.len() == 1 && !is_done, "{quarantined:?}");
    }
}
