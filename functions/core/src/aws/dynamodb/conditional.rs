//! One write with a condition.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{Put, ReturnValue, Update};

use super::item::Item;
use crate::aws::unavailable;
use crate::store::StoreError;

/// Why a conditional write was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// Its condition is false; what stands there, if the request asked for that.
    Refused(Option<Item>),
    /// It could not be tried.
    Failed(StoreError),
}

/// Puts an item.
pub(super) async fn put(client: &Client, put: Put) -> Result<(), Failure> {
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
        Ok(_) => Ok(()),
        Err(error) => Err(match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                Failure::Refused(failed.item().cloned())
            }
            _ => Failure::Failed(unavailable("dynamodb:PutItem")(error)),
        }),
    }
}

/// Updates an item; what it is then.
pub(super) async fn update(client: &Client, update: Update) -> Result<Item, Failure> {
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
        Ok(answer) => Ok(answer.attributes.unwrap_or_default()),
        Err(error) => Err(match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                Failure::Refused(failed.item().cloned())
            }
            _ => Failure::Failed(unavailable("dynamodb:UpdateItem")(error)),
        }),
    }
}
