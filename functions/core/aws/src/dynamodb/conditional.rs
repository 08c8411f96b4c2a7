//! Single writes with a condition.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{Put, ReturnValue, Update};
use meter_store::{StoreError, WriteError, retry};

use super::item::Item;
use crate::error::classify;

/// A conditional write that was not applied.
#[derive(Debug)]
pub(super) enum ConditionalWriteError {
    /// The condition failed; with the stored item, if the request asked for it.
    ConditionFailed(Option<Item>),
    Store(StoreError),
}

impl From<ConditionalWriteError> for WriteError {
    fn from(error: ConditionalWriteError) -> Self {
        match error {
            ConditionalWriteError::ConditionFailed(_) => Self::Conflict,
            ConditionalWriteError::Store(error) => error.into(),
        }
    }
}

/// Returns whether a write was applied, where a failed condition is no error.
pub(super) fn is_applied<T>(result: Result<T, ConditionalWriteError>) -> Result<bool, StoreError> {
    match result {
        Ok(_) => Ok(true),
        Err(ConditionalWriteError::ConditionFailed(_)) => Ok(false),
        Err(ConditionalWriteError::Store(error)) => Err(error),
    }
}

/// Puts an item. Retries while a transaction on the same item is in progress.
pub(super) async fn put(client: &Client, put: Put) -> Result<(), ConditionalWriteError> {
    retry_conflicts("dynamodb:PutItem", || put_once(client, put.clone())).await
}

/// Updates an item and returns its new attributes. Retries like [`put`].
pub(super) async fn update(client: &Client, update: Update) -> Result<Item, ConditionalWriteError> {
    retry_conflicts("dynamodb:UpdateItem", || update_once(client, update.clone())).await
}

/// The outcome of one attempt that is final, or `TransactionConflict`.
type Attempt<T> = Result<Result<T, ConditionalWriteError>, TransactionConflict>;

/// A transaction on the item was in progress.
struct TransactionConflict;

async fn retry_conflicts<T, F>(
    operation: &'static str,
    attempt_write: impl Fn() -> F,
) -> Result<T, ConditionalWriteError>
where
    F: Future<Output = Attempt<T>>,
{
    for attempt in 0..=retry::MAX_ATTEMPTS {
        if attempt > 0 {
            retry::wait(attempt - 1).await;
        }
        if let Ok(result) = attempt_write().await {
            return result;
        }
    }
    let reason = "a transaction on the same item was in progress at every attempt";
    Err(ConditionalWriteError::Store(StoreError::conflict(operation, reason)))
}

async fn put_once(client: &Client, put: Put) -> Attempt<()> {
    let sent = client
        .put_item()
        .table_name(put.table_name)
        .set_item(Some(put.item))
        .set_condition_expression(put.condition_expression)
        .set_expression_attribute_names(put.expression_attribute_names)
        .set_expression_attribute_values(put.expression_attribute_values)
        .set_return_values_on_condition_check_failure(put.return_values_on_condition_check_failure)
        .send()
        .await;
    let Err(error) = sent else { return Ok(Ok(())) };
    match error.as_service_error() {
        Some(PutItemError::TransactionConflictException(_)) => Err(TransactionConflict),
        Some(PutItemError::ConditionalCheckFailedException(failed)) => {
            Ok(Err(ConditionalWriteError::ConditionFailed(failed.item().cloned())))
        }
        _ => Ok(Err(ConditionalWriteError::Store(classify("dynamodb:PutItem")(error)))),
    }
}

async fn update_once(client: &Client, update: Update) -> Attempt<Item> {
    let sent = client
        .update_item()
        .table_name(update.table_name)
        .set_key(Some(update.key))
        .update_expression(update.update_expression)
        .set_condition_expression(update.condition_expression)
        .set_expression_attribute_names(update.expression_attribute_names)
        .set_expression_attribute_values(update.expression_attribute_values)
        .return_values(ReturnValue::AllNew)
        .send()
        .await;
    let error = match sent {
        Ok(response) => return Ok(Ok(response.attributes.unwrap_or_default())),
        Err(error) => error,
    };
    match error.as_service_error() {
        Some(UpdateItemError::TransactionConflictException(_)) => Err(TransactionConflict),
        Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
            Ok(Err(ConditionalWriteError::ConditionFailed(failed.item().cloned())))
        }
        _ => Ok(Err(ConditionalWriteError::Store(classify("dynamodb:UpdateItem")(error)))),
    }
}
