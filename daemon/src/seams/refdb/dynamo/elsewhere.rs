//! Opens refdbs in other tables of the same account, in the same Region or in another one.

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Region;
use lockstep_proto::refdb_move::RefdbPlace;

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

    fn at(&self, place: &RefdbPlace) -> RefDb {
        if place.region.is_none() && place.endpoint.is_none() {
            return self.open(&place.prefix);
        }
        // An endpoint of the present Region must not answer for another one.
        let mut config = self.client.config().to_builder();
        if let Some(region) = &place.region {
            config.set_region(Some(Region::new(region.clone())));
        }
        config.set_endpoint_url(place.endpoint.clone());
        let client = Client::from_conf(config.build());
        RefDb::of(&Arc::new(DynamoRefDb::new(&client, &place.prefix, self.settings)))
    }
}
