//! Whether the tables take transactions, which follows from their consistency.
//!
//! A refdb keeps its mode for ever. A node that commits in one write does not look for locks before it collects a slot,
//! so it must not work beside nodes that commit everything under locks. A refdb whose writes are of one item each
//! carries a mark; also a copy of it in a table of one Region does, which a backup restores.

use aws_sdk_dynamodb::Client;

use super::Tables;
use super::error::{get, put_new};
use super::items::{Item, text};
use super::keys::Key;
use super::sites;
use crate::seams::refdb::{RefDbError, WriteMode};

/// The places and the consistency of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consistency {
    /// The table is in one Region, and takes transactions.
    OneRegion,
    /// The table is in several Regions with strong consistency, and takes no transactions.
    SeveralRegions,
}

/// The item that marks a refdb whose writes are of one item each.
fn mark() -> Item {
    let mut item = Key::of_write_mode().attributes();
    item.insert("since".to_owned(), text("the first start"));
    item
}

/// Whether every write is of one item. Refuses a setting that does not fit the tables, or the refdb in them.
pub(super) async fn agreed(
    client: &Client,
    tables: &Tables,
    mode: WriteMode,
    consistency: Consistency,
) -> Result<bool, RefDbError> {
    let is_marked = get(client, &tables.refs, Key::of_write_mode().attributes()).await?.is_some();
    let is_single_item = match (consistency, is_marked, mode) {
        (Consistency::SeveralRegions, _, WriteMode::Transactions) => return Err(no_transactions(&tables.refs)),
        (Consistency::SeveralRegions, ..) | (_, true, WriteMode::Auto | WriteMode::SingleItem) => true,
        (Consistency::OneRegion, true, WriteMode::Transactions) => return Err(is_written_singly(&tables.refs)),
        (Consistency::OneRegion, false, WriteMode::SingleItem) => {
            if !sites::list(client, tables).await?.is_empty() {
                return Err(is_written_with_transactions(&tables.refs));
            }
            true
        }
        (Consistency::OneRegion, false, WriteMode::Auto | WriteMode::Transactions) => false,
    };
    if is_single_item && !is_marked {
        let _ = put_new(client, &tables.refs, mark()).await?;
    }
    tracing::info!(table = tables.refs, is_single_item, ?consistency, "the refdb's tables are prepared");
    Ok(is_single_item)
}

fn no_transactions(table: &str) -> RefDbError {
    RefDbError::Broken(format!(
        "table {table} has multi-Region strong consistency, which has no transactions, and refdb.writes is \
         \"transactions\": set it to \"auto\""
    ))
}

fn is_written_singly(table: &str) -> RefDbError {
    RefDbError::Broken(format!(
        "the refdb in table {table} is written one item by one, and refdb.writes is \"transactions\": set it to \
         \"auto\""
    ))
}

fn is_written_with_transactions(table: &str) -> RefDbError {
    RefDbError::Broken(format!(
        "the refdb in table {table} is in use with transactions, and refdb.writes is \"single_item\": set it to \
         \"auto\", or set refdb.prefix to new tables"
    ))
}
