//! Batches of items. Items that DynamoDB leaves unprocessed, as it does when it throttles, are sent
//! again with backoff, a limited number of times.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{DeleteRequest, KeysAndAttributes, PutRequest, WriteRequest};
use futures::{StreamExt, stream};
use meter_store::{StoreError, retry};

use super::item::Item;
use super::table::{Table, checked_build};
use crate::error::classify;

/// Items in one BatchWriteItem, a limit of DynamoDB. With 400 KB an item they stay below its other
/// limit, 16 MB.
const MAX_BATCH_WRITE_ITEMS: usize = 25;

/// Keys in one BatchGetItem, a limit of DynamoDB. Keys beyond 16 MB of items are left unprocessed.
const MAX_BATCH_GET_KEYS: usize = 100;

/// Concurrent calls for one batch: enough to hide the latency, too few to cause throttling.
pub(super) const CONCURRENCY: usize = 8;

/// The partition key and sort key of an item; the sort key is empty in tables without one.
pub(super) type Key = (String, String);

/// The keys of the items that were not written, with one error of possibly several.
#[derive(Debug)]
pub(super) struct UnwrittenItems {
    pub(super) keys: BTreeSet<Key>,
    pub(super) source: StoreError,
}

/// Puts items. Of several items with one key only the last is put, because DynamoDB rejects a batch
/// that contains a key twice.
pub(super) async fn put_all(table: &Table, items: Vec<Item>) -> Result<(), UnwrittenItems> {
    let by_key: BTreeMap<Key, Item> =
        items.into_iter().map(|item| (table.key_text_of(&item), item)).collect();
    let requests = by_key.into_iter().map(|(key, item)| {
        let put = PutRequest::builder().set_item(Some(item)).build();
        (key, put.map(|put| WriteRequest::builder().put_request(put).build()))
    });
    write_all(table, requests.map(|(key, put)| (key, checked_build(put)))).await
}

/// Deletes items by their keys, which must differ.
pub(super) async fn delete_all(table: &Table, keys: Vec<Key>) -> Result<(), StoreError> {
    let requests = keys.into_iter().map(|key| {
        let delete = DeleteRequest::builder().set_key(Some(table.key(&key.0, &key.1))).build();
        let request = checked_build(delete)
            .map(|delete| WriteRequest::builder().delete_request(delete).build());
        (key, request)
    });
    write_all(table, requests).await.map_err(|unwritten| unwritten.source)
}

async fn write_all(
    table: &Table,
    requests: impl Iterator<Item = (Key, Result<WriteRequest, StoreError>)>,
) -> Result<(), UnwrittenItems> {
    let mut failed = WriteFailures::default();
    let mut chunks = vec![Vec::with_capacity(MAX_BATCH_WRITE_ITEMS)];
    for (key, request) in requests {
        match request {
            Err(error) => failed.add([key], error),
            Ok(request) => match chunks.last_mut() {
                Some(chunk) if chunk.len() < MAX_BATCH_WRITE_ITEMS => chunk.push(request),
                _ => chunks.push(vec![request]),
            },
        }
    }
    let results = stream::iter(chunks.into_iter().filter(|chunk| !chunk.is_empty()))
        .map(|chunk| write(table, chunk))
        .buffer_unordered(CONCURRENCY)
        .collect::<Vec<_>>()
        .await;
    for (requests, error) in results.into_iter().filter_map(Result::err) {
        failed.add(requests.iter().map(|request| key_text_of(table, request)), error);
    }
    failed.into_result()
}

#[derive(Default)]
struct WriteFailures {
    keys: BTreeSet<Key>,
    source: Option<StoreError>,
}

impl WriteFailures {
    fn add(&mut self, keys: impl IntoIterator<Item = Key>, error: StoreError) {
        self.keys.extend(keys);
        self.source.get_or_insert(error);
    }

    fn into_result(self) -> Result<(), UnwrittenItems> {
        let keys = self.keys;
        self.source.map_or(Ok(()), |source| Err(UnwrittenItems { keys, source }))
    }
}

/// Writes up to 25 items and returns those that were not written.
async fn write(
    table: &Table,
    mut requests: Vec<WriteRequest>,
) -> Result<(), (Vec<WriteRequest>, StoreError)> {
    const OPERATION: &str = "dynamodb:BatchWriteItem";
    for attempt in 0..retry::MAX_ATTEMPTS {
        if attempt > 0 {
            retry::wait(attempt - 1).await;
        }
        let response = table
            .client
            .batch_write_item()
            .request_items(&table.name, requests.clone())
            .send()
            .await;
        match response {
            Err(error) => return Err((requests, classify(OPERATION)(error))),
            Ok(response) => {
                let unprocessed = response.unprocessed_items.unwrap_or_default();
                requests = unprocessed.into_values().flatten().collect();
            }
        }
        if requests.is_empty() {
            return Ok(());
        }
    }
    let error = StoreError::unavailable(OPERATION, UnprocessedItems { count: requests.len() });
    Err((requests, error))
}

/// The items that DynamoDB left unprocessed at the last attempt.
#[derive(Debug, thiserror::Error)]
#[error("{count} items left unprocessed after {} attempts", retry::MAX_ATTEMPTS)]
struct UnprocessedItems {
    count: usize,
}

fn key_text_of(table: &Table, request: &WriteRequest) -> Key {
    let put = request.put_request().map(|put| put.item());
    let delete = request.delete_request().map(|delete| delete.key());
    put.or(delete).map(|item| table.key_text_of(item)).unwrap_or_default()
}

/// Reads items by their keys with strong consistency. Omits keys without an item.
pub(super) async fn get_all(
    table: &Table,
    keys: impl IntoIterator<Item = Key>,
) -> Result<Vec<Item>, StoreError> {
    let keys: BTreeSet<Key> = keys.into_iter().collect();
    let keys: Vec<Item> =
        keys.iter().map(|(partition_key, sort_key)| table.key(partition_key, sort_key)).collect();
    let chunks = keys.chunks(MAX_BATCH_GET_KEYS).map(<[Item]>::to_vec);
    let results = stream::iter(chunks.collect::<Vec<_>>())
        .map(|chunk| get(table, chunk))
        .buffer_unordered(CONCURRENCY)
        .collect::<Vec<_>>()
        .await;
    let mut items = Vec::new();
    for result in results {
        items.append(&mut result?);
    }
    Ok(items)
}

async fn get(table: &Table, keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
    const OPERATION: &str = "dynamodb:BatchGetItem";
    let mut items = Vec::with_capacity(keys.len());
    let request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
    let mut requests = HashMap::from([(table.name.clone(), checked_build(request)?)]);
    for attempt in 0..retry::MAX_ATTEMPTS {
        if attempt > 0 {
            retry::wait(attempt - 1).await;
        }
        let response = table
            .client
            .batch_get_item()
            .set_request_items(Some(requests))
            .send()
            .await
            .map_err(classify(OPERATION))?;
        items.extend(response.responses.unwrap_or_default().into_values().flatten());
        requests = response.unprocessed_keys.unwrap_or_default();
        if requests.is_empty() {
            return Ok(items);
        }
    }
    let count = requests.values().map(|request| request.keys().len()).sum();
    Err(StoreError::unavailable(OPERATION, UnprocessedItems { count }))
}
