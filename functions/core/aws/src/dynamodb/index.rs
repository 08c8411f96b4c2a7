//! Lookup of one item by an index.

use std::time::Duration;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use meter_store::StoreError;

use super::item::Item;
use crate::error::classify;

/// Delays before a lookup without a result is repeated: an index lags behind its table by some
/// milliseconds, so that an item that was just created may be missing.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(150)];

/// Returns the item that a query of an index finds.
pub(super) async fn find(query: QueryFluentBuilder) -> Result<Option<Item>, StoreError> {
    let mut delays = RETRY_DELAYS.into_iter();
    loop {
        let found = query.clone().send().await.map_err(classify("dynamodb:Query"))?;
        let item = found.items.unwrap_or_default().pop();
        match delays.next() {
            Some(delay) if item.is_none() => tokio::time::sleep(delay).await,
            _ => return Ok(item),
        }
    }
}
