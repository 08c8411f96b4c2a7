//! What was made under a client's key, so that asking twice is asking once.
//!
//! An item in the table of the thing made, in a partition of its own (`#idem#{device_id}`), written in
//! the transaction that makes the thing. It is found by a digest of the key, which may be any text, and
//! forgotten by DynamoDB some time after its `ttl`; from then on it does not count.

use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{IDEMPOTENCY_SECONDS, IdempotencyKey, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::item::{Item, decode, encode, number, text};
use super::sweeping::{Deleted, Removal};
use super::table::{Table, built, names, values};

#[derive(Debug, Serialize, Deserialize)]
struct Memo {
    made: Uuid,
    ttl: i64,
}

fn partition(device_id: &DeviceId) -> String {
    format!("#idem#{device_id}")
}

/// Notes what is made under a key. The condition is false while something else counts as made under
/// it, which the transaction then tells, unless that is `gone`.
pub(super) fn remember(
    table: &Table,
    device_id: &DeviceId,
    key: &IdempotencyKey,
    made: Uuid,
    now: Timestamp,
    gone: Option<Uuid>,
) -> Result<Put, StoreError> {
    let mut item = encode(&Memo { made, ttl: now.as_seconds() + IDEMPOTENCY_SECONDS })?;
    let digest = format!("key#{}", hex::encode(Sha256::digest(&key.0)));
    item.extend(table.key(&partition(device_id), &digest));
    let is_free = table.is_free();
    let put = table
        .put(item)
        .condition_expression(format!("{is_free} OR #ttl <= :now OR #made = :gone"))
        .set_expression_attribute_names(names(["ttl", "made"]))
        .set_expression_attribute_values(values([
            ("now", number(now.as_seconds())),
            ("gone", text(gone.unwrap_or(made).to_string())),
        ]))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build();
    built(put)
}

/// What was made under the key of this item.
pub(super) fn made(item: Item) -> Result<Uuid, StoreError> {
    decode::<Memo>(item).map(|memo| memo.made)
}

/// Removes some of the keys of a deleted device; whether there may be more.
pub(super) async fn sweep(table: &Table, deleted: Deleted<'_>) -> Result<bool, StoreError> {
    let (memos, removal) = deleted.remove_first_of(table, &partition(deleted.device_id)).await?;
    Ok(memos > 0 && removal != Removal::NotDeleted)
}
