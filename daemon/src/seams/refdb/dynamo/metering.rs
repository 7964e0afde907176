//! Asks DynamoDB with each call for the request units that it consumed, and counts them.
//!
//! An error carries no units, so the units of a refused condition are billed and not counted.

use std::sync::Arc;

use aws_sdk_dynamodb::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeSerializationInterceptorContextMut,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::batch_get_item::{BatchGetItemInput, BatchGetItemOutput};
use aws_sdk_dynamodb::operation::delete_item::{DeleteItemInput, DeleteItemOutput};
use aws_sdk_dynamodb::operation::get_item::{GetItemInput, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::{PutItemInput, PutItemOutput};
use aws_sdk_dynamodb::operation::query::{QueryInput, QueryOutput};
use aws_sdk_dynamodb::operation::transact_write_items::{TransactWriteItemsInput, TransactWriteItemsOutput};
use aws_sdk_dynamodb::operation::update_item::{UpdateItemInput, UpdateItemOutput};
use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};

use crate::seams::refdb::units::{RequestUnits, Units};

/// A part of the SDK client that counts the units of every call.
#[derive(Debug)]
pub(super) struct Metering(Arc<RequestUnits>);

impl Metering {
    /// Counts into `units`.
    pub(super) fn new(units: Arc<RequestUnits>) -> Self {
        Self(units)
    }
}

/// The part of an answer that tells units: of one table, or of several.
trait Told {
    /// The units that it tells, over all its tables.
    fn units(&self) -> f64;
}

impl Told for ConsumedCapacity {
    fn units(&self) -> f64 {
        self.capacity_units.unwrap_or_default()
    }
}

impl Told for Vec<ConsumedCapacity> {
    fn units(&self) -> f64 {
        self.iter().map(Told::units).sum()
    }
}

/// Asks for the units in the input of a call, whichever of these it is.
macro_rules! ask {
    ($input:ident: $($kind:ident)*) => {
        $(if let Some(call) = $input.downcast_mut::<$kind>() {
            call.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
        })*
    };
}

/// The units in the output of a call, whichever of these it is. Zero for every other one.
macro_rules! told {
    ($output:ident: $($kind:ident)*) => {
        0.0 $(+ $output
            .downcast_ref::<$kind>()
            .and_then(|answer| answer.consumed_capacity.as_ref())
            .map_or(0.0, Told::units))*
    };
}

impl Intercept for Metering {
    fn name(&self) -> &'static str {
        "RequestUnits"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let input = context.input_mut();
        ask!(input: GetItemInput BatchGetItemInput QueryInput);
        ask!(input: PutItemInput UpdateItemInput DeleteItemInput TransactWriteItemsInput);
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Ok(output) = context.output_or_error() else { return Ok(()) };
        let read = told!(output: GetItemOutput BatchGetItemOutput QueryOutput);
        let write = told!(output: PutItemOutput UpdateItemOutput DeleteItemOutput TransactWriteItemsOutput);
        self.0.add(Units { read, write });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::Client;
    use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, KeysAndAttributes, TransactWriteItem};
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::super::client::{Connection, client, counting};
    use super::*;

    /// A DynamoDB that tells units if the call asks for them: 1.5 for a call of one table, and 2 for each of two tables
    /// for a call of several.
    async fn told(units: &Arc<RequestUnits>) -> Client {
        let answer = |headers: HeaderMap, body: String| async move {
            let call = headers.get("x-amz-target").and_then(|call| call.to_str().ok()).unwrap_or_default();
            let table = |units: f64| json!({"TableName": "t", "CapacityUnits": units});
            let is_of_several = call.ends_with(".BatchGetItem") || call.ends_with(".TransactWriteItems");
            let answer = match (body.contains(r#""ReturnConsumedCapacity":"TOTAL""#), is_of_several) {
                (false, _) => json!({}),
                (true, false) => json!({"ConsumedCapacity": table(1.5)}),
                (true, true) => json!({"ConsumedCapacity": [table(2.0), table(2.0)]}),
            };
            (StatusCode::OK, answer.to_string())
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        counting(&client(&Connection::emulator(url)).await, units)
    }

    fn key() -> AttributeValue {
        AttributeValue::S("k".to_owned())
    }

    #[tokio::test]
    async fn every_call_asks_for_its_units_and_they_are_counted() {
        let units = Arc::new(RequestUnits::default());
        let client = told(&units).await;
        client.get_item().table_name("t").key("k", key()).send().await.unwrap();
        assert_eq!(units.consumed(), Units { read: 1.5, write: 0.0 });
        client.query().table_name("t").send().await.unwrap();
        assert_eq!(units.consumed(), Units { read: 3.0, write: 0.0 });
        let keys = KeysAndAttributes::builder().keys([("k".to_owned(), key())].into()).build().unwrap();
        client.batch_get_item().request_items("t", keys).send().await.unwrap();
        assert_eq!(units.consumed(), Units { read: 7.0, write: 0.0 });
        client.put_item().table_name("t").item("k", key()).send().await.unwrap();
        assert_eq!(units.consumed(), Units { read: 7.0, write: 1.5 });
        client.update_item().table_name("t").key("k", key()).send().await.unwrap();
        assert_eq!(units.consumed(), Units { read: 7.0, write: 3.0 });
        client.delete_item().table_name("t").key("k", key()).send().await.unwrap();
        assert_eq!(units.consumed(), Units { read: 7.0, write: 4.5 });
        let check = ConditionCheck::builder().table_name("t").key("k", key()).condition_expression("a = b");
        let item = TransactWriteItem::builder().condition_check(check.build().unwrap()).build();
        client.transact_write_items().transact_items(item).send().await.unwrap();
        assert_eq!(units.consumed(), Units { read: 7.0, write: 8.5 });
    }
}
