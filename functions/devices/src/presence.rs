//! Whether a device is there: its heartbeat over HTTP, and an operator's word.

use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DevicePolicy, DeviceState};
use meter_http::body::{self, Fields};
use meter_http::{ApiError, Request, Response};
use meter_service::{effects, optimistic_update};
use meter_store::{DeviceStore, StateStore, Stores};
use serde_json::json;

use crate::registry::View;
use crate::{device_not_found, require_device_id};

/// The longest `fw_version`, in characters.
const MAX_FW_VERSION: usize = 64;

/// A sign of life over HTTP.
pub(crate) async fn heartbeat<S: Stores>(
    stores: &S,
    policy: &DevicePolicy,
    request: &Request,
) -> Result<Response, ApiError> {
    let id = require_device_id(request)?;
    require_registered(stores.states(), &id).await?;
    let hear = |state: &mut DeviceState| state.record_activity(request.now, policy);
    let state = optimistic_update::update_state(stores.states(), &id, hear).await?;
    effects::dispatch_due_effects(stores, state, request.now, policy).await?;
    Response::ok(&json!({"message": "Heartbeat received"}))
}

/// Whether a device is connected.
pub(crate) async fn get<S: StateStore>(
    states: &S,
    request: &Request,
) -> Result<Response, ApiError> {
    let id = require_device_id(request)?;
    let state = require_registered(states, &id).await?;
    Response::ok(&json!({
        "device_id": id,
        "connection_status": state.presence.connection,
        "last_seen": state.presence.last_seen,
        "fw_version": state.fw_version,
    }))
}

/// An operator's word on whether a device is connected, and on its firmware.
pub(crate) async fn put<S: Stores>(
    stores: &S,
    policy: &DevicePolicy,
    request: &Request,
) -> Result<Response, ApiError> {
    const NAME: &str = "connection_status";
    let id = require_device_id(request)?;
    let body = body::parse_object(request)?;
    let fields = Fields::new(&body);
    let connection = fields
        .one_of(NAME, Connection::parse, "online, offline, unknown")?
        .ok_or_else(|| fields.invalid(NAME, "is missing"))?;
    let fw_version = fields.string("fw_version", 1..=MAX_FW_VERSION)?;
    let device = stores.devices().get(&id).await?.ok_or_else(device_not_found)?;
    let state = optimistic_update::update_state(stores.states(), &id, |state| {
        state.override_connection(connection, fw_version.map(str::to_owned), request.now, policy);
    })
    .await?;
    let response = Response::ok(&View::new(device, Some(&state)))?.with_etag();
    effects::dispatch_due_effects(stores, state, request.now, policy).await?;
    Ok(response)
}

/// The state of a registered device, which says itself whether it is registered: one read.
async fn require_registered<S: StateStore>(
    states: &S,
    id: &DeviceId,
) -> Result<DeviceState, ApiError> {
    let state = optimistic_update::read_state(states, id).await?;
    match state.registered {
        true => Ok(state),
        false => Err(device_not_found().into()),
    }
}
