//! The items of a refdb that is being rebuilt: one `TransactWriteItems` of updates, under the condition that the
//! document of the identity has the revision of this run. So nothing of a run lands after another one has taken over,
//! or after the refdb is complete.
//!
//! In tables without transactions, a write of a run may land late. It lowers no version, and of two writes of the same
//! version the one of the later run stays: each ref's item has the revision of its run, `run` N. A run that takes over
//! knows all that the run before it knew. A ref that has moved since has a higher version.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, ConditionCheck, TransactWriteItem};

use futures::{StreamExt, TryStreamExt};
use lockstep_proto::RefKey;
use lockstep_proto::rebuild::KnownSite;

use super::Tables;
use super::again::Again;
use super::commit::{condition_failed, conflicts, item, reasons, undecided, update};
use super::error::{Conditional, classify, incomplete};
use super::items::{number, text};
use super::keys::Key;
use super::{documents, single_item, sites};
use crate::seams::refdb::{Document, RebuildAnswer, Rebuilt, RefDbError, RefItem, rules};

/// The most writes of one item that are in progress at once.
const WRITES: usize = 16;

/// Writes the items. One that is there with a higher version, epoch or revision is left out of the next try.
pub(super) async fn write(
    client: &Client,
    tables: &Tables,
    items: &[Rebuilt],
    revision: u64,
) -> Result<RebuildAnswer, RefDbError> {
    rules::rebuilt_fits(items)?;
    let (mut left, mut again) = (items.to_vec(), Again::default());
    while !left.is_empty() {
        let mut writes = vec![guard(tables, revision)?];
        for one in &left {
            writes.push(item(written(tables, one))?);
        }
        let Err(error) = client.transact_write_items().set_transact_items(Some(writes)).send().await else {
            return Ok(RebuildAnswer::Written);
        };
        let Some(reasons) = reasons(&error) else { return Err(classify(&error)) };
        if reasons.len() != left.len() + 1 {
            return Err(undecided(reasons));
        }
        if condition_failed(&reasons[0]) {
            return Ok(RebuildAnswer::Superseded);
        }
        if reasons.iter().any(condition_failed) {
            if let Some(answer) = excluded(&left, &reasons[1..]) {
                return Ok(answer);
            }
            let mut failed = reasons[1..].iter().map(condition_failed);
            left.retain(|_| !failed.next().unwrap_or(false));
        } else if !conflicts(reasons) || !again.wait().await {
            return Err(undecided(reasons));
        }
    }
    Ok(RebuildAnswer::Written)
}

/// Writes the items one by one: directories first, because a live ref among them ends the call.
pub(super) async fn write_singly(
    client: &Client,
    tables: &Tables,
    items: &[Rebuilt],
    revision: u64,
) -> Result<RebuildAnswer, RefDbError> {
    rules::rebuilt_fits(items)?;
    let identity = documents::read(client, tables, Document::Identity).await?;
    if identity.map(|stored| stored.revision) != Some(revision) {
        return Ok(RebuildAnswer::Superseded);
    }
    let (mut directories, mut others) = (Vec::new(), Vec::new());
    for one in items {
        match one {
            Rebuilt::Directory(project, name) => directories.push((project, name, written(tables, one))),
            Rebuilt::Ref(..) => others.push(of_run(written(tables, one), revision)),
            Rebuilt::Site(_) | Rebuilt::Document(..) => others.push(written(tables, one)),
        }
    }
    for (project, name, update) in directories {
        if let Conditional::Failed(_) = single_item::written(client, update).await? {
            return Ok(RebuildAnswer::NamesExclude(project.clone(), name.clone()));
        }
    }
    // An item with a higher version, epoch or revision stays as it is.
    let writes: Vec<_> = others.into_iter().map(|update| single_item::written(client, update)).collect();
    futures::stream::iter(writes).buffer_unordered(WRITES).map_ok(drop).try_collect::<()>().await?;
    Ok(RebuildAnswer::Written)
}

/// The write of a ref, marked with the revision of its run. A write of an earlier run does not replace it.
fn of_run(update: UpdateBuilder, revision: u64) -> UpdateBuilder {
    update
        .update_expression("SET ver = :ver, val = :val, txn = :txn, run = :run")
        .condition_expression(
            "attribute_not_exists(ver) OR ver < :ver OR (ver = :ver AND (attribute_not_exists(run) OR run <= :run))",
        )
        .expression_attribute_values(":run", number(revision))
}

/// The condition on the revision of the identity's document.
fn guard(tables: &Tables, revision: u64) -> Result<TransactWriteItem, RefDbError> {
    let check = ConditionCheck::builder()
        .table_name(&tables.refs)
        .set_key(Some(Key::of_document(Document::Identity).attributes()))
        .condition_expression("#revision = :revision")
        .expression_attribute_names("#revision", "revision")
        .expression_attribute_values(":revision", number(revision))
        .build()
        .map_err(incomplete)?;
    Ok(TransactWriteItem::builder().condition_check(check).build())
}

fn written(tables: &Tables, one: &Rebuilt) -> UpdateBuilder {
    match one {
        Rebuilt::Ref(project, item) => moved(update(tables, &Key::of_ref(project, &item.key)), item),
        Rebuilt::Directory(project, name) => update(tables, &Key::of_ref(project, &RefKey::Ref(name.clone())))
            .update_expression("SET dir = :yes")
            .condition_expression("(attribute_not_exists(val) OR val = :absent) AND attribute_not_exists(lck)")
            .expression_attribute_values(":yes", AttributeValue::Bool(true))
            .expression_attribute_values(":absent", text("absent")),
        Rebuilt::Site(site) => placed(update(tables, &Key::of_site(&site.site)), site),
        Rebuilt::Document(which, record) => update(tables, &Key::of_document(*which))
            .update_expression("SET #revision = :revision, #body = :body")
            .condition_expression("attribute_not_exists(#revision) OR #revision <= :revision")
            .expression_attribute_names("#revision", "revision")
            .expression_attribute_names("#body", "body")
            .expression_attribute_values(":revision", number(record.revision))
            .expression_attribute_values(":body", text(&record.body)),
    }
}

fn moved(update: UpdateBuilder, item: &RefItem) -> UpdateBuilder {
    let txn = item.txn.as_ref().map(ToString::to_string).unwrap_or_default();
    update
        .update_expression("SET ver = :ver, val = :val, txn = :txn")
        .condition_expression("attribute_not_exists(ver) OR ver <= :ver")
        .expression_attribute_values(":ver", number(item.version.0))
        .expression_attribute_values(":val", text(&item.value))
        .expression_attribute_values(":txn", text(txn))
}

fn placed(update: UpdateBuilder, site: &KnownSite) -> UpdateBuilder {
    let (mut set, mut removed) = (Vec::new(), Vec::new());
    let mut update = update.condition_expression("attribute_not_exists(#epoch) OR #epoch <= :epoch");
    let mut attributes = sites::shut_out(&site.into());
    for name in sites::ATTRIBUTES {
        update = update.expression_attribute_names(format!("#{name}"), name);
        match attributes.remove(name) {
            Some(value) => {
                set.push(format!("#{name} = :{name}"));
                update = update.expression_attribute_values(format!(":{name}"), value);
            }
            None => removed.push(format!("#{name}")),
        }
    }
    let remove = if removed.is_empty() { String::new() } else { format!(" REMOVE {}", removed.join(", ")) };
    update.update_expression(format!("SET {}{remove}", set.join(", ")))
}

/// The answer if a name that must not be live is.
fn excluded(left: &[Rebuilt], reasons: &[CancellationReason]) -> Option<RebuildAnswer> {
    left.iter().zip(reasons).find_map(|(one, reason)| match one {
        Rebuilt::Directory(project, name) if condition_failed(reason) => {
            Some(RebuildAnswer::NamesExclude(project.clone(), name.clone()))
        }
        Rebuilt::Directory(..) | Rebuilt::Ref(..) | Rebuilt::Site(_) | Rebuilt::Document(..) => None,
    })
}
