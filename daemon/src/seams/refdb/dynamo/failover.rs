//! The failover that is in progress, or else the last one: at most one item with `revision` N and `body` S.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure as Return;

use super::Tables;
use super::error::{Conditional, classify, conditional};
use super::items::{Item, Reader, number, text};
use super::keys::Key;
use crate::seams::refdb::{FailoverRecord, RefDbError, rules};

fn decode(item: &Item) -> Result<FailoverRecord, RefDbError> {
    let reader = Reader(item);
    let body = reader.text("body")?.unwrap_or_default().to_owned();
    Ok(FailoverRecord { revision: reader.number("revision")?, body })
}

/// The record. None if there was no failover.
pub(super) async fn read(client: &Client, tables: &Tables) -> Result<Option<FailoverRecord>, RefDbError> {
    let key = Key::of_failover().attributes();
    let call = client.get_item().table_name(&tables.refs).set_key(Some(key)).consistent_read(true);
    let answer = call.send().await.map_err(|error| classify(&error))?;
    answer.item().map(decode).transpose()
}

/// Writes the record, if its revision is the one after the stored revision. Returns the stored record.
pub(super) async fn put(
    client: &Client,
    tables: &Tables,
    record: &FailoverRecord,
) -> Result<FailoverRecord, RefDbError> {
    let before = record.revision.saturating_sub(1);
    let mut item = Key::of_failover().attributes();
    item.extend([("revision".to_owned(), number(record.revision)), ("body".to_owned(), text(&record.body))]);
    let condition = if before == 0 { "attribute_not_exists(pk)" } else { "#revision = :before" };
    let mut call = client
        .put_item()
        .table_name(&tables.refs)
        .set_item(Some(item))
        .condition_expression(condition)
        .return_values_on_condition_check_failure(Return::AllOld);
    if before > 0 {
        call = call
            .expression_attribute_names("#revision", "revision")
            .set_expression_attribute_values(Some(HashMap::from([(":before".to_owned(), number(before))])));
    }
    match conditional(call.send().await)? {
        Conditional::Written => Ok(record.clone()),
        Conditional::Failed(Some(item)) => decode(&item),
        Conditional::Failed(None) => Err(rules::no_failover(record.revision)),
    }
}
