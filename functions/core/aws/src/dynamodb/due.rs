//! Queries of due items, by the indexes `by-due`, whose partitions are the shards of the devices.
//!
//! The indexes are sparse: an item is in its index only while it has both attributes, so that a
//! query reads due items alone.

use aws_sdk_dynamodb::types::AttributeValue;
use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::id::{DeviceId, Shard};
use meter_domain::time::Timestamp;
use meter_store::StoreError;
use serde::Serializer;

use super::batch::CONCURRENCY;
use super::item::{Item, text};
use super::table::{Table, names, values};
use crate::error::classify;

const INDEX: &str = "by-due";

/// The attributes of an item that is in the index.
pub(super) const ATTRIBUTES: [&str; 2] = [SHARD_ATTRIBUTE, DUE_AT_ATTRIBUTE];
pub(super) const SHARD_ATTRIBUTE: &str = "due_shard";
pub(super) const DUE_AT_ATTRIBUTE: &str = "due_at";

/// Returns the index partition of the items of a device.
pub(super) fn shard(device_id: &DeviceId) -> String {
    device_id.shard().to_string()
}

/// Serializes a time as [`Timestamp::key`], so that an update expression can copy it to `due_at`.
pub(super) fn serialize_as_key<S: Serializer>(
    time: &Timestamp,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.key())
}

/// Returns the keys of at most `limit` items that are due at `now`, in order of their due times. Of
/// a backlog of more than 1 MB in a shard it reads the first megabyte.
pub(super) async fn find(
    table: &Table,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Item>, StoreError> {
    // All due items can be in one shard.
    let shard_limit = i32::try_from(limit.max(1)).unwrap_or(i32::MAX);
    let shards = stream::iter(Shard::all())
        .map(|shard| find_in(table, shard, now, shard_limit))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<_>>();
    let mut items: Vec<Item> = shards.await?.into_iter().flatten().collect();
    items.sort_by(|a, b| due_at(a).cmp(&due_at(b)));
    items.truncate(limit);
    Ok(items)
}

async fn find_in(
    table: &Table,
    shard: Shard,
    now: Timestamp,
    limit: i32,
) -> Result<Vec<Item>, StoreError> {
    let response = table
        .client
        .query()
        .table_name(&table.name)
        .index_name(INDEX)
        .key_condition_expression("#due_shard = :shard AND #due_at <= :now")
        .set_expression_attribute_names(names(ATTRIBUTES))
        .set_expression_attribute_values(values([
            ("shard", text(shard.to_string())),
            ("now", text(now.key())),
        ]))
        .limit(limit)
        .send()
        .await
        .map_err(classify("dynamodb:Query"))?;
    Ok(response.items.unwrap_or_default())
}

fn due_at(item: &Item) -> Option<&String> {
    item.get(DUE_AT_ATTRIBUTE).and_then(|value: &AttributeValue| value.as_s().ok())
}
