//! Transactions under ref locks: one `TransactWriteItems` per part, and a write of its own for the slot.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::TransactWriteItem;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use bytes::Bytes;
use lockstep_proto::{Command, ProjectKey, RefKey, TxnId};

use super::Tables;
use super::again::Again;
use super::commit::{
    Met, condition_failed, conflicts, item, met, moved, on_predecessor, put_slot, reasons, undecided, update, updates,
};
use super::conditions::lock_is_held;
use super::error::{Conditional, classify, decide_new};
use super::items::{self, text};
use super::keys::Key;
use crate::seams::refdb::rules::{ITEMS, Writes, creates};
use crate::seams::refdb::{CommitAnswer, Part, RefDbError, SlotState};

/// Locks the refs of a part. It needs no request token, because the conditions make a second copy harmless.
pub(super) async fn lock(client: &Client, tables: &Tables, part: &Part) -> Result<CommitAnswer, RefDbError> {
    let writes = Writes::from(part);
    let call = client.transact_write_items().set_transact_items(Some(updates(tables, &writes, lock_ref)?));
    let Err(error) = call.send().await else { return Ok(CommitAnswer::Committed) };
    let Some(reasons) = reasons(&error) else { return Err(classify(&error)) };
    let Met { obstacles, .. } = met(&writes, reasons)?;
    match obstacles.is_empty() {
        false => Ok(CommitAnswer::Refused(obstacles)),
        true if conflicts(reasons) => Ok(CommitAnswer::Conflict),
        true => Err(undecided(reasons)),
    }
}

pub(super) fn lock_ref(update: UpdateBuilder, writes: &Writes<'_>, command: &Command) -> UpdateBuilder {
    let update = update.update_expression("SET lck = :own").expression_attribute_values(":own", text(writes.txn));
    on_predecessor(update, writes, command, "(attribute_not_exists(lck) OR lck = :own)")
}

/// Writes a transaction into its slot if the slot is empty, and returns the state of the slot.
pub(super) async fn seal(
    client: &Client,
    tables: &Tables,
    txn: &TxnId,
    encoded: &Bytes,
) -> Result<SlotState, RefDbError> {
    match decide_new(client, &tables.journal, items::committed(txn, encoded)).await? {
        Conditional::Written => Ok(SlotState::Committed(txn.clone(), encoded.clone())),
        Conditional::Failed(Some(item)) => items::slot_state(Some(&item)),
        Conditional::Failed(None) => Err(RefDbError::Broken(format!("slot {} is occupied, but unreadable", txn.slot))),
    }
}

/// Writes a transaction into its slot, if the slot is empty and the operator lock with this token is held.
pub(super) async fn seal_held(
    client: &Client,
    tables: &Tables,
    txn: &TxnId,
    encoded: &Bytes,
    token: &str,
) -> Result<SlotState, RefDbError> {
    let call = client
        .transact_write_items()
        .transact_items(put_slot(tables, txn, encoded)?)
        .transact_items(lock_is_held(tables, token)?);
    let Err(error) = call.send().await else { return Ok(SlotState::Committed(txn.clone(), encoded.clone())) };
    let Some(reasons) = reasons(&error) else { return Err(classify(&error)) };
    match reasons {
        [slot, _] if condition_failed(slot) => match items::slot_state(slot.item())? {
            SlotState::Empty => Err(RefDbError::Broken(format!("slot {} is occupied, but unreadable", txn.slot))),
            occupied => Ok(occupied),
        },
        [_, lock] if condition_failed(lock) => Ok(SlotState::Empty),
        _ => Err(undecided(reasons)),
    }
}

/// The updates that move the refs of a part and unlock them. A created ref whose lock was taken has no mark, or a freed
/// one. The mark of a name that the part loosens stays while its ref is locked.
pub(super) fn flips(tables: &Tables, part: &Part) -> Vec<UpdateBuilder> {
    const BY: &str = "SET ver = :ver, val = :val, txn = :txn REMOVE lck";
    const CREATED_BY: &str = "SET ver = :ver, val = :val, txn = :txn REMOVE lck, dir";
    const LOOSENED_BY: &str = "SET ver = :ver, val = :val, txn = :txn, dir = :txn REMOVE lck";
    let flip = |command: &Command| {
        let update = update(tables, &Key::of_ref(&part.project, &command.key));
        let by = match (part.loosens, creates(command)) {
            (true, _) => LOOSENED_BY,
            (false, true) => CREATED_BY,
            (false, false) => BY,
        };
        moved(update, &part.txn, command, by).condition_expression("lck = :txn")
    };
    part.commands.iter().map(flip).collect()
}

/// The updates that remove the locks of a transaction from refs.
pub(super) fn releases(tables: &Tables, project: &ProjectKey, txn: &TxnId, keys: &[RefKey]) -> Vec<UpdateBuilder> {
    let release = |key: &RefKey| {
        update(tables, &Key::of_ref(project, key))
            .update_expression("REMOVE lck")
            .condition_expression("lck = :txn")
            .expression_attribute_values(":txn", text(txn))
    };
    keys.iter().map(release).collect()
}

/// Writes the updates whose items still have the lock. An item that has it no more is done, and is left out of the next
/// try.
pub(super) async fn where_locked(client: &Client, updates: Vec<UpdateBuilder>) -> Result<(), RefDbError> {
    for part in updates.chunks(ITEMS) {
        let mut again = Again::default();
        let mut left = part.iter().cloned().map(item).collect::<Result<Vec<TransactWriteItem>, RefDbError>>()?;
        while !left.is_empty() {
            let call = client.transact_write_items().set_transact_items(Some(left.clone()));
            let Err(error) = call.send().await else { break };
            let Some(reasons) = reasons(&error) else { return Err(classify(&error)) };
            if !reasons.iter().any(condition_failed) {
                // In a conflict, another writer does the same at this moment.
                if !conflicts(reasons) || !again.wait().await {
                    return Err(undecided(reasons));
                }
                continue;
            }
            let mut locked = reasons.iter().map(|reason| !condition_failed(reason));
            left.retain(|_| locked.next().unwrap_or(true));
        }
    }
    Ok(())
}
