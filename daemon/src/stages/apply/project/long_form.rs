//! Events that arrive as a locator: the whole transaction is read from the blob store before it is planned.

use std::sync::Arc;

use super::Writer;
use crate::stages::apply::event::Event;
use crate::stages::apply::reason::{Doubt, ParkReason};

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
            Err(error) if error.is_absent() && self.shared.low_water.is_done(&event.transaction.id.slot) => {
                self.skip(event);
            }
            Err(error) if error.is_absent() => {
                self.without_long_form(event, ParkReason::Failed(error.to_string())).await
            }
            Err(error) if error.is_bad() => self.doubt(event, Doubt::Bad(error.to_string())).await,
            Err(error) => self.park(event, ParkReason::Failed(error.to_string())),
        }
        None
    }

    /// Handles a locator without a long form. If slot and long form were collected, every node that is registered was
    /// done with the transaction, and this is a late copy. A node that was away meanwhile takes the project's state
    /// from the refdb, because nothing else has the transaction any more. If they were never there, the journal tells.
    async fn without_long_form(&mut self, event: Event, reason: ParkReason) {
        let catch_up = &self.shared.catch_up;
        let id = &event.transaction.id;
        let is_gone = match (catch_up.journal(id).await, catch_up.is_collectable(&id.slot).await) {
            (Ok(None), Ok(is_gone)) => is_gone,
            _ => false,
        };
        if !is_gone {
            return self.doubt(event, Doubt::Parked(reason)).await;
        }
        match catch_up.transfer_state(&event.transaction.project.name).await {
            Ok(()) => self.pass_by(event),
            Err(why) => self.park(event, ParkReason::Failed(why.to_string())),
        }
    }

    /// Lets a late copy go. It says nothing about the low-water mark of its lane, which may be forgotten already.
    fn pass_by(&mut self, mut event: Event) {
        let transaction = Arc::clone(&event.transaction);
        self.shared.units.observer.skipped(&transaction.site, &transaction.id);
        self.unpark(&transaction.id);
        event.done();
        self.shared.durability.want();
    }
}
