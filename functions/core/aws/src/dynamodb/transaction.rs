//! All or nothing. A transaction that met another one is tried again; one whose condition is false says
//! which, by the position of its item.

use std::error::Error;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, ConditionCheck, Delete, Put, TransactWriteItem, Update,
};
use meter_store::StoreError;
use meter_store::retry;

use super::item::Item;
use crate::unavailable;

const OPERATION: &str = "dynamodb:TransactWriteItems";

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum Canceled {
    /// At least one condition was false.
    Refused(Refused),
    /// It could not be tried.
    Failed(StoreError),
}

/// The conditions that were false.
#[derive(Debug)]
pub(super) struct Refused(Vec<CancellationReason>);

impl Refused {
    /// Whether the condition of the item at this position was false.
    pub(super) fn at(&self, position: usize) -> bool {
        self.0.get(position).is_some_and(is_refusal)
    }

    /// What stands where the item at this position was to go, if it asked for that.
    pub(super) fn stored(&self, position: usize) -> Option<Item> {
        let reason = self.0.get(position)?;
        reason.item.clone().filter(|item| !item.is_empty())
    }
}

impl From<StoreError> for Canceled {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// A part of a transaction.
pub(super) trait Action {
    fn action(self) -> TransactWriteItem;
}

macro_rules! actions {
    ($($type:ty => $set:ident),*) => {$(
        impl Action for $type {
            fn action(self) -> TransactWriteItem {
                TransactWriteItem::builder().$set(self).build()
            }
        }
    )*};
}

actions!(Put => put, Update => update, Delete => delete, ConditionCheck => condition_check);

/// Writes up to 100 different items at once, or none of them.
pub(super) async fn write(
    client: &Client,
    actions: Vec<TransactWriteItem>,
) -> Result<(), Canceled> {
    for attempt in 0..retry::ATTEMPTS {
        if attempt > 0 {
            retry::pause(attempt - 1).await;
        }
        // The SDK gives each request a token, so that its own retries of one request are one write.
        let request = client.transact_write_items().set_transact_items(Some(actions.clone()));
        let Err(error) = request.send().await else {
            return Ok(());
        };
        let canceled = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => canceled,
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => continue,
            _ => return Err(unavailable(OPERATION)(error).into()),
        };
        let reasons = canceled.cancellation_reasons();
        if reasons.iter().any(is_refusal) {
            return Err(Canceled::Refused(Refused(reasons.to_vec())));
        }
        if !reasons.iter().all(is_passing) {
            let reasons = reasons.iter().filter(|reason| !is_passing(reason)).map(told).collect();
            let wrong = Wrong { reasons, source: error.into() };
            return Err(unavailable(OPERATION)(wrong).into());
        }
    }
    let contended = format!("met other transactions {} times in a row", retry::ATTEMPTS);
    Err(unavailable(OPERATION)(contended).into())
}

/// A transaction that will not be taken the next time either. Its own text does not say why.
#[derive(Debug, thiserror::Error)]
#[error("canceled for {reasons:?}")]
struct Wrong {
    reasons: Vec<String>,
    source: Box<dyn Error + Send + Sync>,
}

fn told(reason: &CancellationReason) -> String {
    format!("{}: {}", reason.code().unwrap_or_default(), reason.message().unwrap_or_default())
}

fn is_refusal(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}

/// Whether the same item may be taken the next time.
fn is_passing(reason: &CancellationReason) -> bool {
    matches!(
        reason.code(),
        None | Some(
            "None" | "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded"
        )
    )
}
