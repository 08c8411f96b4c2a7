//! The stored configuration of a device, which accepted `update_config` commands and
//! `PUT /api/devices/{device_id}/config` change.

use axum::Json;
use axum::extract::State;
use meter_domain::device::Device;
use meter_http::extract::{DevicePath, JsonObject, ReceivedAt};
use meter_http::{ApiError, Problem};
use meter_service::report_interval;
use meter_store::{DeviceStore, Stores};
use serde_json::{Map, Value};

use crate::registry::change;
use crate::{Devices, device_not_found};

/// The largest configuration, in bytes of JSON.
const MAX_CONFIG_BYTES: usize = 100 * 1024;

/// The stored configuration.
pub(crate) async fn get<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    DevicePath(id): DevicePath,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let device = stores.devices().get(&id).await?.ok_or_else(device_not_found)?;
    Ok(Json(device.config))
}

/// Merges the body into the stored configuration, key by key. The device gets no command.
pub(crate) async fn put<S: Stores>(
    State(Devices { stores, policy, .. }): State<Devices<S>>,
    DevicePath(id): DevicePath,
    ReceivedAt(now): ReceivedAt,
    JsonObject(body): JsonObject,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let merge = |device: &mut Device| merge(&mut device.config, &body);
    let device = change(stores.devices(), &id, now, merge).await?;
    report_interval::sync(&stores, &id, now, &policy).await?;
    Ok(Json(device.config))
}

/// Removes the keys whose value is `null`, as in RFC 7396, and replaces the values of all others.
fn merge(config: &mut Map<String, Value>, change: &Map<String, Value>) -> Result<(), Problem> {
    for (key, value) in change {
        if value.is_null() {
            config.remove(key);
        } else {
            config.insert(key.clone(), value.clone());
        }
    }
    let size = Value::Object(config.clone()).to_string().len();
    if size > MAX_CONFIG_BYTES {
        let reason = format!("makes a configuration of {size} bytes, more than {MAX_CONFIG_BYTES}");
        return Err(Problem::field("body", reason));
    }
    Ok(())
}
