//! Recalls, at a start, which requests this node had committed and not durably remembered when it ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use lockstep_proto::{LaneId, Seq, Slot, Transaction};

use super::stages::Stages;
use crate::seams::refdb::{IncarnationRecord, RefDbError, SlotState};

/// Number of slots that are read concurrently.
const SLOTS: usize = 8;

/// Reads the slots of this node's earlier incarnations from the low-water marks that its volume had at the start. What
/// is below a mark was applied in the same durable steps in which its requests were remembered. The incarnations are
/// drained, so nothing can come into their slots any more.
pub(super) async fn requests(
    stages: &Arc<Stages>,
    current: &IncarnationRecord,
    applied: &BTreeMap<LaneId, Seq>,
) -> Result<(), RefDbError> {
    let mut slots: Vec<Slot> = Vec::new();
    for earlier in stages.context.refdb.registry.incarnations(&current.site).await? {
        if earlier.id.node != current.id.node || earlier.id == current.id {
            continue;
        }
        let ends: Vec<Seq> = earlier.settled.iter().map(|settled| Seq(settled.0 + earlier.window)).collect();
        for (lane, end) in earlier.id.lanes(ends) {
            let from = applied.get(&lane).copied().unwrap_or_default();
            slots.extend((from.0..end.0).map(|seq| lane.slot(Seq(seq))));
        }
    }
    let journal = &stages.context.refdb.journal;
    let reads = slots.iter().map(|slot| journal.slot(slot)).collect::<Vec<_>>();
    let states: Vec<SlotState> = stream::iter(reads).buffered(SLOTS).try_collect().await?;
    for state in states {
        if let SlotState::Committed(_, bytes) = state
            && let Ok(transaction) = Transaction::decode(&bytes)
        {
            stages.state.requests.note(&transaction);
        }
    }
    Ok(())
}
