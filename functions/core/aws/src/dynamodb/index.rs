//! Finding one item by an index.

use std::time::Duration;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use meter_store::StoreError;

use super::item::Item;
use crate::error::classify;

/// An index is behind its table by some milliseconds: who asks for what was made just now asks again.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(150)];

/// The item that a query of an index finds.
pub(super) async fn find(query: QueryFluentBuilder) -> Result<Option<Item>, StoreError> {
    let mut lag = RETRY_DELAYS.into_iter();
    loop {
        let found = query.clone().send().await.map_err(classify("dynamodb:Query"))?;
        let item = found.items.unwrap_or_default().pop();
        match lag.next() {
            Some(pause) if item.is_none() => tokio::time::sleep(pause).await,
            _ => return Ok(item),
        }
    }
}
