//! The declaration that the refdb is older than a node: at most one item with `by` S, `why` S and `since` N.

use aws_sdk_dynamodb::Client;

use super::Tables;
use super::error::{Conditional, get, put_new};
use super::items::{Item, Reader, number, text};
use super::keys::Key;
use crate::seams::refdb::{RefDbError, WentBackRecord};

fn decode(item: &Item) -> Result<WentBackRecord, RefDbError> {
    let reader = Reader(item);
    let why = reader.text("why")?.unwrap_or_default().to_owned();
    Ok(WentBackRecord { by: reader.parse("by")?, why, since_ms: reader.number("since")? })
}

/// The declaration. None if no node has made it.
pub(super) async fn read(client: &Client, tables: &Tables) -> Result<Option<WentBackRecord>, RefDbError> {
    let key = Key::of_went_back().attributes();
    get(client, &tables.refs, key).await?.as_ref().map(decode).transpose()
}

/// Makes the declaration if there is none, and returns the stored one.
pub(super) async fn declare(
    client: &Client,
    tables: &Tables,
    record: &WentBackRecord,
) -> Result<WentBackRecord, RefDbError> {
    let mut item = Key::of_went_back().attributes();
    item.extend([
        ("by".to_owned(), text(&record.by)),
        ("why".to_owned(), text(&record.why)),
        ("since".to_owned(), number(record.since_ms)),
    ]);
    match put_new(client, &tables.refs, item).await? {
        Conditional::Written => Ok(record.clone()),
        Conditional::Failed(Some(item)) => decode(&item),
        Conditional::Failed(None) => {
            Err(RefDbError::Broken("the declaration exists, but DynamoDB did not return it".to_owned()))
        }
    }
}
