//! The lock-and-check sequence of the older design: five calls per ref, one after the other, as a client of the
//! emulator makes them. Per ref: read the lock, write the lock, read the ref, write the ref if it still has the old
//! value, remove the lock. Per batch: read a counter, and write it.
//!
//! The refs of a batch are locked first and checked; then the local refs move; then the new values are written and the
//! locks removed.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};

use crate::Fallible;
use crate::cloud::Cloud;
use crate::far::travel;

const LOCKS: &str = "older-locks";
const REFS: &str = "older-refs";
/// The key of both tables.
const KEY: &str = "name";
/// The attribute of a lock that tells its holder, and that of a ref with its value.
const HELD_BY: &str = "holder";
const VALUE: &str = "value";

/// The move of a ref: name, old value, new value.
pub type Move = (String, Option<String>, String);

/// A client of the older design.
pub struct Older {
    client: Client,
    round_trip: Option<Duration>,
    batches: u64,
    /// The number of calls so far.
    pub calls: u64,
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

impl Older {
    /// Creates both tables.
    pub async fn start(cloud: &Cloud, round_trip: Option<Duration>) -> Fallible<Self> {
        let client = cloud.dynamo_client().await;
        for table in [LOCKS, REFS] {
            let key = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash).build()?;
            let kind = ScalarAttributeType::S;
            let attribute = AttributeDefinition::builder().attribute_name(KEY).attribute_type(kind).build()?;
            let create = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
            let _ = create.key_schema(key).attribute_definitions(attribute).send().await?;
        }
        Ok(Self { client, round_trip, batches: 0, calls: 0 })
    }

    /// Locks the refs of a batch one by one, and checks that each has its old value.
    ///
    /// # Errors
    /// A lock is held, or a ref has another value.
    pub async fn lock_and_check(&mut self, moves: &[Move]) -> Fallible<()> {
        self.batches += 1;
        for (name, old, _) in moves {
            let client = self.client.clone();
            let lock = client.get_item().table_name(LOCKS).key(KEY, text(name)).consistent_read(true);
            if self.call(lock.send()).await?.item.is_some() {
                return Err(format!("{name} is locked").into());
            }
            let lock = client.put_item().table_name(LOCKS).item(KEY, text(name)).item(HELD_BY, text(self.holder()));
            let _ = self.call(lock.condition_expression("attribute_not_exists(holder)").send()).await?;
            let shown = client.get_item().table_name(REFS).key(KEY, text(name)).consistent_read(true);
            let shown = self.call(shown.send()).await?.item;
            let shown = shown.as_ref().and_then(|item| item.get(VALUE)?.as_s().ok());
            if shown != old.as_ref() {
                return Err(format!("{name} is {shown:?}, not {old:?}").into());
            }
        }
        Ok(())
    }

    /// Writes the new values one by one, and removes the locks; then counts the batch.
    ///
    /// # Errors
    /// A ref has another value than the old one, or a lock is held by somebody else.
    pub async fn write_and_release(&mut self, moves: &[Move]) -> Fallible<()> {
        let client = self.client.clone();
        for (name, old, new) in moves {
            let write = client.update_item().table_name(REFS).key(KEY, text(name));
            let write = write.update_expression("SET #value = :new").expression_attribute_names("#value", VALUE);
            let write = write.expression_attribute_values(":new", text(new));
            let write = match old {
                Some(old) => write.condition_expression("#value = :old").expression_attribute_values(":old", text(old)),
                None => write.condition_expression("attribute_not_exists(#value)"),
            };
            let _ = self.call(write.send()).await?;
            let release = client.delete_item().table_name(LOCKS).key(KEY, text(name));
            let release = release.condition_expression("holder = :me");
            let _ = self.call(release.expression_attribute_values(":me", text(self.holder())).send()).await?;
        }
        let counter = client.get_item().table_name(REFS).key(KEY, text("counter")).consistent_read(true);
        let _ = self.call(counter.send()).await?;
        let counted = client.put_item().table_name(REFS).item(KEY, text("counter"));
        let _ = self.call(counted.item(VALUE, text(self.batches.to_string())).send()).await?;
        Ok(())
    }

    /// The distance to AWS.
    pub fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or_default()
    }

    fn holder(&self) -> String {
        format!("batch-{}", self.batches)
    }

    async fn call<T, E>(&mut self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.calls += 1;
        match self.round_trip {
            Some(round_trip) => travel(round_trip, call).await,
            None => call.await,
        }
    }
}
