//! A device state as an item, and single writes of it.

use aws_sdk_dynamodb::types::{
    BatchStatementRequest, Put, ReturnValuesOnConditionCheckFailure as OnFailure, Update,
};
use meter_domain::id::DeviceId;
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::StoreError;
use serde::{Deserialize, Serialize};

use crate::dynamodb::due;
use crate::dynamodb::item::{Item, decode, encode, from_json, number, text, to_json};
use crate::dynamodb::table::{Table, checked_build, names, values};

/// The attributes of an item without its key.
const ATTRIBUTES: [&str; 7] = [
    "version",
    "registered",
    DEVICE_TYPE,
    "document",
    "v",
    due::SHARD_ATTRIBUTE,
    due::DUE_AT_ATTRIBUTE,
];
const DEVICE_TYPE: &str = "device_type";
pub(super) const KEY: &str = "device_id";

#[derive(Debug, Serialize, Deserialize)]
struct StateItem {
    device_id: DeviceId,
    version: u64,
    /// Not read by this crate; for people and tools that read items.
    registered: bool,
    /// Not part of the document, so that the transaction of the registry can change it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_type: Option<String>,
    document: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_shard: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
}

fn to_item(state: &DeviceState) -> Result<Item, StoreError> {
    encode(&StateItem {
        device_id: state.device_id.clone(),
        version: state.version + 1,
        registered: state.registered,
        device_type: state.device_type.clone(),
        document: to_json(state)?,
        due_shard: state.next_check.map(|_| due::shard(&state.device_id)),
        due_at: state.next_check.map(Timestamp::key),
    })
}

pub(in crate::dynamodb) fn from_item(item: Item) -> Result<DeviceState, StoreError> {
    let item: StateItem = decode(item)?;
    let mut state: DeviceState = from_json(item.device_id.as_str(), &item.document)?;
    state.version = item.version;
    state.device_type = item.device_type;
    Ok(state)
}

/// Updates the device type of a state. The new version makes concurrent writes of the state
/// conflict.
pub(in crate::dynamodb) fn set_device_type(
    table: &Table,
    id: &DeviceId,
    device_type: Option<&str>,
) -> Result<Update, StoreError> {
    let update = table
        .update(id.as_str(), "")
        .condition_expression(table.exists())
        .set_expression_attribute_names(names(["version", DEVICE_TYPE]))
        .expression_attribute_values(":one", number(1));
    let update = match device_type {
        Some(name) => update
            .update_expression("SET #device_type = :type ADD #version :one")
            .expression_attribute_values(":type", text(name)),
        None => update.update_expression("REMOVE #device_type ADD #version :one"),
    };
    checked_build(update.build())
}

/// Puts a state with the next version, if the stored version is the one of `state`.
pub(in crate::dynamodb) fn put(table: &Table, state: &DeviceState) -> Result<Put, StoreError> {
    let put =
        table.put(to_item(state)?).return_values_on_condition_check_failure(OnFailure::AllOld);
    let put = match state.version {
        0 => put.condition_expression(table.not_exists()),
        version => put
            .condition_expression("#version = :read")
            .set_expression_attribute_names(names(["version"]))
            .set_expression_attribute_values(values([("read", number(version))])),
    };
    checked_build(put.build())
}

/// Returns the PartiQL statement with the effect of [`put`].
pub(super) fn to_statement(
    table: &Table,
    put: &Put,
    read_version: u64,
) -> Result<BatchStatementRequest, StoreError> {
    let name = &table.name;
    let (present, absent): (Vec<&str>, Vec<&str>) =
        ATTRIBUTES.into_iter().partition(|attribute| put.item.contains_key(*attribute));
    let named = present.iter().chain([&KEY]);
    let mut parameters: Vec<_> =
        named.clone().filter_map(|name| put.item.get(*name)).cloned().collect();
    let statement = if read_version == 0 {
        let fields: Vec<_> = named.map(|attribute| format!("'{attribute}': ?")).collect();
        format!("INSERT INTO \"{name}\" VALUE {{{}}}", fields.join(", "))
    } else {
        let sets: String = present.iter().map(|name| format!(" SET \"{name}\" = ?")).collect();
        let removes: String = absent.iter().map(|name| format!(" REMOVE \"{name}\"")).collect();
        parameters.push(number(read_version));
        format!("UPDATE \"{name}\"{sets}{removes} WHERE \"{KEY}\" = ? AND \"version\" = ?")
    };
    let request = BatchStatementRequest::builder()
        .statement(statement)
        .set_parameters(Some(parameters))
        .return_values_on_condition_check_failure(OnFailure::AllOld)
        .build();
    checked_build(request)
}

/// Returns whether the stored item is the one that was to be written: an earlier attempt succeeded
/// and only its response was lost.
pub(super) fn is_written(stored: Option<&Item>, item: &Item) -> bool {
    let attributes = ["version", DEVICE_TYPE, "document"];
    stored.is_some_and(|stored| attributes.iter().all(|name| stored.get(*name) == item.get(*name)))
}
