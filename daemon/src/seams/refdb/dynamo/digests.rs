//! Digests: one item per node, with `body` S. They are apart from the items of the nodes, which every node reads every
//! three seconds.

use aws_sdk_dynamodb::Client;

use super::Tables;
use super::error::{Conditional, conditional};
use super::items::{Item, Reader, text};
use super::keys::{self, Key};
use super::refs::{Page, query};
use crate::seams::refdb::{DigestRecord, RefDbError};

fn decode(item: &Item) -> Result<DigestRecord, RefDbError> {
    let reader = Reader(item);
    let body = reader.text("body")?.unwrap_or_default().to_owned();
    Ok(DigestRecord { node: reader.parse("sk")?, body })
}

/// The digest of every node that has written one, in the order of their names.
pub(super) async fn list(client: &Client, tables: &Tables) -> Result<Vec<DigestRecord>, RefDbError> {
    let page = Page { pk: keys::DIGESTS.to_owned(), after: None, limit: None };
    query(client, &tables.refs, page).await?.iter().map(decode).collect()
}

/// Writes a node's digest over its last one.
pub(super) async fn put(client: &Client, tables: &Tables, record: &DigestRecord) -> Result<(), RefDbError> {
    let mut item = Key::of_digest(&record.node).attributes();
    item.insert("body".to_owned(), text(&record.body));
    let call = client.put_item().table_name(&tables.refs).set_item(Some(item));
    match conditional(call.send().await)? {
        Conditional::Written | Conditional::Failed(_) => Ok(()),
    }
}
