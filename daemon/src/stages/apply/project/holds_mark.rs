//! When the low-water mark may pass a transaction that this node must take notice of.
//!
//! The mark tells the other nodes that no commit of this node can land any more that did not know the transaction
//! (`membership/barrier.rs`). Two kinds of transactions need that: one takes the writability of a project away, the
//! other loosens the directory mark of a name. This holds also if a catch-up has applied the transaction before its
//! record came: the mark passes it only when the record comes.

use std::sync::Arc;

use lockstep_proto::{ProjectPhase, RefValue, Transaction};

use super::Writer;
use crate::stages::apply::Shared;

/// Whether a transaction takes writability away. The low-water mark passes it only behind
/// [`Writer::empty_if_it_closes`].
pub(super) fn closes(transaction: &Transaction) -> bool {
    let takes_away = |value: &RefValue| matches!(value, RefValue::State(state) if state.phase != ProjectPhase::Active);
    transaction.commands.iter().any(|command| takes_away(&command.new))
}

impl Writer {
    /// Waits for this node's commits in progress if the transaction takes writability away.
    pub(super) async fn empty_if_it_closes(&self, transaction: &Transaction) {
        if closes(transaction) {
            self.shared.quiesce.empty(&self.name).await;
        }
    }

    /// Takes the low-water mark over the slot of a transaction that needs nothing more at this node. The mark waits for
    /// the commits that may rely on a name that the transaction loosens. Nothing else waits for them: neither the
    /// writer nor later commits.
    pub(super) fn slot_is_done(&self, transaction: &Transaction) {
        match transaction.loosened() {
            None => self.shared.low_water.done(&transaction.id.slot),
            Some(name) => {
                self.shared.folders.forget(&transaction.project, name);
                self.shared.done_behind_commits(transaction);
            }
        }
    }
}

impl Shared {
    /// Takes the low-water mark over a slot once every commit has ended that is in progress in its project now. A
    /// crash in between loses this wait. The sweeper then finds the slot, and it begins again.
    fn done_behind_commits(self: &Arc<Self>, transaction: &Transaction) {
        let slot = transaction.id.slot.clone();
        if self.low_water.is_done(&slot) || !self.behind_commits.lock().insert(slot.clone()) {
            return;
        }
        let (shared, inside) = (Arc::clone(self), self.quiesce.those_inside(&transaction.project.name));
        self.tasks.spawn("loosened", async move {
            inside.await;
            shared.low_water.done(&slot);
            shared.behind_commits.lock().remove(&slot);
            shared.durability.want();
            shared.durability.wait_durable().await;
            // A user may be waiting for this mark.
            shared.beat.notify_one();
        });
    }
}
