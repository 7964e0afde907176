//! Documents of the whole installation (the failover, the history, the first sites): one item each, with
//! `revision` N and `body` S. The identity of a refdb that moves, or has moved, also has [`CLOSED`] BOOL.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure as Return, TransactWriteItem};

use super::Tables;
use super::commit::{condition_failed, reasons, undecided};
use super::conditions::{at_epoch, revision};
use super::error::{Conditional, classify, conditional, get, incomplete};
use super::items::{Item, Reader, number, text};
use super::keys::Key;
use crate::seams::refdb::{Document, DocumentRecord, RefDbError, SiteRecord, rules};

/// The attribute of the identity while no incarnation may be opened.
pub(super) const CLOSED: &str = "closed";

/// Reads the item of a document. None if it has no document, but an announcement alone.
pub(super) fn decode(item: &Item) -> Result<Option<DocumentRecord>, RefDbError> {
    let reader = Reader(item);
    if item.contains_key("turn") && !item.contains_key("revision") {
        return Ok(None);
    }
    let body = reader.text("body")?.unwrap_or_default().to_owned();
    Ok(Some(DocumentRecord { revision: reader.number("revision")?, body }))
}

fn encode(which: Document, record: &DocumentRecord) -> Item {
    let mut item = Key::of_document(which).attributes();
    item.extend([("revision".to_owned(), number(record.revision)), ("body".to_owned(), text(&record.body))]);
    if rules::closes(which, record) {
        item.insert(CLOSED.to_owned(), AttributeValue::Bool(true));
    }
    item
}

/// Writes the failover document, if each of these sites has its epoch. None if one has another epoch.
pub(super) async fn begin_failover(
    client: &Client,
    tables: &Tables,
    record: &DocumentRecord,
    sites: &[SiteRecord],
) -> Result<Option<DocumentRecord>, RefDbError> {
    const WHICH: Document = Document::Failover;
    let before = record.revision.saturating_sub(1);
    let mut put = Put::builder()
        .table_name(&tables.refs)
        .set_item(Some(encode(WHICH, record)))
        .condition_expression(revision(before))
        .return_values_on_condition_check_failure(Return::AllOld);
    if before > 0 {
        put = put
            .expression_attribute_names("#revision", "revision")
            .expression_attribute_values(":before", number(before));
    }
    let mut call = client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put.build().map_err(incomplete)?).build());
    for site in sites {
        call = call.transact_items(at_epoch(tables, site)?);
    }
    let Err(error) = call.send().await else { return Ok(Some(record.clone())) };
    match reasons(&error).map(|reasons| (reasons, reasons.split_first())) {
        Some((_, Some((document, _)))) if condition_failed(document) => {
            let none = || rules::no_document(WHICH, record.revision);
            decode(document.item().ok_or_else(none)?)?.ok_or_else(none).map(Some)
        }
        Some((_, Some((_, rest)))) if rest.iter().any(condition_failed) => Ok(None),
        Some((reasons, _)) => Err(undecided(reasons)),
        None => Err(classify(&error)),
    }
}

/// A document. None if it was never written.
pub(super) async fn read(
    client: &Client,
    tables: &Tables,
    which: Document,
) -> Result<Option<DocumentRecord>, RefDbError> {
    let key = Key::of_document(which).attributes();
    get(client, &tables.refs, key).await?.as_ref().map_or(Ok(None), decode)
}

/// Writes a document, if its revision is the one after the stored revision. Returns the stored record.
pub(super) async fn put(
    client: &Client,
    tables: &Tables,
    which: Document,
    record: &DocumentRecord,
) -> Result<DocumentRecord, RefDbError> {
    let before = record.revision.saturating_sub(1);
    let mut call = client
        .put_item()
        .table_name(&tables.refs)
        .set_item(Some(encode(which, record)))
        .condition_expression(revision(before))
        .return_values_on_condition_check_failure(Return::AllOld);
    if before > 0 {
        call = call
            .expression_attribute_names("#revision", "revision")
            .set_expression_attribute_values(Some(HashMap::from([(":before".to_owned(), number(before))])));
    }
    match conditional(call.send().await)? {
        Conditional::Written => Ok(record.clone()),
        Conditional::Failed(item) => {
            let stored = item.as_ref().map_or(Ok(None), decode)?;
            stored.ok_or_else(|| rules::no_document(which, record.revision))
        }
    }
}
