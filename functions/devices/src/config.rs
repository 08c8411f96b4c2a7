//! The configuration in force: what accepted `update_config` commands and `PUT …/config` made it.

use meter_domain::state::DevicePolicy;
use meter_http::body;
use meter_http::{ApiError, Problem, Request, Response};
use meter_service::report_interval;
use meter_store::{DeviceStore, Stores};
use serde_json::{Map, Value};

use crate::registry::change;
use crate::{device_not_found, require_device_id};

/// The largest configuration, in bytes of JSON.
const MAX_CONFIG_BYTES: usize = 100 * 1024;

/// The stored configuration.
pub(crate) async fn get<D: DeviceStore>(
    registry: &D,
    request: &Request,
) -> Result<Response, ApiError> {
    let id = require_device_id(request)?;
    let device = registry.get(&id).await?.ok_or_else(device_not_found)?;
    Response::ok(&device.config)
}

/// Merges into the stored configuration, key by key; sends no command.
pub(crate) async fn put<S: Stores>(
    stores: &S,
    policy: &DevicePolicy,
    request: &Request,
) -> Result<Response, ApiError> {
    let id = require_device_id(request)?;
    let body = body::parse_object(request)?;
    let device =
        change(stores.devices(), &id, request.now, |device| merge(&mut device.config, &body))
            .await?;
    report_interval::sync(stores, &id, request.now, policy).await?;
    Response::ok(&device.config)
}

/// `null` takes a key away, as in RFC 7396; other values replace what was there, whole.
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
