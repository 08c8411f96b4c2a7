//! A device as an item, and conditional writes of it.

use std::ops::Not;

use aws_sdk_dynamodb::types::{Put, Update};
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{CertificateId, DeviceId};
use meter_domain::time::Timestamp;
use meter_store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::dynamodb::item::{Item, decode, encode, from_json, number, text, to_json};
use crate::dynamodb::table::{Table, checked_build, names, values};

// Not Debug: `command_key` is a secret.
#[derive(Serialize, Deserialize)]
struct DeviceItem {
    device_id: DeviceId,
    shard: String,
    id: Uuid,
    device_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    status: DeviceStatus,
    metadata: String,
    config: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command_key: Option<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    claimable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claimed_by: Option<CertificateId>,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Tombstone<'a> {
    pub(super) device_id: &'a DeviceId,
    pub(super) deleted_at: Timestamp,
}

pub(super) fn to_item(device: &Device) -> Result<Item, StoreError> {
    encode(&DeviceItem {
        device_id: device.device_id.clone(),
        shard: device.device_id.shard().to_string(),
        id: device.id,
        device_name: device.device_name.clone(),
        device_type: device.device_type.clone(),
        location: device.location.clone(),
        status: device.status,
        metadata: to_json(&device.metadata)?,
        config: to_json(&device.config)?,
        command_key: device.command_key.clone(),
        claimable: device.claimable,
        claimed_by: device.claimed_by.clone(),
        created_at: device.created_at,
        updated_at: device.updated_at,
        revision: device.revision,
    })
}

pub(super) fn from_item(item: Item) -> Result<Device, StoreError> {
    let item: DeviceItem = decode(item)?;
    let object = |json: &str| from_json::<Map<String, Value>>(item.device_id.as_str(), json);
    Ok(Device {
        metadata: object(&item.metadata)?,
        config: object(&item.config)?,
        id: item.id,
        device_id: item.device_id,
        device_name: item.device_name,
        device_type: item.device_type,
        location: item.location,
        status: item.status,
        command_key: item.command_key,
        claimable: item.claimable,
        claimed_by: item.claimed_by,
        created_at: item.created_at,
        updated_at: item.updated_at,
        revision: item.revision,
    })
}

/// Replaces a device by an item, if the stored registration and revision are those that were read.
pub(super) fn replace(table: &Table, read: &Device, item: Item) -> Result<Put, StoreError> {
    let put = table
        .put(item)
        .condition_expression("#id = :id AND #revision = :revision")
        .set_expression_attribute_names(names(["id", "revision"]))
        .set_expression_attribute_values(values([
            ("id", text(read.id.to_string())),
            ("revision", number(read.revision)),
        ]));
    checked_build(put.build())
}

/// Updates the accepted configuration, if the stored registration and revision are those that were
/// read.
///
/// An update instead of a put: functions that only configure devices have no permission to put
/// items.
pub(in crate::dynamodb) fn configure(
    table: &Table,
    read: &Device,
    config: &Map<String, Value>,
    at: Timestamp,
) -> Result<Update, StoreError> {
    let update = table
        .update(read.device_id.as_str(), "")
        .update_expression("SET #config = :config, #updated_at = :at, #revision = :next")
        .condition_expression("#id = :id AND #revision = :revision")
        .set_expression_attribute_names(names(["id", "revision", "config", "updated_at"]))
        .set_expression_attribute_values(values([
            ("id", text(read.id.to_string())),
            ("revision", number(read.revision)),
            ("next", number(read.revision + 1)),
            ("config", text(to_json(config)?)),
            ("at", text(at.to_string())),
        ]));
    checked_build(update.build())
}
