//! The configuration in force: what accepted `update_config` commands and `PUT …/config` made it.

use meter_domain::state::Rules;
use meter_http::body;
use meter_http::{Answer, Failure, Problem, Request};
use meter_service::reporting;
use meter_store::{DeviceStore, StateStore};
use serde_json::{Map, Value};

use crate::registry::change;
use crate::{known, no_device};

/// The largest configuration, in bytes of JSON.
const MAX_CONFIG_BYTES: usize = 100 * 1024;

/// The stored configuration.
pub(crate) async fn get<D: DeviceStore>(
    registry: &D,
    request: &Request,
) -> Result<Answer, Failure> {
    let id = known(request)?;
    let device = registry.get(&id).await?.ok_or_else(no_device)?;
    Answer::ok(&device.config)
}

/// Merges into the stored configuration, key by key; sends no command.
pub(crate) async fn put<D, S>(
    registry: &D,
    states: &S,
    rules: &Rules,
    request: &Request,
) -> Result<Answer, Failure>
where
    D: DeviceStore,
    S: StateStore,
{
    let id = known(request)?;
    let body = body::object(request)?;
    let device =
        change(registry, &id, request.now, |device| merge(&mut device.config, &body)).await?;
    reporting::follow(states, registry, &id, request.now, rules).await?;
    Answer::ok(&device.config)
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
