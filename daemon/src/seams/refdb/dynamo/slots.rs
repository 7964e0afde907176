//! The journal: slots by key, poison, and collection.

use aws_sdk_dynamodb::Client;
use futures::{StreamExt, TryStreamExt};
use lockstep_proto::Slot;

use super::Tables;
use super::error::{Conditional, conditional, get, put_new};
use super::{items, keys};
use crate::seams::refdb::{RefDbError, SlotState};

/// The most deletions of a collection in progress at once. Collection is background work: commits go first.
const DELETIONS: usize = 8;

/// Reads a slot with strong consistency.
pub(super) async fn read(client: &Client, tables: &Tables, slot: &Slot) -> Result<SlotState, RefDbError> {
    items::slot_state(get(client, &tables.journal, keys::slot(slot)).await?.as_ref())
}

/// Poisons a slot if it is empty, and returns the state of the slot.
pub(super) async fn poison(client: &Client, tables: &Tables, slot: &Slot) -> Result<SlotState, RefDbError> {
    match put_new(client, &tables.journal, items::poison(slot)).await? {
        Conditional::Written => Ok(SlotState::Poisoned),
        Conditional::Failed(Some(item)) => items::slot_state(Some(&item)),
        Conditional::Failed(None) => Err(RefDbError::Broken(format!("slot {slot} is occupied, but unreadable"))),
    }
}

/// Removes committed slots. Empty and poisoned slots stay as they are.
pub(super) async fn collect(client: &Client, tables: &Tables, slots: &[Slot]) -> Result<(), RefDbError> {
    let deletions: Vec<_> = slots.iter().map(|slot| remove(client, tables, slot)).collect();
    futures::stream::iter(deletions).buffer_unordered(DELETIONS).try_collect().await
}

async fn remove(client: &Client, tables: &Tables, slot: &Slot) -> Result<(), RefDbError> {
    let call = client
        .delete_item()
        .table_name(&tables.journal)
        .set_key(Some(keys::slot(slot)))
        .condition_expression("attribute_exists(txn)");
    conditional(call.send().await).map(|_| ())
}
