//! Recovers, at a start, which requests this node had committed and not durably remembered when it ended.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use lockstep_proto::{DecodeError, Seq, Slot, Transaction};
use tokio::time::{sleep, timeout};

use super::stages::Stages;
use crate::seams::refdb::{RefDbError, SlotState};
use crate::state::context::NodeContext;

/// Time limit for the long forms of all slots.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before a long form is asked for again.
const PAUSE: Duration = Duration::from_millis(200);
/// Number of slots that are read concurrently.
const SLOTS: usize = 8;

/// Reads the slots of this node's earlier incarnations from its durable low-water marks on. Every request below a mark
/// was noted before the mark could pass it: at its commit, when its transaction was applied or skipped, or here. The
/// earlier incarnations must be frozen and poisoned, so that nothing can come into their slots any more. At a start no
/// mark may have moved yet. This waits a moment for long forms that the blob store does not give; then the memory has
/// gaps.
pub(super) async fn recover_requests(stages: &Arc<Stages>) -> Result<(), RefDbError> {
    let applied = stages.state.low_water.durable();
    let NodeContext { site, node, refdb, .. } = &stages.context;
    let mut slots: Vec<Slot> = Vec::new();
    for earlier in refdb.incarnations.incarnations(site).await? {
        if earlier.id.node != *node || earlier.may_commit() {
            continue;
        }
        let ends: Vec<Seq> = earlier.settled.iter().map(|settled| Seq(settled.0 + earlier.window)).collect();
        for (lane, end) in earlier.id.lanes(ends) {
            let from = applied.get(&lane).copied().unwrap_or_default();
            slots.extend((from.0..end.0).map(|seq| lane.slot(Seq(seq))));
        }
    }
    let journal = &refdb.journal;
    let reads = slots.iter().map(|slot| journal.slot(slot)).collect::<Vec<_>>();
    let mut states = pin!(stream::iter(reads).buffered(SLOTS));
    // Only locators are kept: there may be very many slots.
    let mut long_forms: Vec<Bytes> = Vec::new();
    while let Some(state) = states.try_next().await? {
        let SlotState::Committed(_, bytes) = state else { continue };
        match Transaction::decode(&bytes) {
            Ok(transaction) => stages.state.requests.note(&transaction),
            Err(DecodeError::Elsewhere(_)) => long_forms.push(bytes),
            Err(_) => stages.state.requests.skipped_some(),
        }
    }
    let noted = async {
        for bytes in &long_forms {
            loop {
                match stages.context.long_forms.read(bytes).await {
                    Ok(transaction) => break stages.state.requests.note(&transaction),
                    Err(error) if error.is_absent() || error.is_bad() => break stages.state.requests.skipped_some(),
                    Err(_) => sleep(PAUSE).await,
                }
            }
        }
    };
    if timeout(PATIENCE, noted).await.is_err() {
        stages.state.requests.skipped_some();
    }
    Ok(())
}
