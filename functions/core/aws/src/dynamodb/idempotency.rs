//! Idempotency keys of clients, so that a repeated request creates nothing.
//!
//! A key is an item in the table of the created resource, in the partition `#idem#{device_id}`,
//! written in the transaction that creates the resource. Its sort key is a digest of the client
//! key, which may be any text. It has no effect after its `ttl`; DynamoDB deletes it some time
//! later.

use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{IDEMPOTENCY_TTL_S, IdempotencyKey, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::guarded_delete::{DeleteOutcome, GuardedDelete};
use super::item::{Item, decode, encode, number, text};
use super::table::{Table, checked_build, names, values};

#[derive(Debug, Serialize, Deserialize)]
struct IdempotencyItem {
    resource_id: Uuid,
    ttl: i64,
}

fn partition(device_id: &DeviceId) -> String {
    format!("#idem#{device_id}")
}

/// Puts the key of a resource. The condition fails, and the failed transaction contains the stored
/// item, if the key is in use for a resource other than `replaced_id`.
pub(super) fn put_key(
    table: &Table,
    device_id: &DeviceId,
    key: &IdempotencyKey,
    resource_id: Uuid,
    now: Timestamp,
    replaced_id: Option<Uuid>,
) -> Result<Put, StoreError> {
    let mut item =
        encode(&IdempotencyItem { resource_id, ttl: now.as_seconds() + IDEMPOTENCY_TTL_S })?;
    let digest = format!("key#{}", hex::encode(Sha256::digest(&key.0)));
    item.extend(table.key(&partition(device_id), &digest));
    let not_exists = table.not_exists();
    let put = table
        .put(item)
        .condition_expression(format!(
            "{not_exists} OR #ttl <= :now OR #resource_id = :replaced_id"
        ))
        .set_expression_attribute_names(names(["ttl", "resource_id"]))
        .set_expression_attribute_values(values([
            ("now", number(now.as_seconds())),
            ("replaced_id", text(replaced_id.unwrap_or(resource_id).to_string())),
        ]))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build();
    checked_build(put)
}

/// Returns the resource that was created under a key.
pub(super) fn resource_id(item: Item) -> Result<Uuid, StoreError> {
    decode::<IdempotencyItem>(item).map(|key| key.resource_id)
}

/// Deletes some keys of a deleted device; returns whether there may be more.
pub(super) async fn delete_keys(
    table: &Table,
    deleted: GuardedDelete<'_>,
) -> Result<bool, StoreError> {
    let (count, outcome) = deleted.delete_first(table, &partition(deleted.device_id)).await?;
    Ok(count > 0 && outcome != DeleteOutcome::TombstoneMissing)
}
