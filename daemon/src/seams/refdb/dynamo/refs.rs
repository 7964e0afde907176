//! Reads of ref items: by key, by project, and the list of projects.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use lockstep_proto::{ProjectKey, ProjectName, RefKey};

use super::Tables;
use super::error::{classify, incomplete};
use super::items::{self, Item, Reader, text};
use super::keys::{self, Key, KeyAttributes};
use crate::seams::refdb::{RefDbError, RefItem};

/// Most keys that one `BatchGetItem` takes.
const BATCH: usize = 100;

/// Reads items in the order of `keys`, which may repeat.
pub(super) async fn read(
    client: &Client,
    tables: &Tables,
    project: &ProjectKey,
    refs: &[RefKey],
) -> Result<Vec<Option<RefItem>>, RefDbError> {
    let distinct: BTreeSet<Key> = refs.iter().map(|key| Key::of_ref(project, key)).collect();
    let distinct: Vec<KeyAttributes> = distinct.iter().map(Key::attributes).collect();
    let mut found: BTreeMap<Key, Item> = BTreeMap::new();
    for batch in distinct.chunks(BATCH) {
        read_batch(client, &tables.refs, batch.to_vec(), &mut found).await?;
    }
    let item = |key: &RefKey| found.get(&Key::of_ref(project, key)).map(|item| items::ref_item(key, item)).transpose();
    refs.iter().map(item).collect()
}

/// Reads up to 100 items. It asks again for items that DynamoDB left out, as long as each answer brings at least one.
async fn read_batch(
    client: &Client,
    table: &str,
    mut wanted: Vec<KeyAttributes>,
    found: &mut BTreeMap<Key, Item>,
) -> Result<(), RefDbError> {
    while !wanted.is_empty() {
        let asked = wanted.len();
        let request = KeysAndAttributes::builder().set_keys(Some(wanted)).consistent_read(true).build();
        let call = client.batch_get_item().request_items(table, request.map_err(incomplete)?);
        let mut answer = call.send().await.map_err(|error| classify(&error))?;
        for item in answer.responses.take().and_then(|mut tables| tables.remove(table)).unwrap_or_default() {
            let reader = Reader(&item);
            let key = Key { pk: reader.parse("pk")?, sk: reader.parse("sk")? };
            found.insert(key, item);
        }
        let left = answer.unprocessed_keys.take().and_then(|mut tables| tables.remove(table));
        wanted = left.map(|left| left.keys).unwrap_or_default();
        if wanted.len() == asked {
            return Err(RefDbError::NotNow(format!("table {table} returned none of {asked} items")));
        }
    }
    Ok(())
}

/// Reads a project's items in key order.
pub(super) async fn scan(
    client: &Client,
    tables: &Tables,
    project: &ProjectKey,
    after: Option<&RefKey>,
    limit: usize,
) -> Result<Vec<RefItem>, RefDbError> {
    let page = Page { pk: keys::partition(project), after: keys::behind_ref(after), limit: Some(limit) };
    let found = query(client, &tables.refs, page).await?;
    found.iter().map(|item| items::ref_item(&Reader(item).parse("sk")?, item)).collect()
}

/// Reads the `@state` items of all projects, in the order of their names.
pub(super) async fn projects(
    client: &Client,
    tables: &Tables,
    after: Option<&ProjectName>,
    limit: usize,
) -> Result<Vec<(ProjectName, RefItem)>, RefDbError> {
    let page = Page { pk: keys::PROJECTS.to_owned(), after: keys::behind_project(after), limit: Some(limit) };
    let found = query(client, &tables.refs, page).await?;
    found.iter().map(|item| Ok((Reader(item).parse("sk")?, items::ref_item(&RefKey::State, item)?))).collect()
}

/// The items of a partition that a query wants.
pub(super) struct Page {
    /// The partition key: that of a project, or that of the list of projects.
    pub(super) pk: String,
    /// Only sort keys after this one.
    pub(super) after: Option<String>,
    /// The most items to return. `None` returns all.
    pub(super) limit: Option<usize>,
}

/// Reads the items of a partition with strong consistency, in the order of their sort keys.
pub(super) async fn query(client: &Client, table: &str, page: Page) -> Result<Vec<Item>, RefDbError> {
    let mut found: Vec<Item> = Vec::new();
    let mut start = None;
    loop {
        let left = page.limit.map(|limit| limit.saturating_sub(found.len()));
        if left == Some(0) {
            return Ok(found);
        }
        let behind = if page.after.is_some() { "pk = :pk AND sk > :after" } else { "pk = :pk" };
        let call = client
            .query()
            .table_name(table)
            .consistent_read(true)
            .key_condition_expression(behind)
            .expression_attribute_values(":pk", text(&page.pk))
            .set_limit(left.map(|left| i32::try_from(left).unwrap_or(i32::MAX)))
            .set_exclusive_start_key(start);
        let call = match &page.after {
            Some(after) => call.expression_attribute_values(":after", text(after)),
            None => call,
        };
        let answer = call.send().await.map_err(|error| classify(&error))?;
        found.extend(answer.items.unwrap_or_default());
        start = answer.last_evaluated_key.filter(|key| !key.is_empty());
        if start.is_none() {
            return Ok(found);
        }
    }
}
