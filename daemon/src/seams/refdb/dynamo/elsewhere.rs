//! Opens refdbs in other tables of the same Region and account.

use std::sync::Arc;

use aws_sdk_dynamodb::Client;

use super::{DynamoRefDb, TableSettings};
use crate::seams::refdb::{RefDb, Tables};

/// The tables that one client reaches.
#[derive(Clone, Debug)]
pub struct DynamoTables {
    client: Client,
    prefix: String,
    settings: TableSettings,
}

impl DynamoTables {
    /// The tables that `client` reaches. The node's own ones have this prefix.
    #[must_use]
    pub fn new(client: &Client, prefix: &str, settings: TableSettings) -> Self {
        Self { client: client.clone(), prefix: prefix.to_owned(), settings }
    }
}

impl Tables for DynamoTables {
    fn current(&self) -> String {
        self.prefix.clone()
    }

    fn open(&self, prefix: &str) -> RefDb {
        RefDb::of(&Arc::new(DynamoRefDb::new(&self.client, prefix, self.settings)))
    }
}
