//! The commit point: one `TransactWriteItems`, and what its cancellation says.
//!
//! The items stand in a fixed order (slot, commands, directories), because DynamoDB gives its reasons by position.
//! Each reason carries the item that it met, so a refusal needs no second read. The request token comes from the
//! transaction id: a copy that arrives after the first one landed is answered like the first one.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put, ReturnValuesOnConditionCheckFailure as Return, TransactWriteItem, Update,
};
use lockstep_proto::{Command, ProjectKey, RefKey, RefName, TxnId};
use sha2::{Digest, Sha256};

use super::Tables;
use super::error::classify;
use super::items::{self, number, text};
use super::keys::Key;
use crate::plant::Plants;
use crate::refdb::rules;
use crate::refdb::{CommitAnswer, CommitRequest, Obstacle, RefDbError, SlotState};

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

/// At most 36 characters, one for each transaction.
fn token(id: &TxnId) -> String {
    hex::encode(&Sha256::digest(id.to_string())[..16])
}

/// Another copy of this transaction is under way.
fn in_progress(error: &SdkError<TransactWriteItemsError>) -> bool {
    matches!(error.as_service_error(), Some(TransactWriteItemsError::TransactionInProgressException(_)))
}

/// The reasons of a cancelled transaction, by position.
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
    let transaction = &request.transaction;
    let put = put_slot(tables, request)?;
    let commands = transaction.commands.iter().map(|command| move_ref(tables, request, command));
    let directories = request.directories.iter().map(|name| mark_directory(tables, &transaction.project, name));
    let updates = commands.chain(directories).map(|update| Ok(TransactWriteItem::builder().update(update?).build()));
    std::iter::once(Ok(TransactWriteItem::builder().put(put).build())).chain(updates).collect()
}

fn put_slot(tables: &Tables, request: &CommitRequest) -> Result<Put, RefDbError> {
    Put::builder()
        .table_name(&tables.journal)
        .set_item(Some(items::committed(&request.transaction.id, &request.encoded)))
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(Return::AllOld)
        .build()
        .map_err(incomplete)
}

fn move_ref(tables: &Tables, request: &CommitRequest, command: &Command) -> Result<Update, RefDbError> {
    let transaction = &request.transaction;
    let update = update(tables, &Key::of_ref(&transaction.project, &command.key))
        .update_expression("SET ver = :ver, val = :val, txn = :txn")
        .expression_attribute_values(":ver", number(command.version.0))
        .expression_attribute_values(":val", text(&command.new))
        .expression_attribute_values(":txn", text(&transaction.id));
    on_predecessor(update, command).build().map_err(incomplete)
}

/// Adds the condition: what the command builds on is still there, no lock, and no directory if it creates.
fn on_predecessor(update: UpdateBuilder, command: &Command) -> UpdateBuilder {
    let directory = if rules::creates(command) { " AND attribute_not_exists(dir)" } else { "" };
    let free = format!("attribute_not_exists(lck){directory}");
    match &command.predecessor {
        None => update.condition_expression(format!("attribute_not_exists(ver) AND {free}")),
        Some(predecessor) => update
            .condition_expression(format!("ver = :over AND val = :oval AND txn = :otxn AND {free}"))
            .expression_attribute_values(":over", number(command.version.0.saturating_sub(1)))
            .expression_attribute_values(":oval", text(&command.old))
            .expression_attribute_values(":otxn", text(predecessor)),
    }
}

/// Marks a name that must not be live. A mark raises no version.
fn mark_directory(tables: &Tables, project: &ProjectKey, name: &RefName) -> Result<Update, RefDbError> {
    update(tables, &Key::of_ref(project, &RefKey::Ref(name.clone())))
        .update_expression("SET dir = :yes")
        .condition_expression("attribute_not_exists(val) OR val = :absent")
        .expression_attribute_values(":yes", AttributeValue::Bool(true))
        .expression_attribute_values(":absent", text("absent"))
        .build()
        .map_err(incomplete)
}

fn update(tables: &Tables, key: &Key) -> UpdateBuilder {
    Update::builder()
        .table_name(&tables.refs)
        .set_key(Some(key.attributes()))
        .return_values_on_condition_check_failure(Return::AllOld)
}

/// A request of the SDK lacks a field.
pub(super) fn incomplete(error: aws_sdk_dynamodb::error::BuildError) -> RefDbError {
    RefDbError::Broken(error.to_string())
}

/// A cancelled transaction did nothing; this says why.
fn read_reasons(request: &CommitRequest, reasons: &[CancellationReason]) -> Result<CommitAnswer, RefDbError> {
    let transaction = &request.transaction;
    if reasons.len() != 1 + transaction.commands.len() + request.directories.len() {
        return Err(RefDbError::NotNow(format!(
            "cancelled, with {} reasons for another number of items",
            reasons.len()
        )));
    }
    let (slot, rest) = reasons.split_at(1);
    let (commands, directories) = rest.split_at(transaction.commands.len());
    let (own, mut obstacles) = met_by_commands(request, commands)?;
    obstacles.extend(met_by_directories(request, directories)?);
    let slot = match slot.iter().find(|reason| condition_failed(reason)) {
        Some(reason) => items::slot_state(reason.item())?,
        None if own => SlotState::Committed(transaction.id.clone(), request.encoded.clone()),
        None => SlotState::Empty,
    };
    match rules::refusal(&transaction.id, slot, obstacles) {
        Some(refused) => Ok(refused),
        None if reasons.iter().any(|reason| reason.code() == Some("TransactionConflict")) => Ok(CommitAnswer::Conflict),
        None => Err(undecided(reasons)),
    }
}

/// What stood against the commands, and whether an item has the trace of this very transaction.
fn met_by_commands(
    request: &CommitRequest,
    reasons: &[CancellationReason],
) -> Result<(bool, Vec<Obstacle>), RefDbError> {
    let (mut own, mut obstacles) = (false, Vec::new());
    let commands = request.transaction.commands.iter().zip(reasons);
    for (command, reason) in commands.filter(|(_, reason)| condition_failed(reason)) {
        let item = reason.item().map(|item| items::ref_item(&command.key, item)).transpose()?;
        own |= item.as_ref().and_then(|item| item.txn.as_ref()) == Some(&request.transaction.id);
        obstacles.extend(rules::obstacles(command, item.as_ref(), Plants::default()));
    }
    Ok((own, obstacles))
}

/// What stood against the marks.
fn met_by_directories(request: &CommitRequest, reasons: &[CancellationReason]) -> Result<Vec<Obstacle>, RefDbError> {
    let mut obstacles = Vec::new();
    let directories = request.directories.iter().zip(reasons);
    for (name, reason) in directories.filter(|(_, reason)| condition_failed(reason)) {
        let key = RefKey::Ref(name.clone());
        let item = reason.item().map(|item| items::ref_item(&key, item)).transpose()?;
        obstacles.extend(rules::directory_obstacle(name, item.as_ref()));
    }
    Ok(obstacles)
}

/// A cancelled transaction for which no item tells a reason that the caller could act on.
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
