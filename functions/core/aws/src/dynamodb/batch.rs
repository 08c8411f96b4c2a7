//! Many items at once. What DynamoDB leaves over (it does when it is throttling) is sent again, with
//! pauses, a bounded number of times.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{DeleteRequest, KeysAndAttributes, PutRequest, WriteRequest};
use futures::StreamExt;
use futures::stream;
use meter_store::StoreError;
use meter_store::retry;

use super::item::Item;
use super::table::{Table, checked_build};
use crate::error::classify;

/// Items that one BatchWriteItem takes. Its other limit, 16 MB, is out of their reach at 400 KB each.
const MAX_BATCH_WRITE_ITEMS: usize = 25;

/// Keys that one BatchGetItem takes. What would be more than 16 MB comes back as unprocessed.
const MAX_BATCH_GET_KEYS: usize = 100;

/// Calls under way at once: enough to hide the way to the store, few enough not to flood it.
pub(super) const CONCURRENCY: usize = 8;

/// An item's key as text.
pub(super) type Key = (String, String);

/// What was not written, and one reason of possibly many.
#[derive(Debug)]
pub(super) struct UnwrittenItems {
    pub(super) keys: BTreeSet<Key>,
    pub(super) source: StoreError,
}

/// Puts items. Of several with one key the last is put: DynamoDB refuses a batch that holds a key twice.
pub(super) async fn put_all(table: &Table, items: Vec<Item>) -> Result<(), UnwrittenItems> {
    let by_key: BTreeMap<Key, Item> =
        items.into_iter().map(|item| (table.key_text_of(&item), item)).collect();
    let requests = by_key.into_iter().map(|(key, item)| {
        let put = PutRequest::builder().set_item(Some(item)).build();
        (key, put.map(|put| WriteRequest::builder().put_request(put).build()))
    });
    write_all(table, requests.map(|(key, put)| (key, checked_build(put)))).await
}

/// Removes items by their keys, which must differ.
pub(super) async fn delete_all(table: &Table, keys: Vec<Key>) -> Result<(), StoreError> {
    let requests = keys.into_iter().map(|key| {
        let of_item = table.key(&key.0, &key.1);
        let delete = DeleteRequest::builder().set_key(Some(of_item)).build();
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
    let answers = stream::iter(chunks.into_iter().filter(|chunk| !chunk.is_empty()))
        .map(|chunk| write(table, chunk))
        .buffer_unordered(CONCURRENCY)
        .collect::<Vec<_>>()
        .await;
    for (requests, error) in answers.into_iter().filter_map(Result::err) {
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

/// Writes up to 25 items; what was not written, and why.
async fn write(
    table: &Table,
    mut requests: Vec<WriteRequest>,
) -> Result<(), (Vec<WriteRequest>, StoreError)> {
    const OPERATION: &str = "dynamodb:BatchWriteItem";
    for attempt in 0..retry::MAX_ATTEMPTS {
        if attempt > 0 {
            retry::wait(attempt - 1).await;
        }
        let answer = table
            .client
            .batch_write_item()
            .request_items(&table.name, requests.clone())
            .send()
            .await;
        match answer {
            Err(error) => return Err((requests, classify(OPERATION)(error))),
            Ok(answer) => {
                let left_over = answer.unprocessed_items.unwrap_or_default();
                requests = left_over.into_values().flatten().collect();
            }
        }
        if requests.is_empty() {
            return Ok(());
        }
    }
    let error = StoreError::unavailable(OPERATION, UnprocessedItems { count: requests.len() });
    Err((requests, error))
}

/// What DynamoDB has left over to the end.
#[derive(Debug, thiserror::Error)]
#[error("{count} items were left unprocessed {} times in a row", retry::MAX_ATTEMPTS)]
struct UnprocessedItems {
    count: usize,
}

fn key_text_of(table: &Table, request: &WriteRequest) -> Key {
    let put = request.put_request().map(|put| put.item());
    let delete = request.delete_request().map(|delete| delete.key());
    put.or(delete).map(|item| table.key_text_of(item)).unwrap_or_default()
}

/// Reads items by their keys, consistently. Those that do not exist are left out.
pub(super) async fn get_all(
    table: &Table,
    keys: impl IntoIterator<Item = Key>,
) -> Result<Vec<Item>, StoreError> {
    let keys: BTreeSet<Key> = keys.into_iter().collect();
    let keys: Vec<Item> =
        keys.iter().map(|(partition_key, sort_key)| table.key(partition_key, sort_key)).collect();
    let chunks = keys.chunks(MAX_BATCH_GET_KEYS).map(<[Item]>::to_vec);
    let answers = stream::iter(chunks.collect::<Vec<_>>())
        .map(|chunk| get(table, chunk))
        .buffer_unordered(CONCURRENCY)
        .collect::<Vec<_>>()
        .await;
    let mut items = Vec::new();
    for answer in answers {
        items.append(&mut answer?);
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
        let answer = table
            .client
            .batch_get_item()
            .set_request_items(Some(requests))
            .send()
            .await
            .map_err(classify(OPERATION))?;
        items.extend(answer.responses.unwrap_or_default().into_values().flatten());
        requests = answer.unprocessed_keys.unwrap_or_default();
        if requests.is_empty() {
            return Ok(items);
        }
    }
    let count = requests.values().map(|request| request.keys().len()).sum();
    Err(StoreError::unavailable(OPERATION, UnprocessedItems { count }))
}
