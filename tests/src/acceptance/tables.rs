//! The tables of a run. There are two for all cases, because AWS takes long to make one; each case finds them empty.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::interceptors::BeforeSerializationInterceptorContextMut;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, DisplayErrorContext};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsInput;
use aws_sdk_dynamodb::types::Tag;
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableSettings, client, table_names};
use lockstep::seams::refdb::{RefDb, Setup};

use super::settings::{Settings, is_here};

/// The tag of everything that a run creates.
pub(super) const TAG: (&str, &str) = ("lockstep-acceptance", "delete-me");

/// The tables of a run.
#[derive(Debug)]
pub struct Tables {
    client: Client,
    prefix: String,
    look: Duration,
    is_here: bool,
    case: Arc<AtomicU16>,
}

/// Adds the number of the case to the tokens of transactions. The cases commit other things under the same ids, and
/// DynamoDB knows a token for ten minutes.
#[derive(Debug)]
struct TokenOfCase(Arc<AtomicU16>);

impl Intercept for TokenOfCase {
    fn name(&self) -> &'static str {
        "TokenOfCase"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(input) = context.input_mut().downcast_mut::<TransactWriteItemsInput>() {
            let case = self.0.load(Ordering::Relaxed);
            input.client_request_token = input.client_request_token.take().map(|token| format!("{token}{case:04x}"));
        }
        Ok(())
    }
}

impl Tables {
    /// Reaches DynamoDB. Creates nothing.
    ///
    /// # Errors
    /// One of the names is taken, or DynamoDB does not answer.
    pub async fn of(settings: &Settings) -> Result<Self, String> {
        let is_here = is_here(settings.dynamodb.as_ref());
        let connection = match &settings.dynamodb {
            Some(endpoint) if is_here => Connection::emulator(endpoint),
            endpoint => Connection {
                region: None,
                endpoint: endpoint.clone(),
                made_up_credentials: false,
                connect_timeout: Duration::from_secs(3),
                call_timeout: Duration::from_secs(10),
            },
        };
        let prefix = format!("{}refdb", settings.prefix);
        let case = Arc::default();
        let config = client(&connection).await.config().to_builder().interceptor(TokenOfCase(Arc::clone(&case)));
        let client = Client::from_conf(config.build());
        let tables = Self { client, prefix, look: settings.look(), is_here, case };
        for table in table_names(&tables.prefix) {
            if tables.exists(&table).await? {
                return Err(format!("table {table} exists: it is not of this run; delete it, or give another prefix"));
            }
        }
        Ok(tables)
    }

    /// A refdb in the tables, which are created if they are missing, and emptied.
    ///
    /// # Panics
    /// If DynamoDB refuses it.
    pub async fn fresh(&self) -> RefDb {
        self.case.fetch_add(1, Ordering::Relaxed);
        let mut made = Vec::new();
        for (table, keys) in table_names(&self.prefix).into_iter().zip([&["pk", "sk"][..], &["pk"]]) {
            match self.exists(&table).await.expect("DynamoDB answers") {
                true => self.clear(&table, keys).await.expect("the items can be deleted"),
                false => made.push(table),
            }
        }
        let db = DynamoRefDb::new(&self.client, &self.prefix, TableSettings::default());
        db.prepare(true).await.expect("the tables can be made");
        for table in made {
            self.tag(&table).await.expect("the table can be tagged");
        }
        RefDb::of(&Arc::new(db))
    }

    /// Deletes both tables, if they exist, and waits until they are gone.
    ///
    /// # Errors
    /// A table is left. Its name is in the text.
    pub async fn delete(&self) -> Result<(), String> {
        for table in table_names(&self.prefix) {
            if !self.exists(&table).await? {
                continue;
            }
            let left = |error: String| format!("table {table} is left, delete it: {error}");
            let deleted = self.client.delete_table().table_name(&table).send().await;
            deleted.map_err(|error| left(DisplayErrorContext(&error).to_string()))?;
            while self.exists(&table).await? {
                tokio::time::sleep(self.look).await;
            }
        }
        Ok(())
    }

    async fn exists(&self, table: &str) -> Result<bool, String> {
        match self.client.describe_table().table_name(table).send().await {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(known) if known.is_resource_not_found_exception() => Ok(false),
                _ => Err(format!("table {table}: {}", DisplayErrorContext(&error))),
            },
        }
    }

    /// Tags a table. DynamoDB Local has no tags.
    async fn tag(&self, table: &str) -> Result<(), String> {
        let shown = self.client.describe_table().table_name(table).send().await;
        let shown = shown.map_err(|error| DisplayErrorContext(&error).to_string())?;
        let arn = shown.table().and_then(|table| table.table_arn()).unwrap_or_default();
        let tag = Tag::builder().key(TAG.0).value(TAG.1).build().map_err(|error| error.to_string())?;
        match self.client.tag_resource().resource_arn(arn).tags(tag).send().await {
            Ok(_) => Ok(()),
            Err(_) if self.is_here => Ok(()),
            Err(error) => Err(DisplayErrorContext(&error).to_string()),
        }
    }

    async fn clear(&self, table: &str, keys: &[&str]) -> Result<(), String> {
        let mut from = None;
        loop {
            let call = self.client.scan().table_name(table).consistent_read(true).set_exclusive_start_key(from);
            let page = call.send().await.map_err(|error| DisplayErrorContext(&error).to_string())?;
            for item in page.items() {
                let parts = keys.iter().filter_map(|key| Some(((*key).to_owned(), item.get(*key)?.clone())));
                let key: HashMap<_, _> = parts.collect();
                let deleted = self.client.delete_item().table_name(table).set_key(Some(key)).send().await;
                deleted.map_err(|error| DisplayErrorContext(&error).to_string())?;
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(());
            }
        }
    }
}
