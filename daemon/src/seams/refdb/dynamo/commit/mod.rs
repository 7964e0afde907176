//! The commit point: one `TransactWriteItems`, and the meaning of its cancellation.
//!
//! The items stand in a fixed order (slot, commands, directories, operator lock), because DynamoDB gives its reasons by
//! position. Each reason carries the item that it met, so a refusal needs no second read. The request token is derived
//! from the transaction id, so a copy that arrives after the first one landed gets the same answer as the first one.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put, ReturnValuesOnConditionCheckFailure as Return, TransactWriteItem, Update,
};
use bytes::Bytes;
use lockstep_proto::{Command, RefKey, TxnId};
use sha2::{Digest, Sha256};

use super::Tables;
use super::conditions::lock_is_held;
use super::error::{classify, incomplete};
use super::items::{self, number, text};
use super::keys::Key;
use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::refdb::rules::{self, Writes};
use crate::seams::refdb::{CommitAnswer, CommitRequest, Obstacle, RefDbError, SlotState};

/// Sends one copy of a well-formed request.
pub(super) async fn send(
    client: &Client,
    tables: &Tables,
    request: &CommitRequest,
) -> Result<CommitAnswer, RefDbError> {
    let call = client
        .transact_write_items()
        .client_request_token(token(&request.transaction.id))
        .set_transact_items(Some(writes(tables, request)?));
    match call.send().await {
        Ok(_) => Ok(CommitAnswer::Committed),
        Err(error) => match reasons(&error) {
            Some(reasons) => read_reasons(request, reasons),
            None if in_progress(&error) => Ok(CommitAnswer::Conflict),
            None => Err(classify(&error)),
        },
    }
}

/// The request token of a transaction: at most 36 characters, one per transaction.
fn token(id: &TxnId) -> String {
    hex::encode(&Sha256::digest(id.to_string())[..16])
}

/// Whether another copy of this transaction is in progress.
fn in_progress(error: &SdkError<TransactWriteItemsError>) -> bool {
    matches!(error.as_service_error(), Some(TransactWriteItemsError::TransactionInProgressException(_)))
}

/// The reasons of a cancelled transaction, by the position of their items.
pub(super) fn reasons(error: &SdkError<TransactWriteItemsError>) -> Option<&[CancellationReason]> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => Some(cancelled.cancellation_reasons()),
        _ => None,
    }
}

/// Whether the condition of this item failed.
pub(super) fn condition_failed(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}

fn writes(tables: &Tables, request: &CommitRequest) -> Result<Vec<TransactWriteItem>, RefDbError> {
    let put = put_slot(tables, &request.transaction.id, &request.encoded)?;
    let writes = Writes::from(request);
    let steps = updates(tables, &writes, move_ref)?;
    let lock = request.lock_token.as_deref().map(|token| lock_is_held(tables, token)).transpose()?;
    Ok(std::iter::once(put).chain(steps).chain(lock).collect())
}

/// One update per command, then one per directory.
pub(super) fn updates(
    tables: &Tables,
    writes: &Writes<'_>,
    step: impl Fn(UpdateBuilder, &Writes<'_>, &Command) -> UpdateBuilder,
) -> Result<Vec<TransactWriteItem>, RefDbError> {
    let at = |key: &RefKey| update(tables, &Key::of_ref(writes.project, key));
    let commands = writes.commands.iter().map(|command| step(at(&command.key), writes, command));
    let directories = writes.directories.iter().map(|name| mark_directory(at(&RefKey::Ref(name.clone()))));
    commands.chain(directories).map(item).collect()
}

/// Wraps an update as an item of a transaction.
pub(super) fn item(update: UpdateBuilder) -> Result<TransactWriteItem, RefDbError> {
    Ok(TransactWriteItem::builder().update(update.build().map_err(incomplete)?).build())
}

/// The write of a slot, if the slot is empty, as an item of a transaction.
pub(super) fn put_slot(tables: &Tables, id: &TxnId, encoded: &Bytes) -> Result<TransactWriteItem, RefDbError> {
    let put = Put::builder()
        .table_name(&tables.journal)
        .set_item(Some(items::committed(id, encoded)))
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(Return::AllOld);
    Ok(TransactWriteItem::builder().put(put.build().map_err(incomplete)?).build())
}

/// Moves a ref that no transaction has locked. A created ref loses a mark that its condition allows.
fn move_ref(update: UpdateBuilder, writes: &Writes<'_>, command: &Command) -> UpdateBuilder {
    let by = match (writes.loosens, rules::creates(command)) {
        (true, _) => "SET ver = :ver, val = :val, txn = :txn, dir = :txn",
        (false, true) => "SET ver = :ver, val = :val, txn = :txn REMOVE dir",
        (false, false) => "SET ver = :ver, val = :val, txn = :txn",
    };
    on_predecessor(moved(update, writes.txn, command, by), writes, command, "attribute_not_exists(lck)")
}

/// Gives a ref the version, value and transaction of the command, by an expression that uses `:ver`, `:val` and `:txn`.
pub(super) fn moved(update: UpdateBuilder, txn: &TxnId, command: &Command, by: &str) -> UpdateBuilder {
    update
        .update_expression(by)
        .expression_attribute_values(":ver", number(command.version.0))
        .expression_attribute_values(":val", text(&command.new))
        .expression_attribute_values(":txn", text(txn))
}

/// Adds the condition of a command: its predecessor is still in place, `free` holds, and a created ref's name is not a
/// directory, or was freed.
pub(super) fn on_predecessor(
    update: UpdateBuilder,
    writes: &Writes<'_>,
    command: &Command,
    free: &str,
) -> UpdateBuilder {
    let freed = command.key.as_ref_name().and_then(|name| writes.freed.get(name));
    let (update, directory) = match freed {
        _ if !rules::creates(command) => (update, ""),
        None => (update, " AND attribute_not_exists(dir)"),
        Some(loosened) => (
            update.expression_attribute_values(":freed", text(loosened)),
            " AND (attribute_not_exists(dir) OR dir = :freed)",
        ),
    };
    match &command.predecessor {
        None => update.condition_expression(format!("attribute_not_exists(ver) AND {free}{directory}")),
        Some(predecessor) => update
            .condition_expression(format!("ver = :over AND val = :oval AND txn = :otxn AND {free}{directory}"))
            .expression_attribute_values(":over", number(command.version.0.saturating_sub(1)))
            .expression_attribute_values(":oval", text(&command.old))
            .expression_attribute_values(":otxn", text(predecessor)),
    }
}

/// Marks a name as a directory. The name must be neither live nor locked. A mark raises no version.
pub(super) fn mark_directory(update: UpdateBuilder) -> UpdateBuilder {
    update
        .update_expression("SET dir = :yes")
        .condition_expression("(attribute_not_exists(val) OR val = :absent) AND attribute_not_exists(lck)")
        .expression_attribute_values(":yes", AttributeValue::Bool(true))
        .expression_attribute_values(":absent", text("absent"))
}

pub(super) fn update(tables: &Tables, key: &Key) -> UpdateBuilder {
    Update::builder()
        .table_name(&tables.refs)
        .set_key(Some(key.attributes()))
        .return_values_on_condition_check_failure(Return::AllOld)
}

/// The answer to a cancelled transaction, which did nothing.
fn read_reasons(request: &CommitRequest, reasons: &[CancellationReason]) -> Result<CommitAnswer, RefDbError> {
    let id = &request.transaction.id;
    let Some((slot, rest)) = reasons.split_first() else { return Err(undecided(reasons)) };
    let (lock, rest) = match rest.split_last() {
        Some((lock, rest)) if request.lock_token.is_some() => (Some(lock), rest),
        Some(_) | None => (None, rest),
    };
    let Met { own, mut obstacles } = met(&Writes::from(request), rest)?;
    obstacles.extend(lock.filter(|lock| condition_failed(lock)).map(|_| Obstacle::LockNotHeld));
    let slot = if condition_failed(slot) {
        items::slot_state(slot.item())?
    } else if own {
        SlotState::Committed(id.clone(), request.encoded.clone())
    } else {
        SlotState::Empty
    };
    match rules::refusal(id, slot, obstacles) {
        Some(refused) => Ok(refused),
        None if conflicts(reasons) => Ok(CommitAnswer::Conflict),
        None => Err(undecided(reasons)),
    }
}

/// Whether another write to one of the items was in progress.
pub(super) fn conflicts(reasons: &[CancellationReason]) -> bool {
    reasons.iter().any(|reason| reason.code() == Some("TransactionConflict"))
}

/// The findings of a cancelled transaction in ref items.
pub(super) struct Met {
    /// Whether an item carries the trace of this very transaction.
    pub(super) own: bool,
    /// The obstacles in the items.
    pub(super) obstacles: Vec<Obstacle>,
}

/// Reads the reasons for `writes`, in the order of their items.
pub(super) fn met(writes: &Writes<'_>, reasons: &[CancellationReason]) -> Result<Met, RefDbError> {
    let (commands, directories) = (writes.commands.len(), writes.directories.len());
    if reasons.len() != commands + directories {
        let why = format!("cancelled with {} reasons, which is not the number of items", reasons.len());
        return Err(RefDbError::NotNow(why));
    }
    let (of_commands, of_directories) = reasons.split_at(commands);
    let mut met = Met { own: false, obstacles: Vec::new() };
    for (command, reason) in writes.commands.iter().zip(of_commands).filter(|(_, reason)| condition_failed(reason)) {
        let item = reason.item().map(|item| items::ref_item(&command.key, item)).transpose()?;
        met.own |= item.as_ref().and_then(|item| item.txn.as_ref()) == Some(writes.txn);
        met.obstacles.extend(rules::obstacles(writes, command, item.as_ref(), InjectedBugs::default()));
    }
    for (name, reason) in writes.directories.iter().zip(of_directories).filter(|(_, reason)| condition_failed(reason)) {
        let key = RefKey::Ref(name.clone());
        let item = reason.item().map(|item| items::ref_item(&key, item)).transpose()?;
        met.obstacles.extend(rules::directory_obstacle(name, item.as_ref(), InjectedBugs::default()));
    }
    Ok(met)
}

/// The error for a cancelled transaction for which no item gives a reason that the caller could act on.
pub(super) fn undecided(reasons: &[CancellationReason]) -> RefDbError {
    const PASSING: [&str; 3] = ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"];
    let told = |reason: &CancellationReason| reason.code().is_some_and(|code| code != "None");
    let list: Vec<String> = reasons.iter().filter(|reason| told(reason)).map(tell).collect();
    let why = format!("transaction cancelled: {}", list.join("; "));
    let lasting = |reason: &CancellationReason| reason.code().is_some_and(|code| !PASSING.contains(&code));
    if reasons.iter().any(|reason| told(reason) && lasting(reason)) {
        return RefDbError::Broken(why);
    }
    RefDbError::NotNow(why)
}

fn tell(reason: &CancellationReason) -> String {
    format!("{} {}", reason.code().unwrap_or_default(), reason.message().unwrap_or_default())
}

#[cfg(test)]
mod tests;
