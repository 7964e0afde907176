//! Deletes, at a start, the blobs of attempts that were under way when the node's last process ended.

use std::sync::Arc;

use super::stages::Stages;
use crate::seams::refdb::SlotState;
use crate::seams::volume::{BlobsUnderWay, StoreError};

/// The blobs that the last process left. Call it before this process commits anything.
///
/// # Errors
/// The store failed.
pub(super) fn of_last_process(stages: &Arc<Stages>) -> Result<BlobsUnderWay, StoreError> {
    stages.deps.store.blobs_under_way()
}

/// Deletes those whose transaction was not committed. The node's earlier incarnations must be frozen and poisoned, so
/// that no copy of a transaction can be committed any more. If a slot cannot be read or a blob cannot be deleted now,
/// the next start tries again.
pub(super) async fn delete(stages: Arc<Stages>, left: BlobsUnderWay) {
    let (deps, context) = (&stages.deps, &stages.context);
    for (key, txn) in left {
        let is_committed = match &txn {
            // It was never sent.
            None => false,
            Some(txn) => match context.refdb.journal.slot(&txn.slot).await {
                // An empty slot was collected, and its blobs were deleted before it.
                Ok(SlotState::Empty) => true,
                Ok(SlotState::Committed(id, _)) => id == *txn,
                Ok(SlotState::Poisoned) => false,
                Err(error) => {
                    context.observer.failed("left-blobs", &error);
                    continue;
                }
            },
        };
        if context.went_back.is_known() {
            return;
        }
        if !is_committed && let Err(error) = deps.blobs.delete(&key).await {
            context.observer.failed("left-blobs", &format!("unused blob {key} is left: {error}"));
            continue;
        }
        if let Err(error) = deps.store.end_blob(&key) {
            context.observer.failed("left-blobs", &error);
        }
    }
}
