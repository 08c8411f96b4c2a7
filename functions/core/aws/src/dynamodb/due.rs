//! What is due, found by time: the indexes `by-due`, which are spread over the shards of the devices.
//!
//! They are sparse: an item is in one exactly while it has both attributes, so what a search reads is in
//! proportion to what is due, however many items there are.

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

/// The attributes of an item that is due at some time.
pub(super) const ATTRIBUTES: [&str; 2] = [SHARD_ATTRIBUTE, DUE_AT_ATTRIBUTE];
pub(super) const SHARD_ATTRIBUTE: &str = "due_shard";
pub(super) const DUE_AT_ATTRIBUTE: &str = "due_at";

/// The partition of a device's items.
pub(super) fn shard(device_id: &DeviceId) -> String {
    device_id.shard().to_string()
}

/// Writes a time in the form that [`Timestamp::key`] gives it: one that can become `due_at` where it
/// stands.
pub(super) fn serialize_as_key<S: Serializer>(
    time: &Timestamp,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.key())
}

/// The keys of items that are due at `now`, at most `limit`. Those that are due longest come first; a
/// backlog of more than a megabyte in a shard is read in part.
pub(super) async fn find(
    table: &Table,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Item>, StoreError> {
    // All that is due may be in one shard.
    let at_once = i32::try_from(limit.max(1)).unwrap_or(i32::MAX);
    let of_shards = stream::iter(Shard::all())
        .map(|shard| find_in(table, shard, now, at_once))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<_>>();
    let mut items: Vec<Item> = of_shards.await?.into_iter().flatten().collect();
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
    let answer = table
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
    Ok(answer.items.unwrap_or_default())
}

fn due_at(item: &Item) -> Option<&String> {
    item.get(DUE_AT_ATTRIBUTE).and_then(|value: &AttributeValue| value.as_s().ok())
}
