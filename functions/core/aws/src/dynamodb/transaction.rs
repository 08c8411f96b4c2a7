//! Transactions. Conflicts with other transactions are retried; failed conditions are reported by
//! the position of their action.

use std::error::Error;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, ConditionCheck, Delete, Put, TransactWriteItem, Update,
};
use meter_store::{StoreError, WriteError, retry};

use super::item::Item;
use crate::error::{class_of_code, classify};

const OPERATION: &str = "dynamodb:TransactWriteItems";

/// A transaction that was not applied.
#[derive(Debug)]
pub(super) enum TransactionError {
    /// At least one condition failed.
    ConditionFailed(FailedConditions),
    Store(StoreError),
}

/// The failed conditions of a transaction.
#[derive(Debug)]
pub(super) struct FailedConditions(Vec<CancellationReason>);

impl FailedConditions {
    /// Returns whether the condition of the action at this position failed.
    pub(super) fn contains(&self, position: usize) -> bool {
        self.0.get(position).is_some_and(is_condition_failure)
    }

    /// Returns the stored item of the action at this position, if the action asked for it.
    pub(super) fn existing_item(&self, position: usize) -> Option<Item> {
        let reason = self.0.get(position)?;
        reason.item.clone().filter(|item| !item.is_empty())
    }
}

impl From<TransactionError> for WriteError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::ConditionFailed(_) => Self::Conflict,
            TransactionError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for TransactionError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A request that can be an action of a transaction.
pub(super) trait TransactAction {
    fn action(self) -> TransactWriteItem;
}

macro_rules! actions {
    ($($type:ty => $set:ident),*) => {$(
        impl TransactAction for $type {
            fn action(self) -> TransactWriteItem {
                TransactWriteItem::builder().$set(self).build()
            }
        }
    )*};
}

actions!(Put => put, Update => update, Delete => delete, ConditionCheck => condition_check);

/// Writes up to 100 different items, all or none.
pub(super) async fn write(
    client: &Client,
    actions: Vec<TransactWriteItem>,
) -> Result<(), TransactionError> {
    for attempt in 0..retry::MAX_ATTEMPTS {
        if attempt > 0 {
            retry::wait(attempt - 1).await;
        }
        // The SDK adds a token to each request, so that its own retries of it write once.
        let request = client.transact_write_items().set_transact_items(Some(actions.clone()));
        let Err(error) = request.send().await else {
            return Ok(());
        };
        let canceled = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => canceled,
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => continue,
            _ => return Err(classify(OPERATION)(error).into()),
        };
        let reasons = canceled.cancellation_reasons();
        if reasons.iter().any(is_condition_failure) {
            return Err(TransactionError::ConditionFailed(FailedConditions(reasons.to_vec())));
        }
        if !reasons.iter().all(is_transient) {
            let permanent: Vec<_> = reasons.iter().filter(|reason| !is_transient(reason)).collect();
            let mut codes = permanent.iter().filter_map(|reason| reason.code());
            let class = codes.find_map(class_of_code).unwrap_or(StoreError::unavailable);
            let reasons = permanent.into_iter().map(describe_reason).collect();
            let failure = TransactionFailure { reasons, source: error.into() };
            return Err(class(OPERATION, failure.into()).into());
        }
    }
    let reason = format!("{} conflicts with other transactions in a row", retry::MAX_ATTEMPTS);
    Err(StoreError::conflict(OPERATION, reason).into())
}

/// The reasons of a transaction that cannot succeed. The SDK error does not contain them.
#[derive(Debug, thiserror::Error)]
#[error("canceled for {reasons:?}")]
struct TransactionFailure {
    reasons: Vec<String>,
    source: Box<dyn Error + Send + Sync>,
}

fn describe_reason(reason: &CancellationReason) -> String {
    format!("{}: {}", reason.code().unwrap_or_default(), reason.message().unwrap_or_default())
}

fn is_condition_failure(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}

/// Returns whether the same action may succeed at the next attempt.
fn is_transient(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        None | Some(
            "None" | "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded"
        )
    )
}
