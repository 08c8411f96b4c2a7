//! The fields of a device that a client sets.

use std::ops::RangeInclusive;

use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{DeviceId, new_id};
use meter_domain::time::Timestamp;
use meter_http::Problem;
use meter_http::fields::{Fields, FromFields};
use serde_json::{Map, Value};

/// The longest name, type and location, in characters.
const MAX_TEXT: usize = 255;

/// The largest `metadata`, in bytes of JSON.
const MAX_METADATA_BYTES: usize = 100 * 1024;

/// The fields that an update changes.
const UPDATABLE_FIELDS: [&str; 7] =
    ["device_name", "device_type", "location", "status", "metadata", "command_key", "claimable"];

/// The length of a `command_key` in characters. A shorter one can be guessed.
const KEY_LENGTH: RangeInclusive<usize> = 16..=128;

/// A device to register.
#[derive(Debug)]
pub(crate) struct NewDevice(pub(super) Device);

impl FromFields for NewDevice {
    fn from_fields(fields: &Fields<'_>, now: Timestamp) -> Result<Self, Problem> {
        new_device(fields, now).map(Self)
    }
}

fn new_device(fields: &Fields<'_>, now: Timestamp) -> Result<Device, Problem> {
    let device_id = fields.required_string("device_id", 0..=usize::MAX)?;
    let device_id = DeviceId::parse(device_id)
        .map_err(|invalid| fields.invalid("device_id", invalid.to_string()))?;
    Ok(Device {
        id: new_id(now),
        device_id,
        device_name: fields.required_string("device_name", 1..=MAX_TEXT)?.to_owned(),
        device_type: text(fields, "device_type")?,
        location: text(fields, "location")?,
        status: status(fields)?.unwrap_or(DeviceStatus::Active),
        metadata: metadata(fields)?,
        config: Map::new(),
        command_key: command_key(fields)?,
        claimable: fields.boolean("claimable")?.unwrap_or_default(),
        claimed_by: None,
        created_at: now,
        updated_at: now,
        revision: 0,
    })
}

/// Applies the given fields to a device; `null` removes a text.
pub(super) fn apply_update(device: &mut Device, body: &Map<String, Value>) -> Result<(), Problem> {
    let fields = Fields::new(body);
    if !UPDATABLE_FIELDS.iter().any(|name| fields.contains(name)) {
        let names = UPDATABLE_FIELDS.join(", ");
        return Err(Problem::field("body", format!("must have at least one of {names}")));
    }
    if fields.contains("device_name") {
        device.device_name = fields.required_string("device_name", 1..=MAX_TEXT)?.to_owned();
    }
    if fields.contains("device_type") {
        device.device_type = text(&fields, "device_type")?;
    }
    if fields.contains("location") {
        device.location = text(&fields, "location")?;
    }
    if fields.contains("status") {
        let none = || fields.invalid("status", "must be one of active, inactive");
        device.status = status(&fields)?.ok_or_else(none)?;
    }
    if fields.contains("metadata") {
        device.metadata = metadata(&fields)?;
    }
    if fields.contains("command_key") {
        device.command_key = command_key(&fields)?;
    }
    if fields.contains("claimable") {
        let none = || fields.invalid("claimable", "must be true or false");
        device.claimable = fields.boolean("claimable")?.ok_or_else(none)?;
    }
    Ok(())
}

fn text(fields: &Fields<'_>, name: &str) -> Result<Option<String>, Problem> {
    Ok(fields.string(name, 0..=MAX_TEXT)?.map(str::to_owned))
}

fn status(fields: &Fields<'_>) -> Result<Option<DeviceStatus>, Problem> {
    fields.one_of("status", DeviceStatus::parse, "active, inactive")
}

/// The key that commands are signed with. No response contains it.
fn command_key(fields: &Fields<'_>) -> Result<Option<String>, Problem> {
    Ok(fields.string("command_key", KEY_LENGTH)?.map(str::to_owned))
}

/// An object, or a string that contains one, as older clients send it.
fn metadata(fields: &Fields<'_>) -> Result<Map<String, Value>, Problem> {
    const NAME: &str = "metadata";
    let object = match fields.get(NAME) {
        None => Map::new(),
        Some(Value::Object(object)) => object.clone(),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Object(object)) => object,
            _ => return Err(fields.invalid(NAME, "is a string that contains no JSON object")),
        },
        Some(_) => return Err(fields.invalid(NAME, "must be an object")),
    };
    let size = Value::Object(object.clone()).to_string().len();
    if size > MAX_METADATA_BYTES {
        let reason = format!("is {size} bytes of JSON, more than {MAX_METADATA_BYTES}");
        return Err(fields.invalid(NAME, reason));
    }
    Ok(object)
}
