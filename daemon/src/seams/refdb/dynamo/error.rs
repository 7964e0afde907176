//! Classifies the errors of the SDK: the outcome is unknown, nothing was done, or nothing ever will be.
//!
//! In doubt the answer is [`RefDbError::Unknown`]. [`RefDbError::NotNow`] needs proof: DynamoDB's own statement, or a
//! connection that was never made. The SDK's own retries are off, so one error stands for one attempt.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure as Return;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;

use super::again::Again;
use super::items::Item;
use crate::seams::aws::{causes, denied, never_sent, stale};
use crate::seams::refdb::RefDbError;

/// Error codes with which DynamoDB says that it did nothing, and that a later call may succeed.
const NOT_NOW: [&str; 9] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "LimitExceededException",
    "TransactionConflictException",
    "TransactionInProgressException",
    "ReplicatedWriteConflictException",
    "ResourceInUseException",
];

/// The outcome of a conditional write of one item.
pub(super) enum Conditional {
    /// The item was written.
    Written,
    /// The condition failed on this item. None if there is no item.
    Failed(Option<Item>),
}

/// An operation that may fail by its condition.
pub(super) trait ConditionFailure: Error + ProvideErrorMetadata + 'static {
    /// The failed condition, if that is the error.
    fn condition_failure(&self) -> Option<&ConditionalCheckFailedException>;
}

macro_rules! condition_failure {
    ($($error:ident),*) => {$(
        impl ConditionFailure for $error {
            fn condition_failure(&self) -> Option<&ConditionalCheckFailedException> {
                match self {
                    Self::ConditionalCheckFailedException(failure) => Some(failure),
                    _ => None,
                }
            }
        }
    )*};
}
condition_failure!(PutItemError, UpdateItemError, DeleteItemError);

/// The error for an SDK request that lacks a field.
pub(super) fn incomplete(error: BuildError) -> RefDbError {
    RefDbError::Broken(error.to_string())
}

/// Separates a failed condition from a failed call.
pub(super) fn conditional<T, E: ConditionFailure>(result: Result<T, SdkError<E>>) -> Result<Conditional, RefDbError> {
    let Err(error) = result else { return Ok(Conditional::Written) };
    match error.as_service_error().and_then(E::condition_failure) {
        Some(failure) => Ok(Conditional::Failed(failure.item().cloned())),
        None => Err(classify(&error)),
    }
}

/// Whether a write was rejected because another Region writes the item at this moment.
pub(super) fn is_written_elsewhere<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    error.code() == Some("ReplicatedWriteConflictException")
}

/// Makes a call until no write from another Region stands in its way, a few times at most.
pub(super) async fn despite_conflicts<T, E, F>(call: impl Fn() -> F) -> Result<T, SdkError<E>>
where
    E: ProvideErrorMetadata,
    F: Future<Output = Result<T, SdkError<E>>>,
{
    let mut again = Again::default();
    loop {
        let answer = call().await;
        let is_conflict = answer.as_ref().err().is_some_and(is_written_elsewhere);
        if !is_conflict || !again.wait().await {
            return answer;
        }
    }
}

/// Reads an item with strong consistency. None if there is no item with this key.
pub(super) async fn get(client: &Client, table: &str, key: Item) -> Result<Option<Item>, RefDbError> {
    let call = client.get_item().table_name(table).set_key(Some(key)).consistent_read(true);
    Ok(call.send().await.map_err(|error| classify(&error))?.item)
}

/// Writes an item if there is none with its key.
pub(super) async fn put_new(client: &Client, table: &str, item: Item) -> Result<Conditional, RefDbError> {
    let call = put_if_absent(client, table, item);
    conditional(despite_conflicts(move || call.clone().send()).await)
}

/// Writes an item that decides the outcome of a transaction, if there is none with its key. A write that another Region
/// stands in the way of is rejected, as AWS documents it; nobody has measured it, so here the outcome counts as
/// unknown.
pub(super) async fn decide_new(client: &Client, table: &str, item: Item) -> Result<Conditional, RefDbError> {
    let call = put_if_absent(client, table, item);
    conditional_in_doubt(move || call.clone().send()).await
}

/// Makes a call as [`despite_conflicts`]. After a conflict, no other error says that nothing was done.
async fn conditional_in_doubt<T, E, F>(call: impl Fn() -> F) -> Result<Conditional, RefDbError>
where
    E: ConditionFailure,
    F: Future<Output = Result<T, SdkError<E>>>,
{
    let is_in_doubt = AtomicBool::new(false);
    let met = &is_in_doubt;
    let watched = move || {
        let sent = call();
        async move {
            let answer = sent.await;
            met.fetch_or(answer.as_ref().err().is_some_and(is_written_elsewhere), Ordering::Relaxed);
            answer
        }
    };
    let answer = conditional(despite_conflicts(watched).await);
    answer.map_err(|error| match is_in_doubt.load(Ordering::Relaxed) {
        true => RefDbError::Unknown(error.to_string()),
        false => error,
    })
}

fn put_if_absent(client: &Client, table: &str, item: Item) -> PutItemFluentBuilder {
    client
        .put_item()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression("attribute_not_exists(pk)")
        .return_values_on_condition_check_failure(Return::AllOld)
}

/// AWS's message, if it denied the call because the caller has no right to it.
pub(super) fn denial<E: Error + ProvideErrorMetadata + 'static>(error: &SdkError<E>) -> Option<String> {
    denied::is_denied(error.code()).then(|| error.message().unwrap_or("AWS gives no reason").to_owned())
}

/// Classifies a failed call.
pub(super) fn classify<E: Error + ProvideErrorMetadata + 'static>(error: &SdkError<E>) -> RefDbError {
    let why = causes(error);
    match error {
        SdkError::ConstructionFailure(_) => RefDbError::Broken(why),
        SdkError::DispatchFailure(failure) if failure.as_connector_error().is_some_and(|error| never_sent(error)) => {
            RefDbError::NotNow(why)
        }
        SdkError::ServiceError(service) => by_answer(service.err().code(), service.raw().status().as_u16(), why),
        _ => RefDbError::Unknown(why),
    }
}

fn by_answer(code: Option<&str>, status: u16, why: String) -> RefDbError {
    match code {
        Some(code) if NOT_NOW.contains(&code) => RefDbError::NotNow(why),
        // Credentials are renewed, and clocks are corrected, without a restart.
        Some(code) if stale::may_pass(code) => RefDbError::NotNow(stale::explained(code, &why)),
        code if denied::is_denied(code) => RefDbError::Broken(denied::in_use(&why)),
        _ if status == 429 => RefDbError::NotNow(why),
        _ if (400..500).contains(&status) && status != 408 => RefDbError::Broken(why),
        _ => RefDbError::Unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_says_each_cause_once_and_nothing_else() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
        let connector = aws_sdk_dynamodb::error::ConnectorError::io(Box::new(refused));
        let error: SdkError<PutItemError> = SdkError::dispatch_failure(connector);
        assert_eq!(classify(&error), RefDbError::Unknown("dispatch failure: io error: reset by peer".to_owned()));
    }

    #[test]
    fn an_answer_is_final_only_when_dynamodb_says_that_it_did_nothing() {
        let kind = |code, status| by_answer(code, status, String::new());
        assert!(matches!(kind(Some("ThrottlingException"), 400), RefDbError::NotNow(_)));
        let expired = kind(Some("ExpiredTokenException"), 400);
        assert!(matches!(&expired, RefDbError::NotNow(why) if why.contains("renew them at their source")));
        assert!(matches!(kind(Some("RequestExpired"), 400), RefDbError::NotNow(why) if why.contains("set the clock")));
        assert!(matches!(kind(Some("AccessDeniedException"), 400), RefDbError::Broken(_)));
        assert!(matches!(kind(Some("ResourceNotFoundException"), 400), RefDbError::Broken(_)));
        assert!(matches!(kind(Some("InternalServerError"), 500), RefDbError::Unknown(_)));
        assert!(matches!(kind(None, 503), RefDbError::Unknown(_)));
        assert!(matches!(kind(None, 408), RefDbError::Unknown(_)));
        assert!(matches!(kind(None, 200), RefDbError::Unknown(_)));
    }
}
