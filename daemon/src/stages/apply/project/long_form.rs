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
                self.doubt(event, Doubt::Parked(ParkReason::Failed(error.to_string()))).await;
            }
            Err(error) if error.is_bad() => self.doubt(event, Doubt::Bad(error.to_string())).await,
            Err(error) => self.park(event, ParkReason::Failed(error.to_string())),
        }
        None
    }
}
