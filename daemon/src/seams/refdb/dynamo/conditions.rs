//! Conditions of a transaction on items that it does not write.

use aws_sdk_dynamodb::types::{ConditionCheck, TransactWriteItem};
use lockstep_proto::locks::held_text;

use super::Tables;
use super::error::incomplete;
use super::items::{number, text};
use super::keys::Key;
use crate::seams::refdb::{Document, RefDbError, SiteRecord};

/// The condition that a stored document has this revision. It names `#revision` and `:before` unless it is 0.
pub(super) fn revision(before: u64) -> &'static str {
    if before == 0 { "attribute_not_exists(pk)" } else { "#revision = :before" }
}

/// The condition that a document has this revision, as a part of a transaction.
pub(super) fn at_revision(tables: &Tables, which: Document, before: u64) -> Result<TransactWriteItem, RefDbError> {
    let mut check = ConditionCheck::builder()
        .table_name(&tables.refs)
        .set_key(Some(Key::of_document(which).attributes()))
        .condition_expression(revision(before));
    if before > 0 {
        check = check
            .expression_attribute_names("#revision", "revision")
            .expression_attribute_values(":before", number(before));
    }
    Ok(TransactWriteItem::builder().condition_check(check.build().map_err(incomplete)?).build())
}

/// The condition that the list of locks contains a held lock with this token.
pub(super) fn lock_is_held(tables: &Tables, token: &str) -> Result<TransactWriteItem, RefDbError> {
    let check = ConditionCheck::builder()
        .table_name(&tables.refs)
        .set_key(Some(Key::of_document(Document::Locks).attributes()))
        .condition_expression("contains(#body, :held)")
        .expression_attribute_names("#body", "body")
        .expression_attribute_values(":held", text(held_text(token)));
    Ok(TransactWriteItem::builder().condition_check(check.build().map_err(incomplete)?).build())
}

/// The condition that a site has the epoch of this record.
pub(super) fn at_epoch(tables: &Tables, seen: &SiteRecord) -> Result<TransactWriteItem, RefDbError> {
    let check = ConditionCheck::builder()
        .table_name(&tables.refs)
        .set_key(Some(Key::of_site(&seen.site).attributes()))
        .condition_expression("#epoch = :epoch")
        .expression_attribute_names("#epoch", "epoch")
        .expression_attribute_values(":epoch", number(seen.epoch));
    Ok(TransactWriteItem::builder().condition_check(check.build().map_err(incomplete)?).build())
}
