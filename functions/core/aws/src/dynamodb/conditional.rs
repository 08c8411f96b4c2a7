//! One write with a condition.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{Put, ReturnValue, Update};
use meter_store::StoreError;
use meter_store::retry;

use super::item::Item;
use crate::error::classify;

/// Why a conditional write was not done.
#[derive(Debug)]
pub(super) enum ConditionalWriteError {
    /// Its condition is false; what stands there, if the request asked for that.
    ConditionFailed(Option<Item>),
    /// It could not be tried.
    Store(StoreError),
}

/// Puts an item. Meeting a transaction on the same item is no answer: it is tried again.
pub(super) async fn put(client: &Client, put: Put) -> Result<(), ConditionalWriteError> {
    for attempt in 0..retry::MAX_ATTEMPTS {
        match put_once(client, put.clone()).await {
            Err(TransactionConflict) => retry::wait(attempt).await,
            Ok(answer) => return answer,
        }
    }
    put_once(client, put)
        .await
        .unwrap_or_else(|TransactionConflict| Err(too_many_conflicts("dynamodb:PutItem")))
}

/// A transaction was under way on the item.
struct TransactionConflict;

fn too_many_conflicts(operation: &'static str) -> ConditionalWriteError {
    ConditionalWriteError::Store(StoreError::conflict(
        operation,
        "a transaction on the same item was in progress at every attempt",
    ))
}

async fn put_once(
    client: &Client,
    put: Put,
) -> Result<Result<(), ConditionalWriteError>, TransactionConflict> {
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
    match sent {
        Ok(_) => Ok(Ok(())),
        Err(error) => match error.as_service_error() {
            Some(PutItemError::TransactionConflictException(_)) => Err(TransactionConflict),
            Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                Ok(Err(ConditionalWriteError::ConditionFailed(failed.item().cloned())))
            }
            _ => Ok(Err(ConditionalWriteError::Store(classify("dynamodb:PutItem")(error)))),
        },
    }
}

/// Updates an item; what it is then. See [`put`].
pub(super) async fn update(client: &Client, update: Update) -> Result<Item, ConditionalWriteError> {
    for attempt in 0..retry::MAX_ATTEMPTS {
        match update_once(client, update.clone()).await {
            Err(TransactionConflict) => retry::wait(attempt).await,
            Ok(answer) => return answer,
        }
    }
    update_once(client, update)
        .await
        .unwrap_or_else(|TransactionConflict| Err(too_many_conflicts("dynamodb:UpdateItem")))
}

async fn update_once(
    client: &Client,
    update: Update,
) -> Result<Result<Item, ConditionalWriteError>, TransactionConflict> {
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
    match sent {
        Ok(answer) => Ok(Ok(answer.attributes.unwrap_or_default())),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::TransactionConflictException(_)) => Err(TransactionConflict),
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                Ok(Err(ConditionalWriteError::ConditionFailed(failed.item().cloned())))
            }
            _ => Ok(Err(ConditionalWriteError::Store(classify("dynamodb:UpdateItem")(error)))),
        },
    }
}
