//! The emulator alone: the `TransactWriteItems` of a commit of one ref with a slot of 4 KiB, sent by the SDK's client,
//! without Lockstep. A commit is compared with this, because it contains the emulator's own time.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure as Return, TransactWriteItem, Update,
};
use lockstep::base::clock::{Entropy, SeededEntropy};
use tokio::time::Instant;

use crate::Fallible;

/// The size of the slot, in bytes: a transaction of one ref with its pack.
const SLOT_BYTES: usize = 4 * 1024 + 300;

/// A caller that moves one ref step by step.
pub struct Caller {
    client: Client,
    prefix: String,
    name: String,
    step: u64,
    data: Vec<u8>,
}

impl Caller {
    /// A caller with a ref of its own.
    pub fn new(client: &Client, prefix: &str, name: &str) -> Self {
        let entropy = SeededEntropy::new(7);
        let data = std::iter::repeat_with(|| entropy.next().to_le_bytes()).flatten().take(SLOT_BYTES).collect();
        Self { client: client.clone(), prefix: prefix.to_owned(), name: name.to_owned(), step: 0, data }
    }

    fn txn(&self, step: u64) -> String {
        format!("bench.1.0.{step}.{}", self.name)
    }

    /// Sends one transaction. Returns the time that it took.
    pub async fn call(&mut self) -> Fallible<Duration> {
        self.step += 1;
        let items = vec![self.put()?, self.update()?];
        let start = Instant::now();
        let call = self.client.transact_write_items().set_transact_items(Some(items));
        call.client_request_token(format!("{}-{}", self.name, self.step)).send().await?;
        Ok(start.elapsed())
    }

    fn put(&self) -> Fallible<TransactWriteItem> {
        let put = Put::builder()
            .table_name(format!("{}-journal", self.prefix))
            .item("pk", AttributeValue::S(self.txn(self.step)))
            .item("txn", AttributeValue::S(self.txn(self.step)))
            .item("data", AttributeValue::B(Blob::new(self.data.clone())))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(Return::AllOld);
        Ok(TransactWriteItem::builder().put(put.build()?).build())
    }

    fn update(&self) -> Fallible<TransactWriteItem> {
        let text = |text: String| AttributeValue::S(text);
        let value = |step: u64| text(format!("{step:040x}"));
        let key = [("pk", text("p#bench#1".to_owned())), ("sk", text(format!("refs/heads/{}", self.name)))];
        let key: HashMap<String, AttributeValue> = key.into_iter().map(|(name, is)| (name.to_owned(), is)).collect();
        let update = Update::builder()
            .table_name(format!("{}-refs", self.prefix))
            .set_key(Some(key))
            .return_values_on_condition_check_failure(Return::AllOld)
            .update_expression("SET ver = :ver, val = :val, txn = :txn")
            .expression_attribute_values(":ver", AttributeValue::N(self.step.to_string()))
            .expression_attribute_values(":val", value(self.step))
            .expression_attribute_values(":txn", text(self.txn(self.step)));
        let update = if self.step == 1 {
            update.condition_expression("attribute_not_exists(ver) AND attribute_not_exists(lck)")
        } else {
            update
                .condition_expression("ver = :over AND val = :oval AND txn = :otxn AND attribute_not_exists(lck)")
                .expression_attribute_values(":over", AttributeValue::N((self.step - 1).to_string()))
                .expression_attribute_values(":oval", value(self.step - 1))
                .expression_attribute_values(":otxn", text(self.txn(self.step - 1)))
        };
        Ok(TransactWriteItem::builder().update(update.build()?).build())
    }
}
